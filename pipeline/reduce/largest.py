"""The few largest of a row's many scores, without sorting them: first a bound that few exceed, then those that do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.heaps import Heaps

Floats = NDArray[np.float32]

GROUPS = 4   # for each score asked for: of so many groups, two of the largest seldom share one


def reached(scores: NDArray[Any], m: int) -> NDArray[Any]:
    """[n]: a score that at least m <= k of the scores [n, k] of a row reach, and few more do: the m-th largest of the maxima of
    groups."""
    if m == 1:
        return np.asarray(scores.max(axis=1))
    while scores.shape[1] >= 2 * GROUPS * m:   # an odd last column is left out: the bound is a little lower
        half = scores.shape[1] // 2
        scores = np.maximum(scores[:, :half], scores[:, half : 2 * half])
    wide = scores.astype(np.int32) if scores.dtype == np.uint8 else scores   # numpy parts 32 bits three times as fast
    return np.asarray(np.partition(wide, wide.shape[1] - m, axis=1)[:, wide.shape[1] - m])


@dataclass(frozen=True)
class Left:
    """Some columns of each of n rows, row after row, ascending."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    counts: NDArray[np.int64]
    """[n]: columns of each row."""

    @classmethod
    def where(cls, mask: NDArray[np.bool_]) -> "Left":
        places = np.flatnonzero(mask)
        rows = places // mask.shape[1]
        return cls(rows, places - rows * mask.shape[1], np.bincount(rows, minlength=len(mask)))

    def only(self, keep: NDArray[np.bool_]) -> "Left":
        """Without the columns of rows that are not to keep (bool [n])."""
        if keep.all():
            return self
        kept = keep[self.rows]
        return Left(self.rows[kept], self.columns[kept], np.where(keep, self.counts, 0))

    def table(self, values: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The columns, and a value for each, as tables [n, most], filled up with -1 and -inf."""
        width = int(self.counts.max(initial=0))
        starts = np.cumsum(self.counts) - self.counts
        places = np.arange(len(self.rows)) + (np.arange(len(self.counts)) * width - starts)[self.rows]
        columns = np.full((len(self.counts), width), -1, np.int64)
        table = np.full(columns.shape, -np.inf, np.float32)
        columns.ravel()[places], table.ravel()[places] = self.columns, values
        return columns, table


def best(columns: NDArray[np.int64], values: Floats, m: int) -> tuple[NDArray[np.int64], Floats]:
    """The m largest values of each row of a table, which is overwritten, and their columns; largest first, and -1 and -inf where
    a row has fewer."""
    if m > 2:
        heaps = Heaps.of(len(values), m)
        heaps.add(values)
        places, found = heaps.best()
        full = found[:, -1:] > -np.inf   # a place is that of a column only where there was one
        return (np.take_along_axis(columns, places * full, 1) if columns.size else places), found
    places, found = np.full((len(values), m), -1, np.int64), np.full((len(values), m), -np.inf, np.float32)
    line = np.arange(len(values))
    for rank in range(min(m, values.shape[1])):
        place = values.argmax(axis=1)
        places[:, rank], found[:, rank] = columns[line, place], values[line, place]
        values[line, place] = -np.inf
    return places, found
