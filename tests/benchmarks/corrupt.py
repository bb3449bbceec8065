"""The annotate pass over shards with 1 % corrupt samples against the same shards without, on Ray actors, interleaved.

A corrupt sample keeps its place, so both sides read as many samples. What is compared is embedded pairs per second: the
corrupt ones count for nothing, whatever time they take.
"""

import io
import tarfile
import tempfile
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from tests.benchmarks.end_to_end import Pass, Size, annotate_pass
from tests.benchmarks.figures import Figure, median, ratio
from tests.benchmarks.replicas import Members, whole

SHARE, SEED, BOUND = 0.01, 0, 0.95
BOMB = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00\x5c\x1b\xd9\x9e"
"""A PNG header of 3.6 gigapixels."""
KINDS = (
    "cut in half", "cut in the header", "no bytes", "a web page", "zeros", "wrong first bytes", "pixel bomb", "no image member",
    "no caption", "broken JSON", "one byte changed",
)


def spoiled(members: Members, kind: str, rng: np.random.Generator) -> Members:
    """A copy of the sample with this damage."""
    image = members["jpg"]
    at = int(rng.integers(200, len(image) - 2))
    images = {
        "cut in half": image[: len(image) // 2], "cut in the header": image[:40], "no bytes": b"",
        "a web page": b"<!DOCTYPE html><html>not found</html>" * 20, "zeros": bytes(len(image)),
        "wrong first bytes": b"XX" + image[2:], "pixel bomb": BOMB + bytes(2000),
        "one byte changed": image[:at] + bytes([image[at] ^ 0x55]) + image[at + 1 :],
    }
    if kind in images:
        return {**members, "jpg": images[kind]}
    if kind == "broken JSON":
        return {**members, "json": b'{"a": ' * 3000}
    gone = {"no image member": "jpg", "no caption": "txt"}[kind]
    return {extension: content for extension, content in members.items() if extension != gone}


def write_pair(folder: Path, size: Size, seed: int = SEED) -> Counter[str]:
    """The same shards twice, below `clean` and `corrupt`, and a clean one to warm up on in each; how many of each damage."""
    rng, damage = np.random.default_rng(seed), Counter[str]()
    sources, kinds = cycle(whole()), cycle(KINDS)
    for number in range(size.shards):
        clean = list(islice(sources, size.rows))
        corrupt = list(clean)
        for row in np.flatnonzero(rng.random(size.rows) < SHARE):
            kind = next(kinds)
            corrupt[row] = spoiled(clean[row], kind, rng)
            damage[kind] += 1
        for name, rows in (("clean", clean), ("corrupt", corrupt)):
            write_tar(folder / name / "shards" / f"{number:05d}.tar", rows)
    for name in ("clean", "corrupt"):
        write_tar(folder / name / "warm" / "00000.tar", list(whole()[: size.warm]))
    return damage


def write_tar(path: Path, rows: list[Members]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for row, members in enumerate(rows):
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{row:09d}.{extension}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def measure(size: Size, rounds: int) -> list[Figure]:
    """Needs a Ray of end_to_end.WORKERS CPUs."""
    passes: dict[str, list[Pass]] = {"corrupt": [], "clean": []}
    with tempfile.TemporaryDirectory() as name:
        damage = write_pair(Path(name), size)
        for number in range(rounds):
            for side in sorted(passes, reverse=bool(number % 2)):   # who goes first alternates: a machine warms up, or tires
                passes[side].append(annotate_pass(Path(name) / side, (), size))
    rows, spoilt = size.shards * size.rows, sum(damage.values())
    corrupt, clean = ([one.rate for one in passes[side]] for side in ("corrupt", "clean"))
    corrupt_cpu, clean_cpu = ([one.cpu for one in passes[side]] for side in ("corrupt", "clean"))
    return [
        ratio(f"with {SHARE:.0%} corrupt / without, {rows:,} rows", corrupt, clean, BOUND),
        ratio("the same by processor time (waiting does not count)", clean_cpu, corrupt_cpu, None),
        Figure("corrupt samples, in all", spoilt, f"of {len(damage)} kinds"),
        Figure("with corrupt samples", median(corrupt), "images/s", rounds=tuple(corrupt)),
        Figure("without", median(clean), "images/s", rounds=tuple(clean)),
        Figure("with corrupt samples, processor time", median(corrupt_cpu), "us/image", rounds=tuple(corrupt_cpu)),
        Figure("without, processor time", median(clean_cpu), "us/image", rounds=tuple(clean_cpu)),
    ]
