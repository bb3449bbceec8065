"""The few largest of a row's many scores, without sorting them: first a bound that few exceed, then those that do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.search.heaps import Heaps
from pipeline.vectors import Floats

Scalar = TypeVar("Scalar", bound=np.generic)

LAST = (1 << 32) - 1
GROUPS = 16   # for each score asked for, at least: of so many groups, two of the largest seldom share one


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
        n, k = mask.shape
        places = np.flatnonzero(mask)
        counts = np.diff(np.searchsorted(places, np.arange(n + 1) * k))   # to divide so many numbers takes longer
        rows = np.repeat(np.arange(n), counts)
        return cls(rows, places - rows * k, counts)

    @classmethod
    def none(cls, n: int) -> "Left":
        """Nothing of n rows."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n, np.int64))

    @classmethod
    def joined(cls, parts: Sequence["Left"]) -> "Left":
        """Those of one row after another."""
        counts = np.concatenate([part.counts for part in parts])
        return cls(np.repeat(np.arange(len(counts)), counts), np.concatenate([part.columns for part in parts]), counts)

    @property
    def starts(self) -> NDArray[np.int64]:
        """[n + 1]: the columns of row i are those from starts[i] on, to starts[i + 1]."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def among(self, kept: NDArray[np.bool_]) -> "Left":
        """Without some of the columns (bool, one for each)."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return Left(self.rows[kept], self.columns[kept], np.diff(before[self.starts]))

    def of_rows(self, rows: NDArray[np.int64]) -> "Left":
        """Of these rows, ascending, alone."""
        mask = np.zeros(len(self.counts), np.bool_)
        mask[rows] = True
        kept, counts = np.repeat(mask, self.counts), self.counts[rows]
        return Left(np.repeat(np.arange(len(rows)), counts), self.columns[kept], counts)

    def only(self, keep: NDArray[np.bool_]) -> "Left":
        """Without the columns of rows that are not to keep (bool [n])."""
        if keep.all():
            return self
        kept = np.repeat(keep, self.counts)
        return Left(self.rows[kept], self.columns[kept], np.where(keep, self.counts, 0))

    def table(self, values: Floats) -> tuple[NDArray[np.int64], Floats]:
        """The columns, and a value for each, as tables [n, most], filled up with -1 and -inf."""
        return self.spread(self.columns, np.int64(-1)), self.spread(values, np.float32(-np.inf))

    def spread(self, values: NDArray[Scalar], empty: Scalar) -> NDArray[Scalar]:
        """A value for each column as a table [n, most], filled up with `empty`."""
        width = int(self.counts.max(initial=0))
        starts = np.cumsum(self.counts) - self.counts
        places = np.arange(len(self.rows)) + np.repeat(np.arange(len(self.counts)) * width - starts, self.counts)
        table = np.full((len(self.counts), width), empty, values.dtype)
        table.ravel()[places] = values
        return table

    def least(self, values: Floats, m: int) -> Floats:
        """[n]: the m-th largest value of each row; -inf where it has fewer."""
        table = self.spread(values, np.float32(-np.inf))
        if table.shape[1] < m:
            return np.full(len(table), -np.inf, np.float32)
        return np.asarray(table.max(axis=1) if m == 1 else np.partition(table, -m, axis=1)[:, -m])

    def ranked(self, values: Floats, m: int) -> tuple[NDArray[np.int64], Floats]:
        """The m columns of each row with the largest values, best first, and those values; equal ones by the lower column. Of
        rows without m columns it means nothing. Columns are below 2^32, and no value is -0."""
        bits = values.view(np.int32)
        order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)   # integers in the order of the floats
        keys = self.spread((order << 32) | (LAST - self.columns), np.int64(-1 << 63))
        if keys.shape[1] < m:
            keys = np.pad(keys, ((0, 0), (0, m - keys.shape[1])), constant_values=-1 << 63)
        keys = np.sort(keys, axis=1)[:, : -m - 1 : -1]   # numpy sorts short rows of integers with vectors
        order = (keys >> 32).astype(np.int32)
        return LAST - (keys & LAST), (order ^ ((order >> 31) & 0x7FFFFFFF)).view(np.float32)


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
