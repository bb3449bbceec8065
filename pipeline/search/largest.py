"""The few largest of a row's many scores, without sorting them: first a bound that few exceed, then those that do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.search.heaps import Heaps
from pipeline.vectors import Bools, Floats, Ints

Scalar = TypeVar("Scalar", bound=np.generic)

LAST = (1 << 32) - 1
GROUPS = 16   # for each score asked for, at least: of so many groups, two of the largest seldom share one


def bound_of(scores: NDArray[Any], m: int) -> NDArray[Any]:
    """A lower bound of the m-th largest of each row's scores [n, k], m <= k: [n], of the same dtype. At least m scores of the row
    reach it, and few more do: it is the m-th largest of the maxima of groups."""
    if m == 1:
        return np.asarray(scores.max(axis=1))
    while scores.shape[1] >= 2 * GROUPS * m:   # an odd last column is left out: the bound is a little lower
        half = scores.shape[1] // 2
        scores = np.maximum(scores[:, :half], scores[:, half : 2 * half])
    wide = scores.astype(np.int32) if scores.dtype == np.uint8 else scores   # numpy parts 32 bits three times as fast
    return np.asarray(np.partition(wide, wide.shape[1] - m, axis=1)[:, wide.shape[1] - m])


@dataclass(frozen=True)
class Shortlist:
    """The columns of each of n rows that are still candidates, row after row, ascending: a ragged table."""

    rows: Ints
    """i64[p]: the row of each candidate."""
    columns: Ints
    """i64[p]: its column."""
    counts: Ints
    """i64[n]: candidates of each row."""

    @classmethod
    def where(cls, mask: Bools) -> "Shortlist":
        """The columns at which the mask bool[n, k] is set."""
        n, k = mask.shape
        places = np.flatnonzero(mask)
        counts = np.diff(np.searchsorted(places, np.arange(n + 1) * k))   # to divide so many numbers takes longer
        rows = np.repeat(np.arange(n), counts)
        return cls(rows, places - rows * k, counts)

    @classmethod
    def empty(cls, n: int) -> "Shortlist":
        """No candidate for any of n rows."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.zeros(n, np.int64))

    @classmethod
    def joined(cls, parts: Sequence["Shortlist"]) -> "Shortlist":
        """The shortlists of consecutive rows as one."""
        counts = np.concatenate([part.counts for part in parts])
        return cls(np.repeat(np.arange(len(counts)), counts), np.concatenate([part.columns for part in parts]), counts)

    @property
    def starts(self) -> Ints:
        """i64[n + 1]: the candidates of row i are those from starts[i] to starts[i + 1] - 1."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def among(self, kept: Bools) -> "Shortlist":
        """The candidates at bool[p] alone."""
        kept_before = np.concatenate([[0], np.cumsum(kept)])
        return Shortlist(self.rows[kept], self.columns[kept], np.diff(kept_before[self.starts]))

    def of_rows(self, rows: Ints) -> "Shortlist":
        """The shortlist of these rows, i64[n'] ascending, which become rows 0..n' - 1."""
        mask = np.zeros(len(self.counts), np.bool_)
        mask[rows] = True
        kept, counts = np.repeat(mask, self.counts), self.counts[rows]
        return Shortlist(np.repeat(np.arange(len(rows)), counts), self.columns[kept], counts)

    def only(self, keep: Bools) -> "Shortlist":
        """Without the candidates of rows that are not to keep (bool[n]); the rows stay, with none."""
        if keep.all():
            return self
        kept = np.repeat(keep, self.counts)
        return Shortlist(self.rows[kept], self.columns[kept], np.where(keep, self.counts, 0))

    def table(self, values: Floats) -> tuple[Ints, Floats]:
        """The columns, and a value for each candidate (f32[p]), as tables i64 and f32 [n, largest count], filled up with -1 and
        -inf."""
        return self.spread(self.columns, np.int64(-1)), self.spread(values, np.float32(-np.inf))

    def spread(self, values: NDArray[Scalar], empty: Scalar) -> NDArray[Scalar]:
        """A value for each candidate, [p], as a table [n, largest count], filled up with `empty`."""
        width = int(self.counts.max(initial=0))
        starts = np.cumsum(self.counts) - self.counts
        places = np.arange(len(self.rows)) + np.repeat(np.arange(len(self.counts)) * width - starts, self.counts)
        table = np.full((len(self.counts), width), empty, values.dtype)
        table.ravel()[places] = values
        return table

    def mth_largest(self, values: Floats, m: int) -> Floats:
        """f32[n]: the m-th largest of each row's values (f32[p], one for each candidate); -inf where it has fewer."""
        table = self.spread(values, np.float32(-np.inf))
        if table.shape[1] < m:
            return np.full(len(table), -np.inf, np.float32)
        return np.asarray(table.max(axis=1) if m == 1 else np.partition(table, -m, axis=1)[:, -m])

    def ranked(self, values: Floats, m: int) -> tuple[Ints, Floats]:
        """The m columns of each row with the largest values (f32[p], one for each candidate): i64[n, m] and f32[n, m], best first,
        equal values by the lower column. Rows with fewer than m candidates get meaningless values. Columns are below 2^32, and
        no value is -0."""
        bits = values.view(np.int32)
        order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)   # integers in the order of the floats
        keys = self.spread((order << 32) | (LAST - self.columns), np.int64(-1 << 63))
        if keys.shape[1] < m:
            keys = np.pad(keys, ((0, 0), (0, m - keys.shape[1])), constant_values=-1 << 63)
        keys = np.sort(keys, axis=1)[:, : -m - 1 : -1]   # numpy sorts short rows of integers with vectors
        order = (keys >> 32).astype(np.int32)
        return LAST - (keys & LAST), (order ^ ((order >> 31) & 0x7FFFFFFF)).view(np.float32)


def best(columns: Ints, values: Floats, m: int) -> tuple[Ints, Floats]:
    """The columns i64[n, m] and values f32[n, m] of the m largest values of each row of a table f32[n, w], which is overwritten;
    `columns`, i64[n, w], are its columns. Largest first; -1 and -inf where a row has fewer."""
    if m > 2:
        heaps = Heaps.of(len(values), m)
        heaps.add(values)
        places, largest = heaps.best()
        full = largest[:, -1:] > -np.inf   # a place is that of a column only where there was one
        return (np.take_along_axis(columns, places * full, 1) if columns.size else places), largest
    places, largest = np.full((len(values), m), -1, np.int64), np.full((len(values), m), -np.inf, np.float32)
    line = np.arange(len(values))
    for rank in range(min(m, values.shape[1])):
        place = values.argmax(axis=1)
        places[:, rank], largest[:, rank] = columns[line, place], values[line, place]
        values[line, place] = -np.inf
    return places, largest
