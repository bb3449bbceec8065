"""The indexes of a root: opened by memory map, and searched among the samples that are meant.

How a condition is met goes by how many samples meet it:

- few (NARROW): no index is asked; their vectors are read and compared, which finds all of them;
- a quarter of the index or more: more neighbours are asked for, and those that are not meant are dropped;
- between: FAISS compares those that are meant alone, in as many lists as were measured to find enough of them
  (`search/index/opened.py`).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.queries.neighbours.best import Best
from pipeline.queries.neighbours.selection import RowSet, Selection
from pipeline.queries.rows.columns import RootColumns
from pipeline.search.index.ids import NOTHING, ShardNumbers, ids_of, parted
from pipeline.search.index.neighbours import VectorIndex
from pipeline.search.index.opened import BROAD
from pipeline.search.index.stored import INDEX, open_index, read_numbers, read_record
from pipeline.vectors import Floats, Ints
from schemas.indexes import IndexFile

NARROW = 50_000
"""Samples that are compared one by one in about the time in which an index finds its way among so few of many."""
LISTED = 20_000_000
"""Samples that an index is given a list of, at most: some 60 bytes each, while it is searched."""
REFINED, MOST_REFINED = 4, 4096
"""Where an index has rounded vectors: so many times the neighbours are asked for, up to so many in all, and measured again."""
HASHED = 1 << 30
"""Bytes of a file that is held against its hash before it is opened, at most: a second's work. `shardmill verify` checks all."""


@dataclass(frozen=True, eq=False)
class StoredIndex:
    """An opened index of a root. Safe for many threads."""

    index: VectorIndex
    numbers: ShardNumbers
    record: IndexFile
    of: str
    """kept, or all: the samples that it has"""
    columns: RootColumns

    @cached_property
    def _places(self) -> Ints:
        """i64 [numbers]: the place of each shard of the index among those of the plan; -1 where it is not among them."""
        places = self.columns.places
        return np.array([places.get(shard_id, -1) for shard_id in self.numbers.shard_ids], np.int64)

    @property
    def rounded(self) -> bool:
        """Whether its vectors are less than half precision."""
        return self.record.code != "fp16"

    def has(self, selection: Selection) -> bool:
        """Whether every sample that may be meant is in it, if it has an embedding."""
        return self.of == "all" or selection.kept_alone

    def is_whole(self, selection: Selection) -> bool:
        """Whether what it has is just what is meant."""
        return selection.alone(self.of)

    def search(self, queries: Floats, k: int, among: RowSet | None, effort: int | None) -> Best:
        """The k nearest of each query f32 [q, d], as ids of the plan; `among`: of these (None: of all that it has)."""
        if among is None:
            return self._best(queries, k, *self._found(queries, k, effort, None))
        count = among.count
        share = min(1.0, count / max(1, self.index.size))
        if share >= BROAD or count > LISTED:
            wide = min(self.index.size, math.ceil(1.5 * k / share) + 16)
            while True:
                ids, similarities = self._found(queries, wide, effort, None)
                meant = among.has(ids)
                if (meant.sum(axis=1) >= min(k, count)).all() or wide >= self.index.size:
                    return self._best(queries, k, np.where(meant, ids, -1), np.where(meant, similarities, -np.inf))
                if count <= LISTED:
                    break   # some are far away, or in other lists: it is told which are meant
                wide = min(self.index.size, 4 * wide)
        return self._best(queries, k, *self._found(queries, k, effort, self._ids(among)))

    def _found(self, queries: Floats, k: int, effort: int | None, allowed: Ints | None) -> tuple[Ints, Floats]:
        ids, similarities = self.index.search(queries, k, allowed=allowed, effort=effort)
        number, row = parted(ids)
        place = np.where(number >= 0, self._places[number], -1)
        return np.where(place >= 0, ids_of(place, row), NOTHING), np.where(place >= 0, similarities, np.float32(-np.inf))

    def _ids(self, among: RowSet) -> Ints:
        """i64: what the index calls these rows."""
        shards = self.columns.plan.shards
        return np.concatenate([np.zeros(0, np.int64), *(
            self.numbers.ids(shards[place].shard_id, among.rows(place)) for place in sorted(among.bits))])

    @staticmethod
    def _best(queries: Floats, k: int, ids: Ints, similarities: Floats) -> Best:
        best = Best.of(queries, k)
        best.add(ids, similarities)   # equal ones in the order of the plan
        return best


def stored_index(columns: RootColumns, modality: str) -> StoredIndex | None:
    """The index of a root's vectors of this modality; None where its recipe asks for none, or it is not made yet. Raises RootError
    where it is damaged."""
    plan = columns.plan
    folder = plan.index
    if folder is None or not plan.root.exists(f"{folder}/{INDEX}"):
        return None
    record = read_record(plan.root, folder)
    file = record.indexes.get(modality)
    if file is None:
        return None
    index = open_index(plan.root, folder, file, hashed=file.bytes <= HASHED)
    return StoredIndex(index, read_numbers(plan.root, folder), file, record.of, columns)


def meant(columns: RootColumns, selection: Selection) -> RowSet:
    """The rows that are meant: the columns that are asked about are read of every shard."""
    rows = ((number, selection.rows(columns, shard_id)) for shard_id, number in columns.places.items())
    return RowSet.of(ids_of(number, part) for number, part in rows if part is not None and len(part))

