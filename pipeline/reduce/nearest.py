"""Exact nearest centres by cosine, the same bits for any block size, number of threads or kernel.

A fast kernel (here FAISS; any that returns candidates will do) proposes a few centres more than asked for; the winners
are then measured again in float64, one pair at a time, and ranked by that value. Rows where the kernel's rounding could
have hidden a winner are measured against every centre.
"""

from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Kernel = Callable[[Floats, Floats, int], tuple[NDArray[np.int64], Floats]]
"""(rows f32[n, d], centres f32[k, d], m) -> (ids i64[n, m], inner products f32[n, m]), best first, m <= k."""

SPARE = 3          # candidates beyond those asked for
KERNEL_ROWS = 4096
PAIR_VALUES = 1 << 22   # float64 values in one re-ranking block: 32 MB
ROUNDING = 2.0**-24     # unit roundoff of float32


def unit(rows: NDArray[np.floating]) -> Floats:
    """Rows at length 1, float32, computed in float64 (stored float16 embeddings are only nearly unit). Zero rows stay zero."""
    wide = np.asarray(rows, np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.asarray(wide / np.where(length == 0, 1, length), np.float32)


def flat_kernel(rows: Floats, centres: Floats, m: int) -> tuple[NDArray[np.int64], Floats]:
    """FAISS's exhaustive inner-product search."""
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    parts = [index.search(rows[at : at + KERNEL_ROWS], m) for at in range(0, len(rows), KERNEL_ROWS)]
    return np.concatenate([ids for _, ids in parts]), np.concatenate([values for values, _ in parts])


def nearest(x: Floats, centres: Floats, l: int, kernel: Kernel = flat_kernel) -> tuple[NDArray[np.int32], Floats]:  # noqa: E741
    """The l centres with the largest inner product for each row: ids i32[n, l] and values f32[n, l], best first.

    Equal float32 values rank by the lower id. Raises ValueError unless 1 <= l <= k and everything is finite.
    """
    x, centres = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(centres, np.float32)
    if not 1 <= l <= len(centres):
        raise ValueError(f"asked for the {l} nearest of {len(centres)} centres")
    if not (np.isfinite(x).all() and np.isfinite(centres).all()):
        raise ValueError("rows and centres must be finite; leave out rows whose embedding is not valid")
    if not len(x):
        return np.empty((0, l), np.int32), np.empty((0, l), np.float32)
    m = min(l + SPARE, len(centres))
    candidates, rough = kernel(x, centres, m)
    # Both ends of a comparison may be off by d * u * |x| * |c|; what lies farther below the l-th best cannot win.
    tolerance = 4 * x.shape[1] * ROUNDING * _longest(x) * _longest(centres)
    in_reach = rough >= rough[:, l - 1 : l] - tolerance
    ids, values = _ranked(x, centres, candidates, in_reach, l)
    unsure = np.flatnonzero(in_reach[:, -1]) if m < len(centres) else np.empty(0, np.int64)
    step = max(1, PAIR_VALUES // len(centres))
    for at in range(0, len(unsure), step):
        rows = unsure[at : at + step]
        every = np.broadcast_to(np.arange(len(centres)), (len(rows), len(centres)))
        ids[rows], values[rows] = _ranked(x[rows], centres, every, np.ones(every.shape, bool), l)
    return ids, values


def _longest(rows: Floats) -> float:
    return float(np.sqrt((rows * rows).sum(axis=1).max()))


def _ranked(
    x: Floats, centres: Floats, candidates: NDArray[np.int64], measured: NDArray[np.bool_], l: int,  # noqa: E741
) -> tuple[NDArray[np.int32], Floats]:
    """The best l of each row's measured candidates, one pair at a time in float64 (so that blocks change no bit)."""
    values = np.full(candidates.shape, -np.inf, np.float32)
    rows, columns = np.nonzero(measured)
    step = max(1, PAIR_VALUES // x.shape[1])
    for at in range(0, len(rows), step):
        row, column = rows[at : at + step], columns[at : at + step]
        values[row, column] = (x[row].astype(np.float64) * centres[candidates[row, column]]).sum(axis=1)
    order = np.lexsort((candidates, -values), axis=1)[:, :l]
    return np.take_along_axis(candidates, order, 1).astype(np.int32), np.take_along_axis(values, order, 1)
