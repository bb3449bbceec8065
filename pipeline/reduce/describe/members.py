"""The members of each class that are nearest to its centroid, and those farthest from it; found per shard, merged in any order."""

from dataclasses import dataclass

import numpy as np

from pipeline.vectors import Floats, Ids, Ints, places

MOST = 16   # of each kind, per class


@dataclass(frozen=True)
class Ranked:
    """Up to `MOST` members of each class, parallel arrays by class and then best first; equal similarities by the lower row."""

    classes: Ids
    rows: Ints
    similarity: Floats

    def of(self, c: int) -> "Ranked":
        """Those of one class."""
        part = slice(*np.searchsorted(self.classes, [c, c + 1]))
        return Ranked(self.classes[part], self.rows[part], self.similarity[part])


@dataclass(frozen=True)
class Members:
    """At most 32 rows per class of k, however many were seen."""

    nearest: Ranked
    farthest: Ranked

    def __add__(self, other: "Members") -> "Members":
        return Members(_joined(self.nearest, other.nearest, farthest=False), _joined(self.farthest, other.farthest, farthest=True))


def members(rows: Ints, classes: Ids, similarity: Floats) -> Members:
    """Of some rows (their numbers in the run), the class of each and the cosine to its centroid."""
    return Members(_best(classes, rows, similarity, farthest=False), _best(classes, rows, similarity, farthest=True))


def _joined(one: Ranked, other: Ranked, *, farthest: bool) -> Ranked:
    classes, rows = np.concatenate([one.classes, other.classes]), np.concatenate([one.rows, other.rows])
    return _best(classes, rows, np.concatenate([one.similarity, other.similarity]), farthest=farthest)


def _best(classes: Ids, rows: Ints, similarity: Floats, *, farthest: bool) -> Ranked:
    order = np.lexsort((rows, similarity if farthest else -similarity, classes))
    order = order[places(classes[order]) < MOST]
    return Ranked(classes[order], rows[order], similarity[order])
