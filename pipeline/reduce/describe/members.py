"""The members of each class that are nearest to its centroid, and those farthest from it; found per shard, merged in any order."""

from dataclasses import dataclass

import numpy as np

from pipeline.vectors import Floats, Ids, Ints, places

MOST = 16   # members of each kind, per class


@dataclass(frozen=True)
class Ranked:
    """Up to `MOST` members of each class, parallel arrays by class and then best first; equal similarities by the lower row."""

    classes: Ids
    """i32[m]"""
    rows: Ints
    """i64[m]: row numbers in the run."""
    similarity: Floats
    """f32[m]: the cosine to the centroid."""

    def of(self, c: int) -> "Ranked":
        """The members of one class."""
        part = slice(*np.searchsorted(self.classes, [c, c + 1]))
        return Ranked(self.classes[part], self.rows[part], self.similarity[part])


@dataclass(frozen=True)
class Members:
    """The nearest and the farthest members of each class: at most 32 rows a class, however many rows were ranked. Those of disjoint
    sets of rows add up."""

    nearest: Ranked
    farthest: Ranked

    def __add__(self, other: "Members") -> "Members":
        return Members(_joined(self.nearest, other.nearest, farthest=False), _joined(self.farthest, other.farthest, farthest=True))


def extreme_members(rows: Ints, classes: Ids, similarity: Floats) -> Members:
    """The nearest and farthest among rows (their numbers in the run i64[n]), by the class i32[n] of each and the cosine f32[n] to
    its centroid."""
    return Members(_best(classes, rows, similarity, farthest=False), _best(classes, rows, similarity, farthest=True))


def _joined(first: Ranked, second: Ranked, *, farthest: bool) -> Ranked:
    classes, rows = np.concatenate([first.classes, second.classes]), np.concatenate([first.rows, second.rows])
    return _best(classes, rows, np.concatenate([first.similarity, second.similarity]), farthest=farthest)


def _best(classes: Ids, rows: Ints, similarity: Floats, *, farthest: bool) -> Ranked:
    order = np.lexsort((rows, similarity if farthest else -similarity, classes))
    order = order[places(classes[order]) < MOST]
    return Ranked(classes[order], rows[order], similarity[order])
