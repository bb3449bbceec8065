"""Shards of a few real samples, before anything is done to them, and where each sample's bytes are."""

import io
import json
import tarfile
from dataclasses import dataclass, field
from functools import cache
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.archives import member_bytes
from tests.samples import SAMPLE

BLOCK = 512
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


@dataclass(frozen=True)
class Sample:
    key: str
    image: bytes
    caption: bytes
    original: bytes
    """The metadata object."""


@dataclass(frozen=True)
class Member:
    name: str
    content: bytes
    records: dict[str, str] = field(default_factory=dict)
    """PAX records."""
    type: bytes = tarfile.REGTYPE


@cache
def sample() -> tuple[Sample, ...]:
    """Every pair of the bundled sample, damaged ones included."""
    found = []
    for path in sorted(SAMPLE.glob("*.tar")):
        with tarfile.open(path) as archive:
            contents = {one.name: member_bytes(archive, one) for one in archive}
        keys = [name.removesuffix(".jpg") for name in contents if name.endswith(".jpg")]
        found += [Sample(key, *(contents[f"{key}.{end}"] for end in ("jpg", "txt", "json"))) for key in keys]
    return tuple(found)


def chosen(rng: Random) -> list[Sample]:
    """Some samples; now and then under keys that need extended headers, or in folders."""
    some = rng.sample(sample(), rng.randint(4, 16))
    style = rng.choice(["plain"] * 6 + ["long", "folder"])
    prefix = {"plain": "", "long": "é" * 120, "folder": "part 1/a.b/"}[style]
    return [Sample(prefix + one.key, one.image, one.caption, one.original) for one in some]


def members_of(samples: list[Sample]) -> list[Member]:
    return [
        Member(f"{one.key}.{end}", content)
        for one in samples for end, content in (("jpg", one.image), ("json", one.original), ("txt", one.caption))
    ]


def tar_of(members: list[Member], form: int) -> bytes:
    buffer = io.BytesIO()
    if any(member.records for member in members):
        form = tarfile.PAX_FORMAT
    elif form == tarfile.USTAR_FORMAT and any(len(member.name) > 90 for member in members):
        form = tarfile.GNU_FORMAT
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.size, info.type, info.pax_headers = len(member.content), member.type, dict(member.records)
            archive.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


def regions(archive: bytes) -> dict[str, list[bytes]]:
    """By key, the bytes of each of its members: extended headers, header, content, padding."""
    found: dict[str, list[bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for info in opened:
            stop = info.offset_data + -(-info.size // BLOCK) * BLOCK
            found.setdefault(info.name.rpartition(".")[0], []).append(archive[info.offset : stop])
    return found


def starts(archive: bytes) -> list[int]:
    """Where the members begin."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [info.offset for info in opened]


def parquet_of(samples: list[Sample], rng: Random) -> tuple[bytes, list[tuple[int, int, list[Sample]]], int]:
    """The file, [start, stop) and samples of each row group, and where the data end. Pages carry checksums."""
    facts = [json.loads(one.original) for one in samples]
    table = pa.table({
        "key": [one.key for one in samples], "image": [one.image for one in samples],
        "caption": [one.caption.decode() for one in samples], "original_width": [fact.get("original_width") for fact in facts],
        "tags": [[one.key, "x"] for one in samples], "when": pa.array([7] * len(samples), pa.timestamp("us")),
    })
    buffer = io.BytesIO()
    size = rng.randint(2, len(samples))
    pq.write_table(table, buffer, row_group_size=size, compression=rng.choice(["none", "snappy", "zstd"]),
                   use_dictionary=rng.random() < 0.5, write_page_checksum=True, data_page_size=rng.choice([1_000, 1 << 20]))
    metadata = pq.read_metadata(buffer)
    groups, row, start = [], 0, 4
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(i) for i in range(group.num_columns)]
        stop = max(_begin(chunk) + chunk.total_compressed_size for chunk in chunks)
        groups.append((start, stop, samples[row : row + group.num_rows]))
        row, start = row + group.num_rows, stop
    return buffer.getvalue(), groups, start


def _begin(chunk: pq.ColumnChunkMetaData) -> int:
    return chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
