"""Seeds of k-means on the unit sphere: greedy k-means++ (Arthur and Vassilvitskii 2007, and the greedy form of their section 7),
and the same within coarse cells, for thousands of centres and more.

Rows are rounded to 2^-26: products of two are then multiples of 2^-52, and their sums below 2 exact in float64 whatever the order
(partial sums are at most the product of the lengths). So no BLAS, block or thread count changes a bit of a draw.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.nearest import Centres, Floats, assigned, kernel, unit
from pipeline.reduce.partition import Matrix
from pipeline.reduce.sums import Sums, close

COORDINATE = 2.0**26
GRID = 2.0**36
"""Of squared distances: 2^24 of the largest (4) add up in an int64."""
ROWS_PER_SEED = 64    # enough for the far corners of a cluster; a larger x is sampled
MIN_ROWS = 20_000
CELL_STEPS = 3
"""Lloyd steps within a cell: its k-means++ seeds are rows, its centres means."""
COARSE_STEPS = 5


def seeds(rows: Floats, k: int, *, seed: int) -> Floats:
    """At most k different rows (f32[k, d], unit length), spread out; fewer where there are fewer different directions.

    Each round draws 2 + ln k candidates with probability proportional to the squared distance to the nearest seed and
    takes the one that lowers the sum of squared distances most. More than 64 k rows (and 20,000) are sampled first.
    """
    rng = np.random.default_rng(seed)
    limit = max(MIN_ROWS, ROWS_PER_SEED * k)
    pool = rows if len(rows) <= limit else rows[np.sort(rng.choice(len(rows), limit, replace=False))]
    wide = np.rint(pool * COORDINATE).astype(np.float64) / COORDINATE
    squares = np.einsum("nd,nd->n", wide, wide)
    chosen = [int(rng.integers(len(pool)))]
    distance = _distances(wide, squares, chosen)[0]
    tries = 2 + int(np.log(k))
    while len(chosen) < k:
        reach = np.cumsum(distance)
        if reach[-1] == 0:
            break
        drawn = np.searchsorted(reach, rng.integers(reach[-1], size=tries), side="right")
        options = np.minimum(distance, _distances(wide, squares, drawn))
        best = int(options.sum(axis=1).argmin())
        chosen.append(int(drawn[best]))
        distance = options[best]
    return pool[chosen]


def _distances(
    wide: NDArray[np.float64], squares: NDArray[np.float64], chosen: NDArray[np.int64] | list[int]
) -> NDArray[np.int64]:
    """Squared distances of every row to the chosen ones, as integers; int64[len(chosen), n]."""
    products = wide[chosen] @ wide.T
    products *= -2
    products += squares
    products += squares[chosen, None]   # equal rows are at 0 exactly
    products *= GRID
    return np.rint(products, out=products).astype(np.int64)


def cells_for(k: int) -> int:
    """Coarse cells for k centres."""
    return max(1, math.isqrt(k))


def coarse_cells(rows: Floats, cells: int, *, seed: int) -> Floats:
    """Coarse centres, f32[cells or fewer, d], of unit rows."""
    return steps(rows, seeds(rows, cells, seed=seed), COARSE_STEPS)


def steps(rows: Floats, centres: Floats, count: int) -> Floats:
    """The centres after so many of Lloyd's steps."""
    make = kernel()
    for _ in range(count):
        sums = Sums.zero(*centres.shape)
        sums.add_rows(rows.copy(), assigned(rows, make(centres)))
        centres = close(sums, centres)
    return centres


@dataclass(frozen=True)
class Cells:
    """Sampled rows, cell by cell."""

    rows: Matrix
    """As stored, mapped or in memory; in the order of all rows within a cell."""
    ends: NDArray[np.int64]
    """[cells]: the rows of cell c end here."""

    @classmethod
    def parted(cls, rows: Matrix, coarse: Centres) -> "Cells":
        """Rows sorted by their coarse cell."""
        cell = np.empty(len(rows), np.int32)
        for at in range(0, len(rows), MIN_ROWS):
            cell[at : at + MIN_ROWS] = assigned(unit(rows[at : at + MIN_ROWS]), coarse)
        order = np.argsort(cell, kind="stable")
        ends = np.cumsum(np.bincount(cell, minlength=len(coarse.vectors)))
        return cls(rows[order], ends)

    def of(self, cell: int) -> slice:
        return slice(int(self.ends[cell - 1]) if cell else 0, int(self.ends[cell]))


def allotted(sizes: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """k seeds over cells in proportion to their sampled rows (largest remainders, then the lower cell); never more than rows."""
    share = sizes * (min(k, int(sizes.sum())) / sizes.sum())
    found: NDArray[np.int64] = np.floor(share).astype(np.int64)
    left = min(k, int(sizes.sum())) - int(found.sum())
    found[np.argsort(found - share, kind="stable")[:left]] += 1
    return found


def cell_seeds(parts: Sequence[Cells], cell: int, count: int | np.int64, *, seed: int) -> Floats:
    """`count` centres of one cell: k-means++ and a few steps. Parts come in the order of their rows. Where the cell has fewer
    different rows, the last centre is repeated, and the repair of empty clusters will move it."""
    rows = unit(np.concatenate([part.rows[part.of(cell)] for part in parts]))
    found = steps(rows, seeds(rows, int(count), seed=seed + cell), CELL_STEPS)
    return np.concatenate([found, np.repeat(found[-1:], count - len(found), axis=0)])
