"""The best of a stream of vectors for each query: blocks of rows come one after another, and the k nearest stay. Pure.

A similarity is the cosine of the query and the stored row, both made unit in float64, rounded to float32: the same bits for any
blocks, order of blocks or number of threads. Equal ones rank by the lower id.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.search.index.ids import NOTHING
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, Halves, Ints, unit

BLOCK = 8192
"""Rows that are multiplied at a time, at most: 16 MB of float32 at 512 dimensions."""
PRODUCTS = 1 << 23
"""Products of them with all queries: 32 MB."""
FEWEST = 256
"""Rows that are multiplied at a time, at least."""
ULP = 2.0**-24


@dataclass
class Best:
    """The nearest so far of q queries, best first."""

    queries: Floats
    """f32 [q, d], unit rows"""
    ids: Ints
    """i64 [q, k]; -1 where there are fewer"""
    similarities: Floats
    """f32 [q, k]; -inf there"""

    @classmethod
    def of(cls, queries: Floats, k: int) -> "Best":
        """Nothing yet."""
        shape = (len(queries), k)
        return cls(queries, np.full(shape, NOTHING, np.int64), np.full(shape, -np.inf, np.float32))

    @property
    def bound(self) -> Floats:
        """f32 [q]: what a row must reach to be among the k; -inf while there are fewer."""
        return self.similarities[:, -1]

    def add(self, ids: Ints, similarities: Floats) -> None:
        """More neighbours of each query, i64 and f32 [q, m], in any order."""
        ids = np.concatenate([self.ids, ids], axis=1)
        similarities = np.concatenate([self.similarities, similarities], axis=1)
        order = np.lexsort((ids, -similarities), axis=1)[:, : self.ids.shape[1]]
        self.ids, self.similarities = np.take_along_axis(ids, order, 1), np.take_along_axis(similarities, order, 1)


def nearest_of(queries: Floats, rows: Halves, k: int, bound: Floats | None = None) -> tuple[Ints, Floats]:
    """The k nearest (or fewer) of stored rows f16 [n, d] for each query f32 [q, d]: their places i64 [q, m] and similarities
    f32 [q, m]; -1 and -inf beyond those there are. Rows of zeros have no vector. `bound`, f32 [q]: what is below need not be found.
    Holds a block and q x (k + a block) numbers."""
    best = Best.of(queries, min(k, len(rows)))
    step = max(FEWEST, min(BLOCK, PRODUCTS // max(1, len(queries))))
    for at in range(0, len(rows), step):
        block = rows[at : at + step]
        reached = best.bound if bound is None else np.maximum(best.bound, bound)
        places = _promising(queries, block, best.ids.shape[1], reached)
        if len(places):
            columns, values = nearest(queries, unit(block[places]), min(len(places), best.ids.shape[1]))
            best.add(at + places[columns], values)
    return best.ids, best.similarities


def _promising(queries: Floats, block: Halves, k: int, bound: Floats) -> Ints:
    """i64, ascending: the rows of a block that may be among the k nearest of any query, by products in float32. Divided by the
    row's length, one is off by less than d x 2^-24, and a little for the length: four times that is allowed."""
    wide = block.astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    there = np.flatnonzero(lengths > 0)
    products = (queries @ wide.T)[:, there] / lengths[there]
    if len(there) > k:
        bound = np.maximum(bound, np.partition(products, len(there) - k, axis=1)[:, len(there) - k])
    promising: Ints = there[(products >= bound[:, None] - np.float32(4 * ULP * (block.shape[1] + 16))).any(axis=0)]
    return promising
