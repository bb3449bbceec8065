"""Spherical k-means (science: one-step k-means over unit embeddings, MLCD, arXiv 2407.17331, section 3).

Every quantity that crosses a block is an integer: sums in fixed point round(x * 2^30), similarities likewise. Integer
sums do not depend on order, so any partition of the rows gives the same bits. The pure steps (`partial_sums`, `close`,
`refilled`) are what a distributed engine runs on its partitions; `fit` is the single-machine driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.nearest import Floats, nearest, unit
from pipeline.reduce.seeding import seeds

SCALE = 2**30   # fixed point: a coordinate of a unit vector fits 2^33 rows of one cluster in int64
BLOCK = 8192    # rows measured at a time


@dataclass(frozen=True)
class Fit:
    """Centroids and what the fit says about itself."""

    centroids: Floats
    """f32[k, d], unit length. k may be lower than asked for; see `reason`."""
    assignment: NDArray[np.int32]
    """i32[n]: the nearest of `centroids` for each row."""
    similarity: Floats
    """f32[n]: the cosine to it."""
    sizes: NDArray[np.int64]
    """i64[k]: rows of each cluster, none empty."""
    objective: tuple[float, ...]
    """Mean similarity of the rows to their centroid, per iteration."""
    refilled: tuple[int, ...]
    """Empty clusters given a new centroid, per iteration. The objective cannot fall otherwise."""
    converged: bool
    reason: str | None
    """Why k is lower than asked for; null when it is not."""


def partial_sums(x: Floats, assignment: NDArray[np.int32], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows per cluster (i64[k]) and their fixed-point vector sums (i64[k, d]) of one block of unit rows.

    Those of two blocks add up to those of both, whatever the order.
    """
    counts = np.bincount(assignment, minlength=k).astype(np.int64)
    sums = np.zeros((k, x.shape[1]), np.int64)
    order = np.argsort(assignment, kind="stable")
    used = np.flatnonzero(counts)
    starts = np.cumsum(counts)[used] - counts[used]
    if len(used):
        sums[used] = np.add.reduceat(fixed(x)[order], starts, axis=0)
    return counts, sums


def fixed(values: Floats) -> NDArray[np.int64]:
    """Values in [-1, 1] as fixed point."""
    return np.rint(np.asarray(values, np.float64) * SCALE).astype(np.int64)


def close(counts: NDArray[np.int64], sums: NDArray[np.int64], previous: Floats) -> Floats:
    """The next centroids: normalised sums. A cluster without rows, or whose rows cancel out, keeps its previous one."""
    moved = (counts > 0) & (sums != 0).any(axis=1)
    return np.where(moved[:, None], unit(sums / SCALE), previous)


def refilled(centroids: Floats, counts: NDArray[np.int64], farthest: Floats) -> Floats:
    """Empty clusters move to the rows farthest from their own centroid (f32[m, d], farthest first, different rows)."""
    empty = np.flatnonzero(counts == 0)[: len(farthest)]
    result = centroids.copy()
    result[empty] = farthest[: len(empty)]
    return result


def farthest_rows(x: Floats, similarity: Floats, m: int) -> Floats:
    """The m different rows least like their centroid; equal ones by the lower row. Rows on their centroid are no help."""
    chosen: dict[bytes, int] = {}
    for row in np.argsort(similarity, kind="stable") if m else []:
        if len(chosen) == m or similarity[row] >= 1 - 1e-6:
            break
        chosen.setdefault(x[row].tobytes(), int(row))
    return x[list(chosen.values())]


def fit(
    x: NDArray[np.floating], k: int, *, seed: int, iterations: int = 25, tolerance: float = 1e-4
) -> Fit:
    """k clusters of the rows of x (any float dtype, [n, d], none zero; lengths do not matter), seeded by k-means++.

    Where x has fewer than k different directions, k is lowered to their number and `reason` says so.
    Raises InputError without usable rows.
    """
    if k < 1:
        raise InputError(f"the number of clusters must be at least 1, not {k}")
    rows = unit_rows(x)
    start = seeds(rows, k, seed=seed)
    found = iterate(rows, start, iterations=iterations, tolerance=tolerance)
    if len(start) < k:
        reason = f"asked for {k} clusters, but the {len(rows)} rows have only {len(start)} different directions"
        return replace(found, reason=reason)
    return found


def iterate(
    x: NDArray[np.floating], start: Floats, *, iterations: int = 25, tolerance: float = 1e-4, block: int = BLOCK
) -> Fit:
    """Lloyd's iterations from these centres, until the objective grows by at most `tolerance` of itself.

    The result does not depend on `block`, the rows measured at a time.
    """
    rows, centroids = unit_rows(x), unit(start)
    objective: list[float] = []
    repairs: list[int] = []
    while True:
        state = _pass(rows, centroids, block)
        objective.append(int(fixed(state.similarity).sum()) / SCALE / len(rows))
        empty = int((state.counts == 0).sum())
        gain = objective[-1] - objective[-2] if len(objective) > 1 else np.inf
        converged = not empty and gain <= tolerance * abs(objective[-1])
        if converged or len(objective) > iterations:
            return _finished(centroids, state, (objective, repairs, converged))
        spare = farthest_rows(rows, state.similarity, empty)
        repairs.append(len(spare))
        centroids = refilled(close(state.counts, state.sums, centroids), state.counts, spare)


@dataclass(frozen=True)
class _Pass:
    """One look at every row: to which centroid it belongs, and what that adds up to."""

    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    assignment: NDArray[np.int32]
    similarity: Floats


def _pass(rows: Floats, centroids: Floats, block: int) -> _Pass:
    k = len(centroids)
    seen = _Pass(np.zeros(k, np.int64), np.zeros(centroids.shape, np.int64),
                 np.empty(len(rows), np.int32), np.empty(len(rows), np.float32))
    for at in range(0, len(rows), block):
        part = slice(at, at + block)
        ids, values = nearest(rows[part], centroids, 1)
        seen.assignment[part], seen.similarity[part] = ids[:, 0], values[:, 0]
        counts, sums = partial_sums(rows[part], ids[:, 0], k)
        seen.counts[:] += counts
        seen.sums[:] += sums
    return seen


def unit_rows(x: NDArray[np.floating]) -> Floats:
    """The rows at unit length; raises InputError where one has no direction."""
    rows = unit(x)
    bad = np.flatnonzero(~(np.isfinite(rows).all(axis=1) & rows.any(axis=1)))
    if not len(rows):
        raise InputError("there is nothing to cluster: no sample was kept with a valid embedding; loosen the recipe's filters")
    if len(bad):
        raise InputError(f"clustering needs finite, non-zero embeddings; row {bad[0]} is not ({len(bad)} of {len(rows)} rows)")
    return rows


def _finished(centroids: Floats, state: _Pass, story: tuple[Sequence[float], Sequence[int], bool]) -> Fit:
    """The fit without clusters that are still empty; the others keep their order."""
    objective, repairs, converged = story
    used = state.counts > 0
    lost = int((~used).sum())
    renumbered = (np.cumsum(used) - 1).astype(np.int32)[state.assignment]
    reason = f"{lost} clusters stayed empty" if lost else None
    return Fit(centroids[used], renumbered, state.similarity, state.counts[used],
               tuple(objective), tuple(repairs), converged, reason)
