"""The recall of finished indexes: workers find the true neighbours of some queries group by group, one asks the index for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Columns, RunShard, matrix_of, vector_array
from pipeline.draws import FILTERED, drawn
from pipeline.driver import Driver
from pipeline.passes.index.indexed import IMAGE, TEXT, Indexed, Site
from pipeline.passes.index.train import QUERIES_HELD, Split
from pipeline.search.index.ids import NOTHING
from pipeline.search.index.recall import DEPTH, SHARES, Among, Judge, Truth, least_effort, measured
from pipeline.search.index.stored import open_index
from pipeline.search.index.trained import one_thread
from pipeline.search.nearest import nearest
from pipeline.shuffle.drawn import Drawable, Drawing
from pipeline.shuffle.exchange import Group, GroupWork
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.vectors import Bools, Floats, Ints, unit
from pipeline.work import Facts, PlainWork, Units, beat
from schemas.indexes import IndexFile, Measured

FILTERED_MOST = 10_000_000
"""Ids that a search of the measurement is allowed: a set of them takes some 600 MB."""
COMPARED = 1 << 16
"""Vectors that queries are compared with at a time."""


@dataclass(frozen=True)
class HeldOut(Drawable):
    """Ids and embeddings of the vectors that may be queries."""

    indexed: Indexed
    split: Split

    def eligible(self, shards: Sequence[RunShard]) -> Bools:
        return np.concatenate([self._held(shard) for shard in shards])

    def _held(self, shard: RunShard) -> Bools:
        rows, there = self.indexed.rows(shard.shard_id), np.zeros(shard.rows, bool)
        there[rows[self.split.is_held(self.indexed.ids(shard.shard_id, rows))]] = True
        return there

    def fetched(self, shards: Sequence[RunShard], rows: Ints) -> pa.Table:
        ends = np.cumsum([shard.rows for shard in shards])
        parts = np.split(rows, np.searchsorted(rows, ends[:-1]))
        chosen = [(shard, part - (end - shard.rows)) for shard, part, end in zip(shards, parts, ends, strict=True) if len(part)]
        return pa.concat_tables(self._of_shard(shard.shard_id, local) for shard, local in chosen)

    def _of_shard(self, shard_id: str, rows: Ints) -> pa.Table:
        valid = pa.array(np.ones(len(rows), bool))
        vectors = {name: vector_array(self.indexed.embeddings(shard_id, name).read(rows), valid) for name in (IMAGE, TEXT)}
        return pa.table({"id": self.indexed.ids(shard_id, rows), **vectors})


@dataclass(frozen=True, eq=False)
class Queries:
    """What is asked of the indexes: the same samples' pictures and captions."""

    ids: Ints
    """i64 [q]"""
    vectors: Mapping[str, Floats]
    """f32 [q, d] of unit length, by kind"""

    @classmethod
    def read(cls, indexed: Indexed) -> "Queries":
        """As `draw_queries` wrote them."""
        read = {name: np.asarray(read_npy(indexed.store, f"{indexed.scratch}/queries-{name}.npy")) for name in ("id", IMAGE, TEXT)}
        return cls(read.pop("id"), read)


def draw_queries(indexed: Indexed, driver: Driver, groups: Sequence[Group], split: Split) -> int:
    """Writes the queries, QUERIES_HELD at most, and returns how many there are."""
    store, path = indexed.store, f"{indexed.scratch}/queries-id.npy"
    if not store.exists(path):
        drawing = Drawing(driver, f"{indexed.folder.rpartition('/')[2]}-queries", groups)
        source = HeldOut(Columns(store, {"clip": indexed.columns}), indexed, split)
        table = drawing.drawn(source, QUERIES_HELD, indexed.seed)
        if table is None:
            return 0
        for name in (IMAGE, TEXT):
            store.write(f"{indexed.scratch}/queries-{name}.npy", npy_bytes(unit(matrix_of(table.column(name)))))
        store.write(path, npy_bytes(np.asarray(table.column("id"), np.int64)))
        drawing.remove()
    return len(read_npy(store, path))


@dataclass(frozen=True)
class Compare(GroupWork):
    """Writes the nearest of a group's vectors to each query, among each share of them: i64 and f32 [shares, kinds · q, DEPTH + 1];
    and the ids of the largest share that is not all."""

    indexed: Indexed
    modality: str
    shares: tuple[float, ...]

    def run(self, item: Group) -> Facts:
        indexed, asked = self.indexed, Queries.read(self.indexed)
        queries = np.concatenate([asked.vectors[IMAGE], asked.vectors[TEXT]])
        best, filtered = [nothing(len(queries)) for _ in self.shares], [np.zeros(0, np.int64)]
        for ids, vectors in self._chunks(item):
            for at, share in enumerate(self.shares):
                chosen = drawn(ids, indexed.seed, FILTERED, share) if share < 1 else np.ones(len(ids), bool)
                if chosen.any():
                    best[at] = merged(best[at], nearest_of(queries, ids[chosen], vectors[chosen]))
                if at == 1:
                    filtered.append(ids[chosen])
            beat(len(ids))
        write_compared(indexed, self.modality, item, {
            "ids": np.stack([ids for ids, _ in best]), "filtered": np.concatenate(filtered),
            "similarities": np.stack([similarities for _, similarities in best])})
        return {"rows": item.rows}

    def _chunks(self, item: Group) -> Iterator[tuple[Ints, Floats]]:
        indexed, held, count = self.indexed, list[tuple[Ints, Floats]](), 0
        for shard in item.shards:
            rows = indexed.rows(shard.shard_id)
            for at in range(0, len(rows), COMPARED):
                part = rows[at : at + COMPARED]
                held.append((indexed.ids(shard.shard_id, part), indexed.vectors(shard.shard_id, self.modality, part)))
                count += len(part)
                if count >= COMPARED:
                    yield joined(held)
                    held, count = [], 0
        if count:
            yield joined(held)


Nearest = tuple[Ints, Floats]
"""Ids i64 [q, m] and similarities f32 [q, m] of the nearest, best first."""


def joined(held: Sequence[tuple[Ints, Floats]]) -> tuple[Ints, Floats]:
    """Ids and vectors of several pieces as one."""
    return np.concatenate([ids for ids, _ in held]), np.concatenate([vectors for _, vectors in held])


def nothing(queries: int) -> Nearest:
    """Before anything was compared."""
    return np.full((queries, DEPTH + 1), NOTHING, np.int64), np.full((queries, DEPTH + 1), -np.inf, np.float32)


def nearest_of(queries: Floats, ids: Ints, vectors: Floats) -> Nearest:
    """The nearest of some vectors, exactly."""
    found, similarities = nearest(queries, vectors, min(DEPTH + 1, len(ids)))
    return ids[found], similarities


def merged(one: Nearest, other: Nearest) -> Nearest:
    """The best DEPTH + 1 of both; equal ones by id."""
    ids, similarities = np.concatenate([one[0], other[0]], axis=1), np.concatenate([one[1], other[1]], axis=1)
    order = np.lexsort((ids, -similarities), axis=1)[:, : DEPTH + 1]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(similarities, order, 1)


def compared_path(indexed: Indexed, modality: str, what: str, group: Group) -> str:
    """Where the worker of a group says what it found."""
    return f"{indexed.scratch}/{modality}-{what}-{group}.npy"


def write_compared(indexed: Indexed, modality: str, group: Group, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes what the worker of a group found; the last array says that all are there."""
    for what, array in arrays.items():
        indexed.store.write(compared_path(indexed, modality, what, group), npy_bytes(array))


@dataclass(frozen=True)
class Measure(PlainWork[str]):
    """Writes what searches of one index (the item) find."""

    indexed: Indexed
    file: IndexFile
    groups: tuple[Group, ...]
    shares: tuple[float, ...]
    wished: float

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        indexed, asked = self.indexed, Queries.read(self.indexed)
        best, filtered = self._truth(item, 2 * len(asked.ids))
        found, start = list[Measured](), least_effort(self.file.kind)
        index = open_index(indexed.store, indexed.folder, self.file, hashed=False)
        with one_thread():
            for at, share in enumerate(self.shares):
                allowed = filtered[drawn(filtered, indexed.seed, FILTERED, share)] if share < 1 else None
                judges = self._judges(item, asked, best, at)
                found.append(measured(index, judges, Among(share, allowed), self.wished, start))
                start = found[-1].effort
                beat()
        indexed.store.write_json(f"{indexed.scratch}/measured-{item}.json", [one.model_dump() for one in found])
        return {}

    def _truth(self, modality: str, queries: int) -> tuple[list[Nearest], Ints]:
        best, filtered = [nothing(queries) for _ in self.shares], [np.zeros(0, np.int64)]
        for group in self.groups:
            ids, similarities, chosen = (
                np.asarray(read_npy(self.indexed.store, compared_path(self.indexed, modality, what, group)))
                for what in ("ids", "similarities", "filtered"))
            best = [merged(best[at], (ids[at], similarities[at])) for at in range(len(self.shares))]
            filtered.append(chosen)
        return best, np.concatenate(filtered)

    def _judges(self, modality: str, asked: Queries, best: Sequence[Nearest], at: int) -> dict[str, Judge]:
        judges, count = {}, len(asked.ids)
        for number, kind in enumerate((IMAGE, TEXT)):
            part = slice(number * count, (number + 1) * count)
            ids, similarities = best[at][0][part], best[at][1][part]
            own = asked.ids if kind == modality else np.full(count, NOTHING, np.int64)
            truth = Truth(asked.vectors[kind], own, *others(ids, similarities, own))
            judges[kind] = Judge(truth, StoredSimilarity(self.indexed, modality))
        return judges


@dataclass(frozen=True)
class StoredSimilarity:
    """Exact similarities of queries and indexed vectors, which are read where they are stored."""

    indexed: Indexed
    modality: str

    def __call__(self, queries: Floats, ids: Ints) -> Floats:
        """See `recall.Similar`."""
        flat, found = ids.ravel(), np.full(ids.size, -np.inf, np.float32)
        for shard_id, places, rows in self.indexed.numbers().located(flat):
            distinct, back = np.unique(rows, return_inverse=True)
            vectors = self.indexed.vectors(shard_id, self.modality, distinct)[back]
            found[places] = np.vecdot(queries[places // ids.shape[1]].astype(np.float64), vectors.astype(np.float64))
        return found.reshape(ids.shape)


def others(ids: Ints, similarities: Floats, own: Ints) -> Nearest:
    """The first DEPTH of each row but its own."""
    chosen = np.argsort((ids == own[:, None]) & (ids != NOTHING), axis=1, kind="stable")[:, :DEPTH]
    return np.take_along_axis(ids, chosen, 1), np.take_along_axis(similarities, chosen, 1)


def shares_for(vectors: int) -> tuple[float, ...]:
    """Among which shares of so many vectors searches are measured."""
    return tuple(share for share in SHARES if share == 1 or share * vectors <= FILTERED_MOST)


def measure(site: Site, files: Mapping[str, IndexFile], split: Split, wished: float) -> dict[str, IndexFile]:
    """The files, by kind of vectors, with what searches of them find."""
    indexed, driver, groups = site
    count = draw_queries(indexed, driver, groups, split) if groups else 0
    return {name: _measured(site, name, file, count, wished) if count else file for name, file in files.items()}


def _measured(site: Site, modality: str, file: IndexFile, count: int, wished: float) -> IndexFile:
    indexed, driver, groups = site
    store, path, shares = indexed.store, f"{indexed.scratch}/measured-{modality}.json", shares_for(file.vectors)
    if not store.exists(path):
        prefix = f"{modality}-similarities-"
        there = (name for name in store.names(indexed.scratch) if name.startswith(prefix))
        done = {name.removeprefix(prefix).removesuffix(".npy") for name in there}
        compare, alone = Compare(indexed, modality, shares), len(groups) == 1
        driver.complete(f"true neighbours of {modality}s", compare, groups, done, alone=alone)
        work = Measure(indexed, file, groups, shares, wished)
        driver.complete(f"recall of the index of {modality}s", work, [modality], (), alone=alone)
    found = tuple(Measured.model_validate(one) for one in store.read_json(path))
    return file.model_copy(update={"measured": found, "queries": {IMAGE: count, TEXT: count}})
