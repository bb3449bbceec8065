"""Exact nearest centres by cosine, the same bits for any block size, number of threads or kernel.

A fast kernel (`kernels.py`) proposes a few centres more than asked for; the winners are measured again, one pair at a
time, and ranked by that value: the inner product in float64 (by an exact sum where the order of summation could show),
rounded to float32. Rows where the kernel's rounding could have hidden a winner are asked for again, with more
candidates.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.device_centres import DeviceCentres, Window
from pipeline.reduce.kernels import Centres as Centres
from pipeline.reduce.kernels import FlatCentres, leaders, tolerance
from pipeline.reduce.kernels import Floats as Floats
from pipeline.reduce.kernels import Kernel as Kernel
from pipeline.reduce.kernels import kernel as kernel

Ids = NDArray[np.int32]

SPARE = 3            # candidates beyond those asked for
ROWS = 8192          # searched at a time
CACHED = 1024       # rows made wider at a time
MEASURED = 64        # rows measured at a time: their candidates stay in the cache
CANDIDATES = 1 << 20  # of all rows that are searched again at once
CELL_ROWS = 16       # rows of one centre that share a product in `assigned_near`
SMALL = 1 << 31      # multiplications below which a plain array of centres is not worth a faster kernel


def unit(rows: NDArray[np.floating]) -> Floats:
    """Rows at length 1, float32, computed in float64 (stored float16 embeddings are only nearly unit). Zero rows stay zero."""
    result = np.empty(rows.shape, np.float32)
    for at in range(0, len(rows), CACHED):
        wide = np.asarray(rows[at : at + CACHED], np.float64)
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        result[at : at + CACHED] = wide / np.where(length == 0, 1, length)
    return result


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
    allowed = tolerance(x, ready.vectors)
    ids, values = np.empty((len(x), l), np.int32), np.empty((len(x), l), np.float32)
    for at in range(0, len(x), ROWS):
        part = slice(at, at + ROWS)
        ids[part], values[part] = _searched(x[part], ready, l, l + SPARE, allowed)
    return ids, values


def assigned(x: Window, centres: Centres) -> Ids:
    """i32[n]: the nearest centre of each row, as `nearest` finds it, without its value; only near ties are measured again."""
    if isinstance(centres, DeviceCentres):
        return centres.assigned(x)
    x = np.ascontiguousarray(x, np.float32)
    allowed = tolerance(x, centres.vectors)
    found = np.empty(len(x), np.int32)
    for at in range(0, len(x), ROWS):
        rows = x[at : at + ROWS]
        ids, lead = leaders(centres, rows)
        found[at : at + ROWS] = ids
        close = np.flatnonzero(lead <= allowed)
        if len(close):
            found[at + close] = _searched(rows[close], centres, 1, 1 + SPARE, allowed)[0][:, 0]
    return found


def assigned_near(x: Window, centres: Centres, neighbours: Ids, previous: Ids) -> Ids:
    """i32[n]: the nearest of the centres `neighbours[previous[i]]` (i32[k, m]) for each row i, by the rule of `nearest`.

    Rows of one previous centre are multiplied with its neighbours together. Beside x a few megabytes are held.
    """
    if isinstance(centres, DeviceCentres):
        return centres.assigned_near(x, neighbours, previous)
    x, vectors = np.ascontiguousarray(x, np.float32), centres.vectors
    allowed = tolerance(x, vectors)
    found = np.empty(len(x), np.int32)
    cells, members = _cells(previous, len(vectors))
    step = max(1, CANDIDATES // (max(CELL_ROWS, neighbours.shape[1]) * x.shape[1]))
    for at in range(0, len(cells), step):
        rows, near = members[at : at + step], neighbours[cells[at : at + step]]
        values = x[rows] @ vectors[near].transpose(0, 2, 1)
        best = values.argmax(axis=2)[:, :, None]
        found[rows] = np.take_along_axis(near, best[:, :, 0], 1)
        lead = np.take_along_axis(values, best, 2)[:, :, 0]
        np.put_along_axis(values, best, -np.inf, 2)
        lead -= values.max(axis=2)
        cell, column = np.nonzero(lead <= allowed)
        if len(cell):
            close, candidates = rows[cell, column], near[cell].astype(np.int64)
            found[close] = _ranked(_Pairs(x[close], vectors, allowed), candidates, np.ones(candidates.shape, bool), 1)[0][:, 0]
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


def _searched(x: Floats, centres: Centres, l: int, m: int, allowed: float) -> tuple[Ids, Floats]:  # noqa: E741
    """The best l of each row's m candidates, and of ever more where the last of them may be better than it looks."""
    m = min(m, len(centres.vectors))
    candidates, rough = centres.candidates(x, m)
    in_reach = rough >= rough[:, l - 1 : l] - allowed
    ids, values = _ranked(_Pairs(x, centres.vectors, allowed), candidates, in_reach, l)
    unsure = np.flatnonzero(in_reach[:, -1]) if m < len(centres.vectors) else np.empty(0, np.int64)
    step = max(1, CANDIDATES // (8 * m))
    for at in range(0, len(unsure), step):
        rows = unsure[at : at + step]
        ids[rows], values[rows] = _searched(x[rows], centres, l, 8 * m, allowed)
    return ids, values


@dataclass(frozen=True)
class _Pairs:
    """Rows and centres to measure pairs of; `allowed` is their tolerance."""

    x: Floats
    vectors: Floats
    allowed: float

    def measured(self, rows: Any, ids: NDArray[np.int64]) -> Floats:
        """Inner products of x[rows], broadcast against the centres of these ids: the exact ones, rounded to float64, then float32.

        Products of two float32 are exact in float64; their sum is off by less than d * 2^-53 * |x| * |c|, which is less than
        the tolerance * 2^-29. Where that could decide how the sum is rounded, it is formed exactly.
        """
        wide, other = self.x[rows].astype(np.float64), self.vectors[ids].astype(np.float64)
        sums, error = np.vecdot(wide, other), self.allowed * 2.0**-29
        found: Floats = sums.astype(np.float32)
        close = ((sums - error).astype(np.float32) != (sums + error).astype(np.float32)) & wide.any(axis=-1)
        if close.any():
            products = np.broadcast_to(wide, other.shape)[close] * other[close]
            found[close] = [math.fsum(row) for row in products]
        return found


def _ranked(pairs: _Pairs, candidates: NDArray[np.int64], in_reach: NDArray[np.bool_], l: int) -> tuple[Ids, Floats]:  # noqa: E741
    """The best l of each row's candidates, of which the first l and those in reach are measured."""
    values = np.full(candidates.shape, -np.inf, np.float32)
    for at in range(0, len(values), MEASURED):
        some = np.arange(at, min(at + MEASURED, len(values)))
        values[some, :l] = pairs.measured(some[:, None], candidates[some, :l])
    rows, columns = np.nonzero(in_reach[:, l:])
    for at in range(0, len(rows), MEASURED * 8):
        row, column = rows[at : at + MEASURED * 8], columns[at : at + MEASURED * 8] + l
        values[row, column] = pairs.measured(row, candidates[row, column])
    ids, best = candidates[:, :l].astype(np.int32), values[:, :l].copy()
    falling = (best[:, 1:] < best[:, :-1]).all(axis=1)
    moved = np.flatnonzero(~falling | in_reach[:, l:].any(axis=1))
    order = np.lexsort((candidates[moved], -values[moved]), axis=1)[:, :l]
    ids[moved] = np.take_along_axis(candidates[moved], order, 1)
    best[moved] = np.take_along_axis(values[moved], order, 1)
    return ids, best
