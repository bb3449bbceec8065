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

from pipeline.models.matrices.torch_or_numpy import can_pair, cell_products
from pipeline.search.device_centres import DeviceCentres, Window
from pipeline.search.kernels import LEADERS, TOP, FlatCentres, Listing, kernel_for, leaders, tolerance
from pipeline.search.kernels import Centres as Centres
from pipeline.search.kernels import Kernel as Kernel
from pipeline.search.kernels import kernel as kernel
from pipeline.search.largest import Shortlist
from pipeline.vectors import CACHED_ROWS, Doubles, Floats, Ids, Ints

SPARE = 3            # candidates beyond those asked for
ROWS = 8192          # searched at a time
HOPELESS = 0.5       # share of rows left unresolved from which on lists do not pay
LISTED = 1024        # rows whose shortlists are held at once
MEASURED = 512       # pairs measured at a time by numpy: they stay in the cache
FEW = 4096           # pairs that numpy multiplies in any case
WIDE = 4 << 20       # values of all centres that are made wider at once: 32 MB
CANDIDATES = 1 << 20  # of all rows that are searched again at once
CELL_ROWS = 32       # rows of one centre that share a product in `assigned_near`
CELL_VALUES = 1 << 19   # of the rows or centres of such products at once: 2 MB
SMALL = 1 << 31      # multiplications below which a plain array of centres is not worth a faster kernel


def nearest(x: Window, centres: Centres | Floats, l: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The l of the centres f32[k, d] with the largest inner product for each row of f32[n, d]: ids i32[n, l] and inner products
    f32[n, l], best first.

    Equal float32 values rank by the lower id. Raises ValueError unless 1 <= l <= k and everything is finite.
    """
    ready = _ready(centres, len(x)) if isinstance(centres, np.ndarray) else centres
    if not 1 <= l <= len(ready.vectors):
        raise ValueError(f"asked for the {l} nearest of {len(ready.vectors)} centres")
    if isinstance(ready, DeviceCentres):
        return ready.nearest(x, l)
    x = np.ascontiguousarray(x, np.float32)
    return _nearest(x, kernel_for(ready, TOP, len(x)), l, tolerance(x, ready.vectors))


def _nearest(x: Floats, centres: Centres, l: int, allowed: float) -> tuple[Ids, Floats]:  # noqa: E741
    ids, values = np.empty((len(x), l), np.int32), np.empty((len(x), l), np.float32)
    exact, unresolved = ExactProducts.of(x, centres.vectors, allowed, l), np.ones(len(x), np.bool_)
    for part, shortlist in _lists(x, centres, l, allowed):
        ids[part], values[part] = _ranked(exact.of_rows(part), shortlist, l)
        unresolved[part] = shortlist.counts == 0
    remaining = np.flatnonzero(unresolved)
    plain = centres.plain if isinstance(centres, Listing) else centres
    for at in range(0, len(remaining), ROWS):
        rows = remaining[at : at + ROWS]
        ids[rows], values[rows] = _searched(exact.of_rows(rows), plain, l, l + SPARE)
    return ids, values


def assigned(x: Window, centres: Centres) -> Ids:
    """i32[n]: the nearest centre of each row of f32[n, d], as `nearest` finds it, without its value; only near ties are measured
    again. Raises ValueError where a value is not finite."""
    if isinstance(centres, DeviceCentres):
        return centres.assigned(x)
    x = np.ascontiguousarray(x, np.float32)
    return _assigned(x, kernel_for(centres, LEADERS, len(x)), tolerance(x, centres.vectors))


def _assigned(x: Floats, centres: Centres, allowed: float) -> Ids:
    assignment = np.empty(len(x), np.int32)
    exact, unresolved = ExactProducts(x, centres.vectors, allowed), np.ones(len(x), np.bool_)
    for part, shortlist in _lists(x, centres, 1, allowed):
        assignment[part.start + shortlist.rows] = shortlist.columns
        close = np.flatnonzero(shortlist.counts > 1)
        if len(close):
            assignment[part.start + close] = _ranked(exact.of_rows(part.start + close), shortlist.of_rows(close), 1)[0][:, 0]
        unresolved[part] = shortlist.counts == 0
    remaining = np.flatnonzero(unresolved)
    plain = centres.plain if isinstance(centres, Listing) else centres
    for at in range(0, len(remaining), ROWS):
        rows = remaining[at : at + ROWS]
        ids, lead = leaders(plain, x[rows] if len(rows) < len(x) else x)
        assignment[rows] = ids
        close = rows[np.flatnonzero(lead <= allowed)]
        if len(close):
            assignment[close] = _searched(exact.of_rows(close), plain, 1, 1 + SPARE)[0][:, 0]
    return assignment


def _lists(x: Floats, centres: Centres, sure: int, allowed: float) -> Iterator[tuple[slice, Shortlist]]:
    """(rows, their shortlist by `Listing.listed`), LISTED rows at a time, as long as it pays."""
    for at in range(0, len(x) if isinstance(centres, Listing) else 0, LISTED):
        assert isinstance(centres, Listing)
        part = slice(at, min(at + LISTED, len(x)))
        shortlist = centres.listed(x[part], sure, allowed)
        yield part, shortlist
        if (shortlist.counts == 0).mean() > HOPELESS:
            return


def assigned_near(x: Window, centres: Centres, neighbours: Ids, previous: Ids) -> Ids:
    """i32[n]: for each row of f32[n, d] the nearest of the centres `neighbours[previous[i]]` (i32[k, m] at i32[n]), by the rule of
    `nearest`. Raises ValueError where a value is not finite.

    Rows of one previous centre are multiplied with its neighbours together. Beside x a few megabytes are held.
    """
    if isinstance(centres, DeviceCentres):
        return centres.assigned_near(x, neighbours, previous)
    x, vectors = np.ascontiguousarray(x, np.float32), centres.vectors
    allowed = tolerance(x, vectors)
    ids = np.empty(len(x), np.int32)
    cells, members = _cells(previous, len(vectors))
    close: list[Ints] = []
    candidates: list[Shortlist] = []
    step = max(1, CELL_VALUES // (max(CELL_ROWS, neighbours.shape[1]) * x.shape[1]))
    for at in range(0, len(cells), step):
        rows, near = members[at : at + step], neighbours[cells[at : at + step]]
        values = cell_products(x, vectors, rows, near).reshape(rows.size, near.shape[1])
        line, best = np.arange(rows.size), values.argmax(axis=1)
        cell, row = line // CELL_ROWS, rows.ravel()
        ids[row] = near[cell, best]
        threshold = values[line, best] - np.float32(allowed)
        values[line, best] = -np.inf
        tied = np.flatnonzero(values.max(axis=1) >= threshold)
        if len(tied):
            mask = values[tied] >= threshold[tied, None]
            mask[np.arange(len(tied)), best[tied]] = True
            shortlist = Shortlist.where(mask)
            close.append(row[tied])
            candidates.append(replace(shortlist, columns=near[cell[tied][shortlist.rows], shortlist.columns].astype(np.int64)))
    if close:
        ambiguous = np.concatenate(close)
        ids[ambiguous] = _ranked(ExactProducts(x[ambiguous], vectors, allowed), Shortlist.joined(candidates), 1)[0][:, 0]
    return ids


def _cells(previous: Ids, k: int) -> tuple[Ints, Ints]:
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


def _searched(exact: "ExactProducts", centres: Centres, l: int, m: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The best l of each row's m candidates, and of ever more where the last of them may be better than it looks."""
    m = min(m, len(centres.vectors))
    candidates, rough = centres.candidates(exact.x, m)
    in_reach = rough >= rough[:, l - 1 : l] - np.float32(exact.allowed)
    shortlist = Shortlist.where(in_reach)
    ids, values = _ranked(exact, replace(shortlist, columns=candidates[shortlist.rows, shortlist.columns]), l)
    unsure = np.flatnonzero(in_reach[:, -1]) if m < len(centres.vectors) else np.empty(0, np.int64)
    step = max(1, CANDIDATES // (8 * m))
    for at in range(0, len(unsure), step):
        rows = unsure[at : at + step]
        ids[rows], values[rows] = _searched(exact.of_rows(rows), centres, l, 8 * m)
    return ids, values


@dataclass(frozen=True)
class ExactProducts:
    """Exact inner products of pairs of a row of f32[n, d] and a centre of f32[k, d]; `allowed` is their tolerance in float32."""

    x: Floats
    vectors: Floats
    allowed: float
    wide: Doubles | None = None
    """f64[k, d]: the centres, where they were converted at once."""

    @classmethod
    def of(cls, x: Floats, vectors: Floats, allowed: float, l: int) -> "ExactProducts":  # noqa: E741
        """For l pairs of each row: the centres are converted to float64 at once where most of them are used and they are few."""
        return cls(x, vectors, allowed, vectors.astype(np.float64) if len(x) * l >= len(vectors) and vectors.size <= WIDE else None)

    def of_rows(self, rows: slice | Ints) -> "ExactProducts":
        """The same centres with these rows alone."""
        return replace(self, x=self.x[rows])

    def measured(self, shortlist: Shortlist) -> Floats:
        """f32[p]: the inner product of each candidate's row and centre: the exact one, rounded to float64, then float32.

        Products of two float32 are exact in float64; their sum is off by less than d * 2^-53 * |x| * |c|, which is less than
        the tolerance * 2^-29. Where that could decide how the sum is rounded, it is formed exactly.
        """
        sums, error = self._sums(shortlist), self.allowed * 2.0**-29
        values: Floats = sums.astype(np.float32)
        close = np.flatnonzero((sums - error).astype(np.float32) != (sums + error).astype(np.float32))
        for at in range(0, len(close), MEASURED):
            part = close[at : at + MEASURED]
            rows, centres = self.x[shortlist.rows[part]].astype(np.float64), self.vectors[shortlist.columns[part]]
            products = rows * centres
            sure = products.any(axis=1)   # of a zero row nothing is off
            values[part[sure]] = [math.fsum(row) for row in products[sure]]
        values += np.float32(0)   # no -0, which ranks lower and is the same
        return values

    def _sums(self, shortlist: Shortlist) -> Doubles:
        sums, starts = np.empty(len(shortlist.rows)), shortlist.starts
        if len(sums) < FEW or not can_pair(len(sums) * self.x.shape[1]):
            for at in range(0, len(sums), MEASURED):
                rows, columns = shortlist.rows[at : at + MEASURED], shortlist.columns[at : at + MEASURED]
                sums[at : at + MEASURED] = np.vecdot(self.x[rows].astype(np.float64), self.vectors[columns].astype(np.float64))
            return sums
        from pipeline.models.matrices.pairs import pair_products  # torch takes seconds to import

        for at in range(0, len(shortlist.counts), CACHED_ROWS):
            ends = starts[at : at + CACHED_ROWS + 1]
            part = slice(ends[0], ends[-1])
            columns, wide = shortlist.columns[part], self.wide
            if wide is None:
                used, columns = np.unique(columns, return_inverse=True)
                wide = self.vectors[used].astype(np.float64)
            block = self.x[at : at + CACHED_ROWS].astype(np.float64)
            sums[part] = pair_products(block, wide, ends - ends[0], columns)
        return sums


def _ranked(exact: ExactProducts, shortlist: Shortlist, l: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The best l of each row's candidates, by exact inner product."""
    ids, values = shortlist.ranked(exact.measured(shortlist), l)
    return ids.astype(np.int32), values
