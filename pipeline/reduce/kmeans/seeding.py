"""Seeds of k-means on the unit sphere: greedy k-means++ (Arthur and Vassilvitskii 2007, and the greedy form of their section 7),
and the same within coarse cells, for thousands of centres and more.

Rows are rounded to 2^-11, a few per cent of a value of a unit row of hundreds: products of two are then multiples of 2^-22, and
their sums below 2 exact in float32 whatever the order (partial sums are at most the product of the lengths). So no BLAS, block or
thread count changes a bit of a draw or a centre. Seeds are a start: the passes over all rows work with the rows as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import sampled
from pipeline.reduce.kmeans.owner import slices
from pipeline.reduce.kmeans.partition import Partition, RowSample
from pipeline.reduce.kmeans.sums import over_relaxed
from pipeline.search.nearest import Centres, assigned, kernel
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.vectors import CACHED_ROWS, Floats, Ints, Matrix, unit
from pipeline.work import beat

GRID = np.float32(2**11)
SAME = np.float32(2**22)
"""Rows are the same when they are so in every value, rounded to 2^-22."""
ROWS_PER_SEED = 64    # enough for the far corners of a cluster; a larger x is sampled
MIN_ROWS = 20_000
CELL_ROWS_PER_SEED = 16
"""Rows per seed of k-means++ within a cell: where there are more, it takes every second or third row; the Lloyd steps after it take
all."""
CELL_STEPS = 4
"""Lloyd steps within a cell: its k-means++ seeds are rows, its centres means."""
COARSE_STEPS = 5
OVERSHOOT = 0.7
SQUARE_ROWS = 2048
"""Rows of which all products fit a cache: 16 MB."""
SQUARE = 4
"""A product of many rows is at least so many times as fast as one of a few."""
PART_BYTES = 64 << 20
"""Bytes of sampled rows in one file."""

StoreFolder = tuple[Store, str]
"""A folder of a store."""
Slice = tuple[int, int]


def seeds(rows: Floats, k: int, *, seed: int) -> Floats:
    """At most k different ones of the unit rows f32[n, d], spread out: f32[k, d], fewer where there are fewer directions.

    Each round draws 2 + ln k candidates with probability proportional to the squared distance to the nearest seed and
    takes the one that lowers the sum of squared distances most. More than 64 k rows (and 20,000) are sampled first. Rows
    that are the same to 2^-12 in every value are drawn only when nothing else is left, the first ones first.
    """
    rng = np.random.default_rng(seed)
    limit = max(MIN_ROWS, ROWS_PER_SEED * k)
    pool = rows[sampled(np.arange(len(rows)), limit, rng)] if len(rows) > limit else rows
    rounded = np.rint(pool * GRID)
    half = np.einsum("nd,nd->n", rounded, rounded) / 2
    chosen = [int(rng.integers(len(pool)))]
    draws = rng.random((k, 2 + int(np.log(k))))
    all_products = len(pool) <= min(SQUARE_ROWS, SQUARE * draws.size)
    square = rounded @ rounded.T if all_products else None   # one large product takes less time than many of a few rows
    distance = _half_squares(rounded, half, np.array(chosen), square)[0]
    while len(chosen) < k:
        reach = np.cumsum(distance, dtype=np.float64)
        if reach[-1] == 0:
            chosen += _unchosen(pool, chosen)[: k - len(chosen)]
            break
        drawn = np.minimum(np.searchsorted(reach, draws[len(chosen)] * reach[-1], side="right"), len(pool) - 1)
        options = np.minimum(distance, _half_squares(rounded, half, drawn, square))
        best = int(options.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(drawn[best]))
        distance = options[best]
    return pool[chosen]


def _half_squares(rounded: Floats, half: Floats, chosen: NDArray[np.int64], square: Floats | None) -> Floats:
    """Half the squared distance of every row to the chosen ones, f32[len(chosen), n]; 0 for equal rows. `square`, f32[n, n], are
    the products of all rows, where there are few: exact, so the same."""
    products = rounded[chosen] @ rounded.T if square is None else square[chosen]
    np.subtract(half, products, out=products)
    products += half[chosen, None]
    return products


def _unchosen(pool: Floats, chosen: list[int]) -> list[int]:
    """The first of each of the rows that differ from the chosen ones and from each other."""
    lines = [row.tobytes() for row in np.rint(pool * SAME) + np.float32(0)]   # -0 is 0
    first: dict[bytes, int] = {}
    for at, line in enumerate(lines):
        first.setdefault(line, at)
    chosen_lines = {lines[at] for at in chosen}
    return [at for line, at in first.items() if line not in chosen_lines]


def cells_for(k: int) -> int:
    """The number of coarse cells for k centres: about the root, so that neither level has much more to compare."""
    return max(1, math.isqrt(k))


def coarse_cells(rows: Floats, cells: int, *, seed: int) -> Floats:
    """Coarse centres, f32[cells or fewer, d], of unit rows f32[n, d]."""
    return lloyd_steps(rows, seeds(rows, cells, seed=seed), COARSE_STEPS)


def lloyd_steps(rows: Floats, centres: Floats, count: int) -> Floats:
    """The centres f32[k, d] after `count` of Lloyd's steps over unit rows f32[n, d], all but the last of which overshoot.

    Two products of matrices per block leave little for the interpreter to do, so that cells in several threads do not wait for it.
    """
    rounded = np.rint(rows * GRID)
    for number in range(count):
        rounded_centres, sums = np.rint(centres * GRID), np.zeros(centres.shape)
        for at in range(0, len(rounded), CACHED_ROWS):
            block = rounded[at : at + CACHED_ROWS]
            member = np.zeros((len(centres), len(block)), np.float32)
            member[(block @ rounded_centres.T).argmax(axis=1), np.arange(len(block))] = 1
            sums += member @ block
        means = np.where(sums.any(axis=1, keepdims=True), unit(sums), centres)
        centres = over_relaxed(means, centres, OVERSHOOT if number < count - 1 else 0)
    return centres


@dataclass(frozen=True)
class Cells:
    """Sampled rows, cell by cell."""

    rows: Matrix
    """f16 or f32 [n, d]: the rows as they are stored, mapped or in memory; in the order of all rows within a cell."""
    ends: NDArray[np.int64]
    """i64[cells]: the rows of cell c end here."""

    @classmethod
    def parted(cls, rows: Matrix, coarse: Centres) -> "Cells":
        """Stored rows [n, d] sorted by their nearest coarse centre."""
        cell = np.empty(len(rows), np.int32)
        for at in range(0, len(rows), CACHED_ROWS):
            cell[at : at + CACHED_ROWS] = assigned(unit(rows[at : at + CACHED_ROWS]), coarse)
        order = np.argsort(cell, kind="stable")
        ends = np.cumsum(np.bincount(cell, minlength=len(coarse.vectors)))
        return cls(rows[order], ends)

    def of(self, cell: int) -> slice:
        """Where the rows of this cell are."""
        return slice(int(self.ends[cell - 1]) if cell else 0, int(self.ends[cell]))


def allotted_seeds(sizes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """i64[cells]: how many of k seeds each cell gets, in proportion to its sampled rows i64[cells] (by largest remainders, then the
    lower cell); never more than it has rows."""
    share = sizes * (min(k, int(sizes.sum())) / sizes.sum())
    counts: NDArray[np.int64] = np.floor(share).astype(np.int64)
    remainder = min(k, int(sizes.sum())) - int(counts.sum())
    counts[np.argsort(counts - share, kind="stable")[:remainder]] += 1
    return counts


def cell_seeds(parts: Sequence[Cells], cell: int, count: int | np.int64, *, seed: int) -> Floats:
    """`count` centres of one cell, f32[count, d]: k-means++ and a few Lloyd steps. Parts come in the order of their rows. Where the
    cell has fewer different rows, the last centre is repeated, and the repair of empty clusters will move it."""
    rows = unit(np.concatenate([part.rows[part.of(cell)] for part in parts]))
    thin = max(1, round(len(rows) / (int(count) * CELL_ROWS_PER_SEED)))
    centres = lloyd_steps(rows, seeds(rows[::thin], int(count), seed=seed + cell), CELL_STEPS)
    return np.concatenate([centres, np.repeat(centres[-1:], count - len(centres), axis=0)])


@dataclass(frozen=True)
class SampledPart:
    """A partition's sampled rows, or some of them, cell by cell."""

    sizes: Ints
    """i64[cells]: sampled rows of each cell."""
    rows: Cells | str
    """The rows, or the name of their files."""


def write_cells(partition: Partition, scratch: StoreFolder | None, sample: RowSample, coarse: Floats) -> list[SampledPart]:
    """Sorts the partition's sampled rows by cell, and keeps or writes them, a file of about PART_BYTES at a time."""
    cells, parts = kernel()(coarse), []
    for i, rows in enumerate(partition.samples(sample, PART_BYTES)):
        beat()
        parted, name = Cells.parted(rows, cells), f"{partition.first_row:012d}-{i:05d}"
        if scratch is not None:
            for kind, array in (("rows", parted.rows), ("ends", parted.ends)):
                scratch[0].write(f"{scratch[1]}/{name}.{kind}.npy", npy_bytes(array))
        parts.append(SampledPart(np.diff(parted.ends, prepend=0), parted if scratch is None else name))
    return parts


def seeds_of_cells(
    _: Partition, run: Sequence[Slice], scratch: StoreFolder | None, parts: Sequence[Cells | str], seed: int
) -> Floats:
    """Centres f32[k', d] of a run of (cell, number of centres), one cell after another."""
    opened, centres = [_opened(part, scratch) for part in parts], []
    for cell, count in run:
        centres.append(cell_seeds(opened, cell, count, seed=seed))
        beat()
    return np.concatenate(centres)


def _opened(part: Cells | str, scratch: StoreFolder | None) -> Cells:
    if isinstance(part, Cells) or scratch is None:
        assert isinstance(part, Cells)   # only what went to a folder has a name
        return part
    return Cells(*(read_npy(scratch[0], f"{scratch[1]}/{part}.{kind}.npy") for kind in ("rows", "ends")))


def plain_seeds(k: int, seed: int, *samples: Matrix) -> tuple[Floats, int]:
    """k-means++ seeds f32[k', d] of the samples [n, d] together, and their number k' <= k."""
    centres = seeds(unit(np.concatenate(samples)), k, seed=seed)
    return centres, len(centres)


def coarse_centres(cells: int, seed: int, *samples: Matrix) -> Floats:
    """Coarse centres f32[cells or fewer, d] of the samples [n, d] together."""
    return coarse_cells(unit(np.concatenate(samples)), cells, seed=seed)


def cell_runs(counts: Ints, runs: int) -> list[list[Slice]]:
    """(cell, number of centres) of all cells that get any, by `counts` i64[cells], in so many runs of cells."""
    cells = [(int(cell), int(counts[cell])) for cell in np.flatnonzero(counts)]
    return [cells[start:stop] for start, stop in slices(len(cells), runs)]
