"""Which block of a folder a shard is in, from which row on, and what was said of it."""

import io
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import RootError
from pipeline.store.remote.parquet import remote_metadata
from pipeline.store.store import Store

INDEX = "blocks.index"
"""A parquet file, but for its name: who reads `*.parquet` of a folder reads columns alone."""
BLOCK = re.compile(r"(block-[0-9a-f]{12})\.(.+\.npy|parquet)")
"""The files of a block. No shard has such a name: that of a shard ends with eight hex digits after a dash."""
FOOTER = b"shardmill"
SCHEMA = pa.schema({"shard_id": pa.string(), "block": pa.string(), "first": pa.int64(), "rows": pa.int64(), "facts": pa.string()})


class Place(NamedTuple):
    """Where a shard is."""

    block: str
    """The name of its files, without what comes after the first dot."""
    first: int
    """Row of the block that is the shard's first."""
    rows: int


class Entry(NamedTuple):
    """One row of the index."""

    shard_id: str
    place: Place
    facts: str
    """JSON: what the footer of the shard's own file said."""


class Index:
    """The whole blocks of a folder: those of its index, and those that it does not know yet. Look-ups hold some 200 bytes a shard;
    what was said of the shards is read once somebody asks for it."""

    def __init__(self, store: Store, folder: str, before: "Index | None" = None) -> None:
        """As the folder is now. `before`: what this one has read of footers is not read again; from a moment ago, and nobody has
        removed a block since."""
        self._store, self._folder = store, folder
        names = store.names(folder)
        self._whole = blocks_among(names)
        table = self._read(SCHEMA.names[:-1]) if INDEX in names else SCHEMA.empty_table().select(SCHEMA.names[:-1])
        new = self._whole - set(table.column("block").unique().to_pylist())
        read = SCHEMA.empty_table() if before is None else _of_blocks(before._new, new)
        unread = new - set(read.column("block").unique().to_pylist())
        entries = (entry for block in sorted(unread) for entry in entries_of(store, folder, block))
        self._new: pa.Table = pa.concat_tables([read, table_of_entries(entries)])
        table = pa.concat_tables([table, self._new.select(SCHEMA.names[:-1])])
        self._order = np.argsort(np.array(table.column("shard_id").to_pylist(), np.str_), kind="stable")
        table = table.take(self._order)
        self.ids: NDArray[np.str_] = np.array(table.column("shard_id").to_pylist(), np.str_)
        """Sorted."""
        blocks = table.column("block").combine_chunks().dictionary_encode()
        self.blocks: list[str] = blocks.dictionary.to_pylist()
        self._block = np.asarray(blocks.indices, np.int32)
        self._first, self._rows = (np.asarray(table.column(name), np.int64) for name in ("first", "rows"))

    def _read(self, columns: list[str]) -> pa.Table:
        """Of the shards whose block is there. Raises RootError for a file that is no index."""
        path = f"{self._folder}/{INDEX}"
        try:
            table = pq.ParquetFile(io.BytesIO(self._store.read(path))).read([*columns, "block"], use_threads=False)
            return _of_blocks(table, self._whole).select(columns)
        except (pa.ArrowException, KeyError) as error:
            raise RootError(f"{self._store.url}/{path} is no index of blocks ({error}): remove it and run again") from error

    @cached_property
    def _facts(self) -> pa.ChunkedArray:
        stored = self._read(["facts"]) if len(self._order) > self._new.num_rows else SCHEMA.empty_table().select(["facts"])
        return pa.concat_tables([stored, self._new.select(["facts"])]).column("facts").take(self._order)

    @property
    def complete(self) -> bool:
        """Whether the index file says all of it."""
        return not self._new.num_rows

    def _row(self, shard_id: str) -> int | None:
        at = int(np.searchsorted(self.ids, shard_id))
        return at if at < len(self.ids) and self.ids[at] == shard_id else None

    def stretches(self, shard_ids: Sequence[str]) -> Iterator[tuple[Place | None, Sequence[str]]]:
        """The shards in order, neighbours together that follow each other in a block; None for one that is in no block."""
        rows = self._among(shard_ids)
        if not len(rows) or not len(self.ids):
            yield from ((None, [shard_id]) for shard_id in shard_ids)
            return
        block, first, count = self._block[rows], self._first[rows], self._rows[rows]
        follows = (rows[1:] >= 0) & (rows[:-1] >= 0) & (block[1:] == block[:-1]) & (first[1:] == first[:-1] + count[:-1])
        for start, end in pairwise([0, *(np.flatnonzero(~follows) + 1).tolist(), len(rows)]):
            there = rows[start] >= 0
            place = Place(self.blocks[block[start]], int(first[start]), int(count[start:end].sum())) if there else None
            yield place, shard_ids[start:end]

    def _among(self, shard_ids: Sequence[str]) -> NDArray[np.int64]:
        """Their rows of the index, -1 for those that are in no block."""
        at = np.searchsorted(self.ids, np.array(shard_ids, np.str_))
        found = at < len(self.ids)
        found[found] = self.ids[at[found]] == np.array(shard_ids, np.str_)[found]
        return np.where(found, at, -1)

    def told(self, shard_ids: Sequence[str]) -> list[dict[str, Any]]:
        """`facts` of each of these, which are all in blocks."""
        return [json.loads(facts) for facts in self._facts.take(pa.array(self._among(shard_ids))).to_pylist()]

    def counts(self, shard_ids: Sequence[str]) -> list[int]:
        """Rows of each of these, which are all in blocks."""
        counts: list[int] = self._rows[self._among(shard_ids)].tolist()
        return counts

    def place(self, shard_id: str) -> Place | None:
        """None for a shard that is in no block."""
        row = self._row(shard_id)
        return None if row is None else Place(self.blocks[self._block[row]], int(self._first[row]), int(self._rows[row]))

    def facts(self, shard_id: str) -> dict[str, Any] | None:
        """What was said of a shard; None as above."""
        row = self._row(shard_id)
        return None if row is None else dict(json.loads(self._facts[row].as_py()))

    def entries(self) -> Iterator[Entry]:
        """All of it, sorted by shard."""
        for row, shard_id in enumerate(self.ids.tolist()):
            place = Place(self.blocks[self._block[row]], int(self._first[row]), int(self._rows[row]))
            yield Entry(shard_id, place, self._facts[row].as_py())

    def shards_by_block(self) -> dict[str, list[str]]:
        """The shards of each block, sorted."""
        found: dict[str, list[str]] = {block: [] for block in self.blocks}
        for shard_id, block in zip(self.ids.tolist(), self._block.tolist(), strict=True):
            found[self.blocks[block]].append(shard_id)
        return found


def _of_blocks(table: pa.Table, blocks: AbstractSet[str]) -> pa.Table:
    return table.filter(pc.is_in(table.column("block"), pa.array(blocks, pa.string())))


_known: dict[tuple[str, str], Index] = {}
_lock = threading.Lock()


def known_index(store: Store, folder: str) -> Index | None:
    """The index of a folder, if this process has read it."""
    return _known.get((store.url, folder))


def fresh_index(store: Store, folder: str, before: Index | None = None) -> Index:
    """The index of a folder as it is now; without a row where there is none. `before`: as in `Index`. Raises RootError, or
    OutputError where the store does not answer."""
    index = Index(store, folder, before)
    with _lock:
        while len(_known) >= FOLDERS:
            _known.pop(next(iter(_known)))
        _known[store.url, folder] = index
    return index


def index_of(store: Store, folder: str) -> Index:
    """The index that is known of a folder, else as it is now."""
    return known_index(store, folder) or fresh_index(store, folder)


FOLDERS = 64
"""Indexes that a process holds: a root has some ten folders with blocks."""


def forget_indexes(store: Store, folder: str | None = None) -> None:
    """The next look-up reads the index of this folder of a store anew, or those of all its folders."""
    with _lock:
        for url, known in list(_known):
            if url == store.url and folder in (None, known):
                del _known[url, known]


def write_index(store: Store, folder: str, entries: Iterable[Entry]) -> None:
    """Makes or replaces the index of a folder; where there is no entry, there is none. The same entries give the same bytes."""
    table = table_of_entries(entries)
    if table.num_rows:
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        store.write(f"{folder}/{INDEX}", content.getvalue())
    else:
        store.remove(f"{folder}/{INDEX}")
    forget_indexes(store, folder)


def table_of_entries(entries: Iterable[Entry]) -> pa.Table:
    """SCHEMA, sorted by shard."""
    rows = sorted(entries)
    columns = [[e.shard_id for e in rows], *([e.place[i] for e in rows] for i in range(3)), [e.facts for e in rows]]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def blocks_among(names: Iterable[str]) -> set[str]:
    """The blocks that are whole among the names of a folder's files: their parquet is written last."""
    matches = (BLOCK.fullmatch(name) for name in names if name.endswith(".parquet"))
    return {match[1] for match in matches if match}


def block_of(name: str) -> str | None:
    """The block that a file is of; None for any other file."""
    match = BLOCK.fullmatch(name)
    return match[1] if match else None


def blocks_with(store: Store, folder: str, names: Iterable[str], shard_ids: AbstractSet[str]) -> set[str]:
    """The blocks, among the names of a folder's files, that have any of these shards."""
    if not blocks_among(names):
        return set()
    by_block = fresh_index(store, folder).shards_by_block()
    return {block for block, shards in by_block.items() if not shard_ids.isdisjoint(shards)}


def entries_of(store: Store, folder: str, block: str) -> list[Entry]:
    """What the footer of a block says of its shards."""
    entries, first = [], 0
    for shard in footer_of(store, f"{folder}/{block}.parquet")["shards"]:
        entries.append(Entry(shard["shard_id"], Place(block, first, shard["rows"]), json.dumps(shard["facts"], sort_keys=True)))
        first += shard["rows"]
    return entries


def footer_of(store: Store, path: str) -> Mapping[str, Any]:
    """`shards`, `rows` and `files` of a block."""
    stored: dict[str, Any] = json.loads((metadata_of(store, path).metadata or {}).get(FOOTER, b"{}"))
    return stored


def metadata_of(store: Store, path: str) -> pq.FileMetaData:
    """What the end of a block says; no row of it is read. Raises FileNotFoundError."""
    if store.by_ranges:
        return remote_metadata(store, path)
    with store.open(path) as file:
        return pq.read_metadata(file)
