"""Rows on their way to their classes, and what they come to there: the two halves of the shuffle, which `find.py` has run."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from pipeline.columns import RunShard
from pipeline.draws import PREFERRED, draws
from pipeline.export.cuts import content_keys
from pipeline.passes.labels import first_labels
from pipeline.plan import Plan
from pipeline.reduce.classes import taxonomy
from pipeline.reduce.describe.names import Level, positions
from pipeline.reduce.duplicates.semantic import SemanticRule, judged, preference
from pipeline.reduce.duplicates.shelf import Shelf
from pipeline.shuffle.exchange import Group, Scattered
from pipeline.shuffle.parts import Parts, fixed_bytes, fixed_column
from pipeline.store.store import Store
from pipeline.store.tables import read_vector_rows
from pipeline.vectors import Halves, Ids, Ints
from pipeline.work import beat

FOUND = pa.schema({"row": pa.int64(), "of": pa.int64(), "similarity": pa.float32(), "chained": pa.bool_()})
"""What became of a row of the run: the row that it duplicates, or -1; the highest cosine; whether it goes in a chain."""


@lru_cache(maxsize=1)
def stored_level(store: Store, folder: str) -> Level:
    """The classes that label samples, read once in a process."""
    return taxonomy.read_levels(store, folder)[0]


@dataclass(frozen=True)
class ToClasses:
    """The labelled rows of a group of shards: number in the run, rank and position of the class, embedding as f16 bytes."""

    plan: Plan
    ids: Ids
    """i32[k]: the ids of the classes, by position."""
    partition: Ints
    """i64[k]: the partition of each."""

    def __call__(self, group: Group) -> Scattered:
        level = stored_level(self.plan.root, self.plan.fitted.centroids)
        table = pa.concat_tables([self._rows(shard, level) for shard in group.shards])
        return table, self.partition[np.asarray(table.column("place"))]

    def _rows(self, shard: RunShard, level: Level) -> pa.Table:
        plan, clip = self.plan, self.plan.columns.folders["clip"]
        table = first_labels(plan, shard.shard_id, 1.0)
        local, label = np.asarray(table.column("row"), np.int64), np.asarray(table.column("label"), np.int32)
        vectors = read_vector_rows(plan.root, clip, shard.shard_id, "image_embedding", local)
        rank = np.zeros(0, np.int64)
        if len(local):
            drawn = draws(content_keys(table.column("uid").to_pylist()), plan.recipe.seed, PREFERRED)
            keep = plan.recipe.semantic_duplicates.keep
            rank = preference(vectors, level.centroids, positions(label, level.ids), keep, drawn)
        beat(len(local))
        return pa.table({
            "row": shard.first_row + local, "rank": rank, "place": positions(label, self.ids),
            "vector": fixed_column(np.ascontiguousarray(vectors).view(np.uint8)),
        })


@dataclass(frozen=True)
class Member:
    """The rows of one class, in the order of preference, among those that lie on a shelf."""

    shelf: Shelf
    order: Ints
    """i64[n]: their places there."""

    def __len__(self) -> int:
        return len(self.order)

    def part(self, start: int, stop: int) -> Halves:
        """See `semantic.Ordered`."""
        rows = self.shelf.at(self.order[start:stop])
        beat()
        return rows


@dataclass(frozen=True)
class WithinClasses:
    """FOUND for each group of shards, of the rows of the classes of a partition. In memory are some 50 bytes of each row, and the
    embeddings up to what a shelf holds; the others lie in a local file."""

    rule: SemanticRule

    def __call__(self, parts: Parts) -> Iterator[pa.Table]:
        shelf, heads = Shelf(), list[pa.Table]()
        try:
            for table in parts:
                shelf.add(fixed_bytes(table.column("vector"), table.schema.field("vector").type.byte_width).view(np.float16))
                heads.append(table.drop_columns("vector"))
            found = self._judged(pa.concat_tables(heads), shelf)
        finally:
            shelf.close()
        start = 0
        for head in heads:
            yield found.slice(start, head.num_rows)
            start += head.num_rows

    def _judged(self, head: pa.Table, shelf: Shelf) -> pa.Table:
        """FOUND in the order of `head`."""
        row, rank, place = (np.asarray(head.column(name)) for name in ("row", "rank", "place"))
        order = np.lexsort((row, rank, place))
        of, similarity = np.full(len(row), -1, np.int64), np.zeros(len(row), np.float32)
        chained = np.zeros(len(row), bool)
        ends = np.flatnonzero(np.diff(place[order])) + 1
        for start, end in zip([0, *ends.tolist()], [*ends.tolist(), len(order)], strict=True):
            members = order[start:end]
            result = judged(Member(shelf, members), self.rule)
            goes = result.of >= 0
            of[members[goes]] = row[members[result.of[goes]]]
            similarity[members], chained[members] = result.similarity, result.chained
        return pa.Table.from_arrays([pa.array(row), pa.array(of), pa.array(similarity), pa.array(chained)], schema=FOUND)
