"""Vectors to their lists, and lists to the file of an index: by the run's shuffle, so that neither workers nor kills change a byte.

First the shards, group by group: each vector gets its list and code. Then the lists, range by range: what came from all groups,
and from the index that this one goes on from, by list and id. Last, one process writes these ranges one after another: it holds
one. A graph cannot be put together so, for where a vertex is linked follows from all that were there before: one thread makes it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.driver import Driver
from pipeline.passes.index.indexed import Indexed, read_members
from pipeline.passes.index.train import trained_path
from pipeline.search.index.graph import Graph
from pipeline.search.index.ids import parted
from pipeline.search.index.lists import Entries, ListFile, blocks, head, ordered
from pipeline.search.index.trained import TrainedIndex
from pipeline.search.inverted_file import LEAST
from pipeline.shuffle.exchange import Exchange, Gather, Group, Partition, Scatter, Scattered
from pipeline.shuffle.parts import Parts, fixed_bytes, fixed_column, read_part, read_parts
from pipeline.store.store import Store
from pipeline.vectors import Bools, Ints
from pipeline.work import Facts, Place, PlainWork, Units, beat

TOGETHER = 1 << 27
"""Bytes of the codes of a group of shards, and of a range of lists, about."""
PIECE = 1 << 25
"""Bytes of a part of the file of a range, about: lists are not cut."""
EMPTY = pa.schema([("list", pa.int32()), ("size", pa.int64()), ("content", pa.large_binary())])


@lru_cache(maxsize=1)
def stored_trained(store: Store, path: str) -> TrainedIndex:
    """The trained index of a file, read once in a process."""
    return TrainedIndex(store.read(path))


@dataclass(frozen=True)
class Filling:
    """One index that is filled. It travels."""

    indexed: Indexed
    modality: str
    base: str | None
    """Folder of the index that it goes on from."""
    lists: int
    partitions: int

    @property
    def file(self) -> str:
        return f"{self.indexed.folder}/{self.modality}.index"

    @property
    def trained(self) -> TrainedIndex:
        return stored_trained(self.indexed.store, trained_path(self.indexed.folder, self.modality))

    @property
    def bounds(self) -> Ints:
        """i64 [partitions + 1]: the first list of each range."""
        return np.arange(self.partitions + 1, dtype=np.int64) * self.lists // self.partitions

    def of_base(self, first: int, last: int) -> Entries | None:
        """What the index that it goes on from has in these lists, without what goes."""
        if self.base is None:
            return None
        store, path = self.indexed.store, f"{self.base}/{self.modality}.index"
        entries = ListFile.of(self.trained, partial(_ranged, store, path)).entries(first, last)
        return entries.where(np.flatnonzero(stays(store, self.indexed.folder, entries.ids)))


def _ranged(store: Store, path: str, start: int, end: int) -> bytes:
    return store.ranges(path, [(start, end)])[0]


def stays(store: Store, folder: str, ids: Ints) -> Bools:
    """bool [n]: whether ids of an earlier index, i64 [n], are in this one, by its table of shards."""
    alive = np.array([member.rows > 0 for member in read_members(store, folder)], bool)
    return alive[parted(ids)[0]] if len(ids) else np.zeros(0, bool)


@dataclass(frozen=True)
class ToLists:
    """The vectors of a group of shards: list, id and code, and the range of each."""

    filling: Filling

    def __call__(self, group: Group) -> Scattered:
        filling, indexed = self.filling, self.filling.indexed
        tables, lists = [], []
        for shard in group.shards:
            rows = indexed.rows(shard.shard_id)
            placed, codes = filling.trained.placed(indexed.vectors(shard.shard_id, filling.modality, rows))
            lists.append(placed)
            tables.append(pa.table({"list": placed, "id": indexed.ids(shard.shard_id, rows), "code": fixed_column(codes)}))
            beat(len(rows))
        ranges = np.searchsorted(filling.bounds, np.concatenate(lists), side="right") - 1
        return pa.concat_tables(tables), ranges.astype(np.int64)


@dataclass(frozen=True)
class FillLists:
    """The lists of a range as they stand in the file: first how many vectors each has, then their contents."""

    filling: Filling

    def __call__(self, parts: Parts) -> Iterator[pa.Table]:
        filling = self.filling
        first, last = (int(bound) for bound in filling.bounds[parts.part : parts.part + 2])
        entries = self._entries(parts, first, last)
        sizes = np.bincount(entries.lists - first, minlength=last - first)
        numbers = np.arange(first, last, dtype=np.int32)
        yield pa.table([numbers, sizes, [b""] * len(sizes)], schema=EMPTY)
        held: list[bytes] = []
        for content in blocks(entries, first, last):
            held.append(content)
            if sum(map(len, held)) >= PIECE:
                yield _contents(held)
                held = []
                beat()
        if held:
            yield _contents(held)

    def _entries(self, parts: Parts, first: int, last: int) -> Entries:
        width = self.filling.trained.code_bytes
        found = [Entries(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros((0, width), np.uint8))]
        found += [Entries(np.asarray(table.column("list"), np.int32), np.asarray(table.column("id"), np.int64),
                          fixed_bytes(table.column("code"), width)) for table in parts]
        of_base = self.filling.of_base(first, last)
        found += [] if of_base is None else [of_base]
        return ordered(Entries(*map(np.concatenate, zip(*found, strict=True))))


def _contents(held: Sequence[bytes]) -> pa.Table:
    return pa.table([pa.nulls(len(held), pa.int32()), pa.nulls(len(held), pa.int64()), held], schema=EMPTY)


@dataclass(frozen=True)
class NearLists(Scatter):
    """Where a GPU finds the nearest of many lists, it does."""

    large: bool = False

    @property
    def place(self) -> Place:
        return Place.GPU if self.large else Place.CPU


@dataclass(frozen=True)
class Assemble(PlainWork[str]):
    """Writes the file of an index from its ranges, one after another, and what it came to beside them."""

    filling: Filling
    exchange: Exchange

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        filling, exchange, store = self.filling, self.exchange, self.filling.indexed.store
        paths = [exchange.gathered(partition) for partition in range(exchange.partitions)]
        sizes = np.concatenate([np.asarray(read_part(store, path, 0).column("size"), np.int64) for path in paths])
        with store.create(filling.file) as file:
            digest, count = hashlib.sha256(), 0
            for content in self._contents(paths, head(filling.trained, sizes)):
                file.write(content)
                digest.update(content)
                count += len(content)
                beat()
        write_made(filling, {"bytes": count, "sha256": digest.hexdigest(), "vectors": int(sizes.sum())})
        return {}

    def _contents(self, paths: Sequence[str], first: bytes) -> Iterator[bytes]:
        yield first
        for path in paths:
            for table in read_parts(self.filling.indexed.store, path):
                for content in table.column("content"):
                    yield content.as_buffer().to_pybytes() if content.is_valid else b""


@dataclass(frozen=True)
class DrawGraph(PlainWork[str]):
    """Writes the file of a graph: that of the base and the new vectors, or all of them, in the order of the shards."""

    filling: Filling
    shard_ids: tuple[str, ...]
    dimension: int

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        filling, indexed = self.filling, self.filling.indexed
        graph = Graph.new(self.dimension)
        if filling.base is not None:
            graph = Graph.read(indexed.store.read(f"{filling.base}/{filling.modality}.index"))
        for shard_id in self.shard_ids:
            rows = indexed.rows(shard_id)
            for at in range(0, len(rows), 4096):
                part = rows[at : at + 4096]
                graph.add(indexed.vectors(shard_id, filling.modality, part), indexed.ids(shard_id, part))
                beat(len(part))
        content = graph.content()
        indexed.store.write(filling.file, content)
        write_made(filling, {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "vectors": graph.size})
        return {}


def made_path(filling: Filling) -> str:
    """Where it is said what a finished file came to."""
    return f"{filling.indexed.scratch}/made-{filling.modality}.json"


def write_made(filling: Filling, made: dict[str, Any]) -> None:
    """Says that a file is finished, and what it came to."""
    filling.indexed.store.write(made_path(filling), json.dumps(made, sort_keys=True).encode())


def filled(filling: Filling, driver: Driver, groups: Sequence[Group], work: DrawGraph | None) -> dict[str, Any]:
    """Writes the file of an index and returns its `bytes`, `sha256` and `vectors`. `groups`: of the shards whose vectors are added;
    `work`: what makes a graph; None: it is an inverted file."""
    store = filling.indexed.store
    exchange = Exchange(store, f"{filling.indexed.folder}-{filling.modality}", tuple(groups), filling.partitions)
    title, alone = f"index of {filling.modality}s", len(groups) <= 1 and filling.partitions == 1
    if not store.exists(made_path(filling)) or not store.exists(filling.file):
        last: PlainWork[str] = work or Assemble(filling, exchange)
        if work is None:
            found, partitions = exchange.done("found"), [Partition(number) for number in range(filling.partitions)]
            if len(found) < len(partitions):
                scatter = NearLists(exchange, ToLists(filling), filling.lists >= LEAST)
                driver.complete(title, scatter, groups, exchange.done("rows"), alone=alone)
                driver.complete(f"{title}, by list", Gather(exchange, FillLists(filling)), partitions, found, alone=alone)
        driver.complete(f"{title}, the file", last, [filling.modality], (), alone=alone)
    exchange.remove()
    made: dict[str, Any] = store.read_json(made_path(filling))
    return made
