"""Lloyd's iterations from given centres, in this process."""

import numpy as np

from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.in_memory import Clustering, clustering_of
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import WINDOW_BYTES, ArrayBlock, Partition
from pipeline.reduce.kmeans.schedule import Schedule
from pipeline.vectors import Floats


def iterate(
    x: Floats, start: Floats | np.ndarray, *, iterations: int = 25, tolerance: float = 1e-4, block: int | None = None,
) -> Clustering:
    """The `Clustering` of the rows of x [n, d] from these centres f32[k, d], until the objective grows by at most `tolerance` of
    itself.
    `block` rows are measured at a time, which must not show in the result."""
    window = WINDOW_BYTES if block is None else 4 * block * x.shape[1]
    fleet = LocalFleet([Partition([ArrayBlock(x)], window_bytes=window)])
    fit = Fit(fleet, Schedule(exact=iterations, tolerance=tolerance), len(start), 0, start=start)
    return clustering_of(fleet, fit.run())
