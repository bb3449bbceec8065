"""Spherical k-means of an array in this process (one-step k-means over unit embeddings: MLCD, arXiv 2407.17331, section 3).

Rows become unit vectors, a centre is the normalised sum of its rows, and the objective is the mean cosine of a row to its centre.
Whatever is added up over rows is an integer (`sums`), so that no partition, block or thread changes a bit. The distributed fit is
the same state machine (`fit.py`) over another fleet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.kmeans.fit import Fit, Fitted
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import ArrayBlock
from pipeline.reduce.kmeans.schedule import Schedule
from pipeline.vectors import Floats


@dataclass(frozen=True)
class Clustering:
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


def fit(
    x: NDArray[np.floating], k: int, *, seed: int, iterations: int = 25, tolerance: float = 1e-4
) -> Clustering:
    """k clusters of the rows of x (f16, f32 or f64, [n, d], none zero; lengths do not matter), seeded by k-means++.

    Where x has fewer than k different directions, k is lowered to their number and `reason` says so.
    Raises InputError without usable rows.
    """
    return scheduled(x, k, Schedule(exact=iterations, tolerance=tolerance), seed=seed)


def scheduled(x: NDArray[np.floating], k: int, schedule: Schedule, *, seed: int, threads: int = 1) -> Clustering:
    """k clusters of the rows of x as `fit` makes them, by any schedule, on so many threads; their number changes no bit."""
    fleet = LocalFleet.of([ArrayBlock(part) for part in np.array_split(x, threads)], partitions=threads, threads=threads)
    return clustering_of(fleet, Fit(fleet, schedule, k, seed).run())


def clustering_of(fleet: LocalFleet, fitted: Fitted[Floats]) -> Clustering:
    """The arrays of a fit on a fleet in this process."""
    parts = [partition.similarity(fitted.centres) for partition in fleet.partitions]
    similarity = np.concatenate([values.astype(np.float32) for part in parts for _, _, values in part])
    return Clustering(fitted.centres, fleet.assignment(), similarity, fitted.sizes,
                      fitted.history.objective, fitted.history.refilled, fitted.converged, fitted.reason)
