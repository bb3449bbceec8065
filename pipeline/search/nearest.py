"""Exact nearest centres by cosine, the same bits for any block size, number of threads or kernel.

A fast kernel (`kernels.py`) proposes a few centres more than asked for; the winners are measured again, one pair at a
time, and ranked by that value: the inner product in float64 (by an exact sum where the order of summation could show),
rounded to float32. Rows where the kernel's rounding could have hidden a winner are asked for again, with more
candidates.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.search.device_centres import DeviceCentres, Window
from pipeline.search.kernels import LEADERS, TOP, FlatCentres, Listing, chosen, leaders, tolerance
from pipeline.search.kernels import Centres as Centres
from pipeline.search.kernels import Kernel as Kernel
from pipeline.search.kernels import kernel as kernel
from pipeline.search.largest import Left
from pipeline.vectors import CACHED_ROWS, Floats, Ids

SPARE = 3            # candidates beyond those asked for
ROWS = 8192          # searched at a time
HOPELESS = 0.5       # share of rows left open from which on lists do not pay
LISTED = 1024        # rows whose lists of centres are held at once
MEASURED = 512       # pairs measured at a time by numpy: they stay in the cache
FEW = 4096           # pairs for which torch is not imported
WIDE = 4 << 20       # values of all centres that are made wider at once: 32 MB
CANDIDATES = 1 << 20  # of all rows that are searched again at once
CELL_ROWS = 32       # rows of one centre that share a product in `assigned_near`
CELL_VALUES = 1 << 19   # of the rows or centres of such products at once: 2 MB
SMALL = 1 << 31      # multiplications below which a plain array of centres is not worth a faster kernel


def nearest(x: Window, centres: Centres | Floats, l: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The l centres with the largest inner product for each row: ids i32[n, l] and values f32[n, l], best first.

    Equal float32 values rank by the lower id. Raises ValueError unless 1 <= l <= k and everything is finite.
    """
    ready = _ready(centres, len(x)) if isinstance(centres, np.ndarray) else centres
    if not 1 <= l <= len(ready.vectors):
        raise ValueError(f"asked for the {l} nearest of {len(ready.vectors)} centres")
    if isinstance(ready, DeviceCentres):
        return ready.nearest(x, l)
    x = np.ascontiguousarray(x, np.float32)
    return _nearest(x, chosen(ready, TOP, len(x)), l, tolerance(x, ready.vectors))


def _nearest(x: Floats, centres: Centres, l: int, allowed: float) -> tuple[Ids, Floats]:  # noqa: E741
    ids, values = np.empty((len(x), l), np.int32), np.empty((len(x), l), np.float32)
    pairs, open_ = Pairs.of(x, centres.vectors, allowed, l), np.ones(len(x), np.bool_)
    for part, left in _lists(x, centres, l, allowed):
        ids[part], values[part] = _ranked(pairs.of_rows(part), left, l)
        open_[part] = left.counts == 0
    again = np.flatnonzero(open_)
    plain = centres.plain if isinstance(centres, Listing) else centres
    for at in range(0, len(again), ROWS):
        rows = again[at : at + ROWS]
        ids[rows], values[rows] = _searched(pairs.of_rows(rows), plain, l, l + SPARE)
    return ids, values


def assigned(x: Window, centres: Centres) -> Ids:
    """i32[n]: the nearest centre of each row, as `nearest` finds it, without its value; only near ties are measured again."""
    if isinstance(centres, DeviceCentres):
        return centres.assigned(x)
    x = np.ascontiguousarray(x, np.float32)
    return _assigned(x, chosen(centres, LEADERS, len(x)), tolerance(x, centres.vectors))


def _assigned(x: Floats, centres: Centres, allowed: float) -> Ids:
    found = np.empty(len(x), np.int32)
    pairs, open_ = Pairs(x, centres.vectors, allowed), np.ones(len(x), np.bool_)
    for part, left in _lists(x, centres, 1, allowed):
        found[part.start + left.rows] = left.columns
        close = np.flatnonzero(left.counts > 1)
        if len(close):
            found[part.start + close] = _ranked(pairs.of_rows(part.start + close), left.of_rows(close), 1)[0][:, 0]
        open_[part] = left.counts == 0
    again = np.flatnonzero(open_)
    plain = centres.plain if isinstance(centres, Listing) else centres
    for at in range(0, len(again), ROWS):
        rows = again[at : at + ROWS]
        ids, lead = leaders(plain, x[rows] if len(rows) < len(x) else x)
        found[rows] = ids
        close = rows[np.flatnonzero(lead <= allowed)]
        if len(close):
            found[close] = _searched(pairs.of_rows(close), plain, 1, 1 + SPARE)[0][:, 0]
    return found


def _lists(x: Floats, centres: Centres, sure: int, allowed: float) -> Iterator[tuple[slice, Left]]:
    """(rows, `Listing.listed` of them) of some rows at a time, as long as it pays."""
    for at in range(0, len(x) if isinstance(centres, Listing) else 0, LISTED):
        assert isinstance(centres, Listing)
        part = slice(at, min(at + LISTED, len(x)))
        left = centres.listed(x[part], sure, allowed)
        yield part, left
        if (left.counts == 0).mean() > HOPELESS:
            return


def assigned_near(x: Window, centres: Centres, neighbours: Ids, previous: Ids) -> Ids:
    """i32[n]: the nearest of the centres `neighbours[previous[i]]` (i32[k, m]) for each row i, by the rule of `nearest`.

    Rows of one previous centre are multiplied with its neighbours together. Beside x a few megabytes are held.
    """
    if isinstance(centres, DeviceCentres):
        return centres.assigned_near(x, neighbours, previous)
    from pipeline.models.matrices.pairs import cell_products  # torch takes seconds to import

    x, vectors = np.ascontiguousarray(x, np.float32), centres.vectors
    allowed = tolerance(x, vectors)
    found = np.empty(len(x), np.int32)
    cells, members = _cells(previous, len(vectors))
    close: list[NDArray[np.int64]] = []
    candidates: list[Left] = []
    step = max(1, CELL_VALUES // (max(CELL_ROWS, neighbours.shape[1]) * x.shape[1]))
    for at in range(0, len(cells), step):
        rows, near = members[at : at + step], neighbours[cells[at : at + step]]
        values = cell_products(x, vectors, rows, near).reshape(rows.size, near.shape[1])
        line, best = np.arange(rows.size), values.argmax(axis=1)
        cell, row = line // CELL_ROWS, rows.ravel()
        found[row] = near[cell, best]
        least = values[line, best] - np.float32(allowed)
        values[line, best] = -np.inf
        tied = np.flatnonzero(values.max(axis=1) >= least)
        if len(tied):
            mask = values[tied] >= least[tied, None]
            mask[np.arange(len(tied)), best[tied]] = True
            left = Left.where(mask)
            close.append(row[tied])
            candidates.append(replace(left, columns=near[cell[tied][left.rows], left.columns].astype(np.int64)))
    if close:
        again = np.concatenate(close)
        found[again] = _ranked(Pairs(x[again], vectors, allowed), Left.joined(candidates), 1)[0][:, 0]
    return found


def _cells(previous: Ids, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows by their previous centre, CELL_ROWS at a time: that centre, i64[c], and the rows, i64[c, CELL_ROWS]. The last
    rows of a centre are filled up with its last one."""
    order = np.argsort(previous, kind="stable")
    counts = np.bincount(previous, minlength=k)
    blocks = -(-counts // CELL_ROWS)
    cells = np.repeat(np.arange(k), blocks)
    number = np.arange(len(cells)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    within = number[:, None] * CELL_ROWS + np.arange(CELL_ROWS)
    start = np.cumsum(counts) - counts
    return cells, order[start[cells][:, None] + np.minimum(within, counts[cells][:, None] - 1)]


def _ready(centres: Floats, n: int) -> Centres:
    vectors = np.ascontiguousarray(centres, np.float32)
    return FlatCentres(vectors) if n * vectors.size < SMALL else kernel()(vectors)


def _searched(pairs: "Pairs", centres: Centres, l: int, m: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The best l of each row's m candidates, and of ever more where the last of them may be better than it looks."""
    m = min(m, len(centres.vectors))
    candidates, rough = centres.candidates(pairs.x, m)
    in_reach = rough >= rough[:, l - 1 : l] - np.float32(pairs.allowed)
    left = Left.where(in_reach)
    ids, values = _ranked(pairs, replace(left, columns=candidates[left.rows, left.columns]), l)
    unsure = np.flatnonzero(in_reach[:, -1]) if m < len(centres.vectors) else np.empty(0, np.int64)
    step = max(1, CANDIDATES // (8 * m))
    for at in range(0, len(unsure), step):
        rows = unsure[at : at + step]
        ids[rows], values[rows] = _searched(pairs.of_rows(rows), centres, l, 8 * m)
    return ids, values


@dataclass(frozen=True)
class Pairs:
    """Rows and centres to measure pairs of; `allowed` is their tolerance."""

    x: Floats
    vectors: Floats
    allowed: float
    wide: NDArray[np.float64] | None = None
    """The centres in float64, where they were made so."""

    @classmethod
    def of(cls, x: Floats, vectors: Floats, allowed: float, l: int) -> "Pairs":  # noqa: E741
        """For l pairs of each row: the centres are made wider at once where most are used, and that is not much."""
        return cls(x, vectors, allowed, vectors.astype(np.float64) if len(x) * l >= len(vectors) and vectors.size <= WIDE else None)

    def of_rows(self, rows: slice | NDArray[np.int64]) -> "Pairs":
        return replace(self, x=self.x[rows])

    def measured(self, left: Left) -> Floats:
        """Inner products of each row with its columns: the exact ones, rounded to float64, then float32.

        Products of two float32 are exact in float64; their sum is off by less than d * 2^-53 * |x| * |c|, which is less than
        the tolerance * 2^-29. Where that could decide how the sum is rounded, it is formed exactly.
        """
        sums, error = self._sums(left), self.allowed * 2.0**-29
        found: Floats = sums.astype(np.float32)
        close = np.flatnonzero((sums - error).astype(np.float32) != (sums + error).astype(np.float32))
        for at in range(0, len(close), MEASURED):
            some = close[at : at + MEASURED]
            rows, others = self.x[left.rows[some]].astype(np.float64), self.vectors[left.columns[some]]
            products = rows * others
            sure = products.any(axis=1)   # of a zero row nothing is off
            found[some[sure]] = [math.fsum(row) for row in products[sure]]
        found += np.float32(0)   # no -0, which ranks lower and is the same
        return found

    def _sums(self, left: Left) -> NDArray[np.float64]:
        sums, starts = np.empty(len(left.rows)), left.starts
        if len(sums) < FEW or not _pairing():
            for at in range(0, len(sums), MEASURED):
                rows, columns = left.rows[at : at + MEASURED], left.columns[at : at + MEASURED]
                sums[at : at + MEASURED] = np.vecdot(self.x[rows].astype(np.float64), self.vectors[columns].astype(np.float64))
            return sums
        from pipeline.models.matrices.pairs import pair_products

        for at in range(0, len(left.counts), CACHED_ROWS):
            ends = starts[at : at + CACHED_ROWS + 1]
            part = slice(ends[0], ends[-1])
            columns, wide = left.columns[part], self.wide
            if wide is None:
                used, columns = np.unique(columns, return_inverse=True)
                wide = self.vectors[used].astype(np.float64)
            some = self.x[at : at + CACHED_ROWS].astype(np.float64)
            sums[part] = pair_products(some, wide, ends - ends[0], columns)
        return sums


def _pairing() -> bool:
    from pipeline.models.matrices.pairs import can_pair  # torch takes seconds to import

    return can_pair()


def _ranked(pairs: Pairs, left: Left, l: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The best l of each row's columns, by exact value."""
    ids, values = left.ranked(pairs.measured(left), l)
    return ids.astype(np.int32), values
