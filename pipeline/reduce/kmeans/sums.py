"""Sums of unit rows per centre as integers: the same bits for any grouping of the rows, threads or order.

A coordinate is rounded to a multiple of 2^-20 (the rounding of stored float16 is sixteen times as coarse or more). 16 such rows
add up exactly in float32, 2^32 of them in float64; so the fast float kernels give integers.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.models.matrices.torch_or_numpy import bag_sums
from pipeline.search.device_centres import Window
from pipeline.vectors import CACHED_ROWS, Floats, Ids, Ints, unit

SCALE = 2**20
"""Fixed point: 2^43 unit rows of one centre fit an int64."""
GRID = np.float32(1.5 * 2**23 / SCALE)
"""Added to |x| <= 1 and taken off again, it leaves x rounded to a multiple of 1 / SCALE."""
EXACT_ROWS = 2**24 // SCALE
OBJECTIVE_SCALE = 2**24
RUNS = 1024   # runs of EXACT_ROWS rows that are added up at a time: megabytes, however many centres there are


@dataclass(frozen=True)
class Sums:
    """What rows add to k centres. Those of two parts of the rows add up to those of both."""

    counts: Ints
    """i64[k]: rows of each centre."""
    vectors: Ints
    """i64[k, d]: their sum, in units of 1 / SCALE."""

    @classmethod
    def zero(cls, k: int, d: int) -> "Sums":
        """The sums of no rows."""
        return cls(np.zeros(k, np.int64), np.zeros((k, d), np.int64))

    def slice(self, start: int, stop: int) -> "Sums":
        """The sums of the centres start..stop - 1: a view, so what is added to it is added here."""
        return Sums(self.counts[start:stop], self.vectors[start:stop])

    def add(self, other: "Sums") -> None:
        """Adds the sums of other rows to the same centres, in place."""
        self.counts[:] += other.counts
        self.vectors[:] += other.vectors

    def added(self) -> "Sums":
        """These sums in this process's memory; `device.DeviceSums` is brought here from its device by the same call."""
        return self

    def add_rows(self, rows: Window, assignment: Ids) -> None:
        """Adds unit rows f32[n, d] to their centres, i32[n]. **The rows are rounded in place**: they are of no use after it."""
        rows = np.asarray(rows)
        for at in range(0, len(rows), CACHED_ROWS):
            block = rows[at : at + CACHED_ROWS]
            block += GRID
            block -= GRID
        counts = np.bincount(assignment, minlength=len(self.counts))
        order = np.argsort(assignment, kind="stable")
        used = np.flatnonzero(counts)
        runs = -(-counts[used] // EXACT_ROWS)
        within = np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)
        starts = np.append(np.repeat(np.cumsum(counts[used]) - counts[used], runs) + EXACT_ROWS * within, len(rows))
        owners = np.repeat(used, runs)
        for at in range(0, len(owners), RUNS):
            ends = starts[at : at + RUNS + 1]
            partial = bag_sums(rows, order[ends[0] : ends[-1]], ends[:-1] - ends[0])
            ids, first = np.unique(owners[at : at + RUNS], return_index=True)
            total = bag_sums(partial.astype(np.float64), np.arange(len(partial)), first)
            self.vectors[ids] += (total * SCALE).astype(np.int64)
        self.counts[:] += counts


def updated_centres(sums: Sums, previous: Floats) -> Floats:
    """The update step of spherical k-means: the next centres f32[k, d] are the sums at length 1. A centre without rows, or whose
    rows cancel out, keeps its place in `previous` (f32[k, d])."""
    moved = (sums.counts > 0) & sums.vectors.any(axis=1)
    result = previous.copy()
    for at in range(0, len(previous), CACHED_ROWS):
        ids = np.flatnonzero(moved[at : at + CACHED_ROWS]) + at
        result[ids] = unit(sums.vectors[ids] / SCALE)
    return result


def over_relaxed(centres: Floats, previous: Floats, beyond: float) -> Floats:
    """Unit centres f32[k, d] moved on, away from `previous`, by `beyond` of the way they came: over-relaxation (Salakhutdinov and
    Roweis 2003, *Adaptive overrelaxed bound optimization methods*). Centres that drift the same way for many passes get there in
    fewer."""
    if not beyond:
        return centres
    result = np.empty_like(centres)
    for at in range(0, len(centres), CACHED_ROWS):
        wide = centres[at : at + CACHED_ROWS].astype(np.float64)
        result[at : at + CACHED_ROWS] = unit(wide + beyond * (wide - previous[at : at + CACHED_ROWS]))
    return result


def objective(sums: Sums, centres: Floats) -> int:
    """The summed cosine of the rows to their centres f32[k, d], in units of 1 / OBJECTIVE_SCALE: those of slices of the centres add
    up."""
    total = 0
    for at in range(0, len(centres), CACHED_ROWS):
        part = slice(at, at + CACHED_ROWS)
        dots = (centres[part].astype(np.float64) * sums.vectors[part]).sum(axis=1)
        total += int(np.rint(dots * (OBJECTIVE_SCALE / SCALE)).astype(np.int64).sum())
    return total
