"""Exact search: the stored embeddings of a root are read shard by shard, and every one that is meant is compared.

A billion rows of 512 values are a terabyte that is read for each call, whatever the number of queries: it is what answers where
there is no index, where few samples are meant, and where an index is held against it. Memory does not grow with the root: a block
of rows and q x k numbers for each of its threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.process.ahead import threads
from pipeline.process.share import usable_cpus
from pipeline.queries.neighbours.best import Best, nearest_of
from pipeline.queries.neighbours.selection import Selection
from pipeline.queries.rows.columns import RootColumns
from pipeline.search.index.ids import NOTHING, ids_of
from pipeline.vectors import Floats, Halves, Ints

WORKERS = 8
"""Shards that are compared at once, at most."""
READ = 1 << 18
"""Rows that are read at once where not all of a shard are meant: 256 MB of 512 values."""


@dataclass(frozen=True)
class ExactSearch:
    """The vectors of one column of a root."""

    columns: RootColumns
    modality: str

    @property
    def column(self) -> str:
        """The column of vectors."""
        return f"{self.modality}_embedding"

    def search(self, queries: Floats, k: int, selection: Selection) -> Best:
        """The k nearest of the samples that are meant, for each unit row of f32 [q, d]. Raises RootError where the run has not
        embedded every shard yet."""
        best = Best.of(queries, k)
        shards = self.columns.plan.shards
        with threads(max(1, min(WORKERS, usable_cpus(), len(shards))), "search") as pool:
            compare = partial(self._of_shard, best, selection)
            for ids, similarities in pool.each(compare, enumerate(shard.shard_id for shard in shards)):
                if ids.shape[1]:
                    best.add(ids, similarities)
        return best

    def _of_shard(self, best: Best, selection: Selection, shard: tuple[int, str]) -> tuple[Ints, Floats]:
        """Ids and similarities of the nearest in a shard. `best` grows meanwhile: what cannot reach it any more is left out."""
        number, shard_id = shard
        rows, k = selection.rows(self.columns, shard_id), best.ids.shape[1]
        within = Best.of(best.queries, k)
        for first, block in self._vectors(shard_id, rows):
            places, similarities = nearest_of(best.queries, block, k, np.maximum(best.bound, within.bound))
            local = places + first if rows is None else rows[first + places]
            within.add(np.where(places < 0, NOTHING, ids_of(number, local)), similarities)
        found = int((within.ids >= 0).sum(axis=1).max(initial=0))
        return within.ids[:, :found], within.similarities[:, :found]

    def _vectors(self, shard_id: str, rows: Ints | None) -> Iterator[tuple[int, Halves]]:
        """(place of the first, vectors f16 [n, d]) of the rows that are meant; all: mapped where the root is local."""
        if rows is None:
            yield 0, self.columns.vectors(shard_id, self.column)
            return
        for at in range(0, len(rows), READ):
            yield at, self.columns.vector_rows(shard_id, self.column, rows[at : at + READ])
