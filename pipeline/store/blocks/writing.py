"""A block is written from parts, some shards each, that come one after another: the vectors first, then the table, whose existence
says that all is there."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store.blocks.index import FOOTER
from pipeline.store.store import Store
from pipeline.vectors import Halves

GROUP_ROWS = 1024
"""A row group takes whole shards until it has so many rows: what is read for one shard, where shards are small."""


class Said(NamedTuple):
    """What is said of one shard of a block."""

    shard_id: str
    rows: int
    facts: Mapping[str, Any]
    """What its own footer says."""


@dataclass(frozen=True)
class Part:
    """Some shards of a block, one after another."""

    shards: tuple[Said, ...]
    table: Callable[[], pa.Table]
    """The rows of them all."""
    vectors: Mapping[str, Callable[[], Halves]] = field(default_factory=dict)
    """float16 [rows, d], by column."""


def part_of(shards: Sequence[Said], table: pa.Table, vectors: Mapping[str, Halves]) -> Part:
    """Shards of a block, as they are in memory."""
    return Part(tuple(shards), lambda: table, {name: partial(np.asarray, matrix) for name, matrix in vectors.items()})


def block_name(shard_ids: Sequence[str]) -> str:
    """The name of the block of these shards in this order."""
    return f"block-{hashlib.sha256(json.dumps(list(shard_ids)).encode()).hexdigest()[:12]}"


def write_block(store: Store, folder: str, parts: Sequence[Part]) -> str:
    """Writes the block of these shards and returns its name. How they come in parts changes no byte. Raises OutputError, and what
    the parts raise."""
    shards = [shard for part in parts for shard in part.shards]
    name, rows = block_name([shard.shard_id for shard in shards]), sum(shard.rows for shard in shards)
    hashes = {f"{name}.{vector}.npy": _write_vectors(store, f"{folder}/{name}.{vector}.npy", vector, rows, parts)
              for vector in parts[0].vectors}
    facts = {"shards": [shard._asdict() for shard in shards], "rows": rows, "files": hashes}
    tables = (part.table() for part in parts)
    first = next(tables)
    schema = first.schema.with_metadata({FOOTER: json.dumps(facts, sort_keys=True).encode()})
    with store.create(f"{folder}/{name}.parquet") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in _cut((table.cast(schema) for table in chain([first], tables)), _group_sizes(shards)):
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    return name


def _group_sizes(shards: Sequence[Said]) -> list[int]:
    """Rows of each row group: no shard is in two."""
    sizes: list[int] = []
    for shard in shards:
        if not sizes or sizes[-1] + shard.rows > GROUP_ROWS:
            sizes.append(0)
        sizes[-1] += shard.rows
    return sizes


def _cut(tables: Iterator[pa.Table], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of the tables, so many at a time, each time as one."""
    held = [next(tables)]
    for size in sizes:
        while sum(table.num_rows for table in held) < size:
            held.append(next(tables))
        whole = pa.concat_tables(held)
        yield whole.slice(0, size).combine_chunks()
        held = [whole.slice(size)]


def _write_vectors(store: Store, path: str, vector: str, rows: int, parts: Sequence[Part]) -> str:
    """Writes the vectors of all parts as one .npy file, a part at a time; its SHA-256."""
    head, digest = io.BytesIO(), hashlib.sha256()
    shape = (rows, parts[0].vectors[vector]().shape[1])
    np.lib.format.write_array_header_1_0(head, {"descr": "<f2", "fortran_order": False, "shape": shape})
    with store.create(path) as file:
        for content in chain([head.getvalue()], (np.asarray(part.vectors[vector]()).tobytes() for part in parts)):
            digest.update(content)
            file.write(content)
    return digest.hexdigest()


class Gathered:
    """What several shards write, by folder, in the order in which each folder was first written to."""

    def __init__(self) -> None:
        self.folders: dict[tuple[str, str], list[Part]] = {}

    def add(self, store: Store, folder: str, part: Part) -> None:
        """Takes the files of some shards."""
        self.folders.setdefault((store.url, folder), []).append(part)


_gathered: ContextVar[Gathered | None] = ContextVar("gathered", default=None)


def gathering() -> Gathered | None:
    """Where this thread's files of shards go; None where each is written as it comes."""
    return _gathered.get()


@contextmanager
def as_blocks() -> Iterator[None]:
    """What this thread writes meanwhile as files of shards becomes one block for each folder at the end; nothing is written where
    that end is an error."""
    gathered = Gathered()
    token = _gathered.set(gathered)
    try:
        yield
    finally:
        _gathered.reset(token)
    for (url, folder), parts in gathered.folders.items():
        write_block(Store(url), folder, parts)
