"""Greedy k-means++ seeding on the unit sphere (Arthur and Vassilvitskii 2007; greedy form of their section 7).

Distances are rounded to integers (2 - 2 cos in units of 2^-20), so draws and sums do not depend on the order of additions.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.nearest import Floats

GRID = 2**20
ROWS_PER_SEED = 64    # enough for the far corners of a cluster; a larger x is sampled
MIN_ROWS = 20_000


def seeds(rows: Floats, k: int, *, seed: int) -> Floats:
    """At most k different rows (f32[k, d], unit length), spread out; fewer where there are fewer different directions.

    Each round draws 2 + ln k candidates with probability proportional to the squared distance to the nearest seed and
    takes the one that lowers the sum of squared distances most. More than 64 k rows (and 20,000) are sampled first.
    """
    rng = np.random.default_rng(seed)
    limit = max(MIN_ROWS, ROWS_PER_SEED * k)
    pool = rows if len(rows) <= limit else rows[np.sort(rng.choice(len(rows), limit, replace=False))]
    wide = pool.astype(np.float64)
    chosen = [int(rng.integers(len(pool)))]
    distance = _distances(wide, chosen)[:, 0]
    tries = 2 + int(np.log(k))
    while len(chosen) < k:
        reach = np.cumsum(distance)
        if reach[-1] == 0:
            break
        drawn = np.searchsorted(reach, rng.integers(reach[-1], size=tries), side="right")
        options = np.minimum(distance[:, None], _distances(wide, drawn))
        best = int(options.sum(axis=0).argmin())
        chosen.append(int(drawn[best]))
        distance = options[:, best]
    return pool[chosen]


def _distances(wide: NDArray[np.float64], chosen: NDArray[np.int64] | list[int]) -> NDArray[np.int64]:
    """Squared distances of every row to the chosen ones, as integers; int64[n, len(chosen)]."""
    return np.rint(np.clip(2 - 2 * (wide @ wide[chosen].T), 0, 4) * GRID).astype(np.int64)
