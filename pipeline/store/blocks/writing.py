"""A block is written from parts, one shard each, that come one after another: the vectors first, then the table, whose existence
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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store.blocks.index import FOOTER
from pipeline.store.store import Store
from pipeline.vectors import Halves

GROUP_ROWS = 1024
"""A row group takes whole shards until it has so many rows: what is read for one shard, where shards are small."""


@dataclass(frozen=True)
class Part:
    """One shard of a block."""

    shard_id: str
    rows: int
    facts: Mapping[str, Any]
    """What its own footer says."""
    table: Callable[[], pa.Table]
    vectors: Mapping[str, Callable[[], Halves]] = field(default_factory=dict)
    """float16 [rows, d], by column."""


def part_of(shard_id: str, table: pa.Table, facts: Mapping[str, Any], vectors: Mapping[str, Halves]) -> Part:
    """A shard of a block, as it is in memory."""
    return Part(shard_id, table.num_rows, facts, lambda: table, {name: partial(np.asarray, m) for name, m in vectors.items()})


def block_name(shard_ids: Sequence[str]) -> str:
    """The name of the block of these shards in this order."""
    return f"block-{hashlib.sha256(json.dumps(list(shard_ids)).encode()).hexdigest()[:12]}"


def write_block(store: Store, folder: str, parts: Sequence[Part]) -> str:
    """Writes the block of these shards and returns its name. Raises OutputError, and what the parts raise."""
    name = block_name([part.shard_id for part in parts])
    hashes = {f"{name}.{vector}.npy": _write_vectors(store, f"{folder}/{name}.{vector}.npy", vector, parts)
              for vector in parts[0].vectors}
    shards = [{"shard_id": part.shard_id, "rows": part.rows, "facts": part.facts} for part in parts]
    facts = {"shards": shards, "rows": sum(part.rows for part in parts), "files": hashes}
    schema = parts[0].table().schema.with_metadata({FOOTER: json.dumps(facts, sort_keys=True).encode()})
    with store.create(f"{folder}/{name}.parquet") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(parts):
            table = pa.concat_tables([part.table().cast(schema) for part in group]).combine_chunks()
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    return name


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    group: list[Part] = []
    rows = 0
    for part in parts:
        if group and rows + part.rows > GROUP_ROWS:
            yield group
            group, rows = [], 0
        group.append(part)
        rows += part.rows
    yield group


def _write_vectors(store: Store, path: str, vector: str, parts: Sequence[Part]) -> str:
    """Writes the vectors of all parts as one .npy file, a part at a time; its SHA-256."""
    head, digest = io.BytesIO(), hashlib.sha256()
    shape = (sum(part.rows for part in parts), parts[0].vectors[vector]().shape[1])
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
        """Takes one shard's file."""
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
