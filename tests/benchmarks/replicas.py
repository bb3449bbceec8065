"""The bundled sample, several times over, as shards of any size; and its readable pictures in memory."""

import io
import tarfile
from functools import cache
from itertools import cycle, islice
from pathlib import Path

from pipeline.errors import SampleFailure
from pipeline.models.pixels.decoding import Decoded, decode

SAMPLE = Path(__file__).parents[2] / "pipeline" / "assets" / "sample"

Members = dict[str, bytes]
"""Extension -> content of one sample."""


@cache
def samples() -> tuple[Members, ...]:
    """Every sample of the bundled shards, damaged ones too, in shard order."""
    found: dict[str, Members] = {}
    for path in sorted(SAMPLE.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, extension = member.name.partition(".")
                file = archive.extractfile(member)
                if file is not None:
                    found.setdefault(key, {})[extension] = file.read()
    return tuple(found.values())


def write_shards(folder: Path, shards: int, rows: int) -> None:
    """So many tars of so many rows, going round the sample."""
    folder.mkdir(parents=True)
    rounds = cycle(samples())
    for number in range(shards):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for row, members in enumerate(islice(rounds, rows)):
                for extension, content in members.items():
                    info = tarfile.TarInfo(f"{number:05d}{row:06d}.{extension}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def decoded(data: bytes) -> Decoded:
    return decode(data, allowed_formats=("jpeg",), max_pixels=89_478_485)


@cache
def whole() -> tuple[Members, ...]:
    """The bundled samples that get an embedding."""
    found = []
    for members in samples():
        try:
            decoded(members.get("jpg", b""))
        except SampleFailure:
            continue
        if "txt" in members:
            found.append(members)
    return tuple(found)


def readable() -> tuple[tuple[bytes, str], ...]:
    """(image bytes, caption) of the samples that get an embedding."""
    return tuple((members["jpg"], members["txt"].decode()) for members in whole())
