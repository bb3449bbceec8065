"""Coarser classes over finer ones: k-means on the centroids of the level below (Vo et al. 2024, arXiv 2405.15613, section 3).

Centroids of a k-means fit lie more evenly than its rows, and those of a fit on them more evenly still: T levels bring a density
p close to p^((D / (D + 2))^T), D being the intrinsic dimension. Weighing a centroid by its rows would undo this, so sizes play
no part here; they do in `export/allocation.py`. Resampling (their section 3.3) flattens further: a level is fitted again on a few
points of each of its clusters, so that crowded regions count no more than empty ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.kmeans import in_memory as kmeans
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, ranked, unit

Order = Literal["closest", "random"]


@dataclass(frozen=True)
class Resampling:
    """Further fits of one level, each on a few points of every cluster of the fit before. The published runs take about half
    the mean cluster size: 1, 10, 5 and 3 points, in 1 step at the lowest level and 10 above it."""

    steps: int = 10
    points: int = 3
    """Points of each cluster; a smaller cluster gives all it has."""
    order: Order = "closest"
    """Which points: those nearest to the centroid, or random ones."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.points < 1:
            raise InputError(f"resampling needs 0 or more steps and at least 1 point of each cluster, not {self}")


NO_RESAMPLING = Resampling(steps=0)


@dataclass(frozen=True)
class Lloyd:
    """When the k-means of a level stops."""

    iterations: int = 50
    tolerance: float = 1e-4


@dataclass(frozen=True)
class ClusterLevel:
    """One level of clusters, before they have ids. None is empty: each is the parent of at least one of the level below."""

    centroids: Floats
    """f32[k, d], unit length"""
    parent_of_below: NDArray[np.int32]
    """i32[k of the level below, or n rows below the lowest]: the nearest of `centroids`"""


def hierarchical(
    points: NDArray[np.floating], sizes: Sequence[int], *, seed: int,
    resampling: Sequence[Resampling] | None = None, lloyd: Lloyd = Lloyd(),
) -> tuple[ClusterLevel, ...]:
    """Levels of `sizes` classes, the finest first, over points [n, d] of any float dtype, none zero: rows, or the centroids of
    classes that exist already, which then get parents. One `resampling` per level; None for none.

    A level has fewer classes than asked for where its points have fewer directions. Holds the points in float32 a few times
    over and one level. Raises InputError unless n > sizes[0] > sizes[1] > ... >= 1, and for points without a direction.
    """
    steps = [NO_RESAMPLING] * len(sizes) if resampling is None else list(resampling)
    if len(steps) != len(sizes):
        raise InputError(f"{len(sizes)} levels need {len(sizes)} settings for resampling, not {len(steps)}")
    _check(len(points), sizes)
    levels: list[ClusterLevel] = []
    below = unit(points)
    for number, (k, resample) in enumerate(zip(sizes, steps, strict=True)):
        levels.append(_level(below, k, [seed, number], resample, lloyd))
        below = levels[-1].centroids
    return tuple(levels)


def _check(n: int, sizes: Sequence[int]) -> None:
    below = n
    for k in sizes:
        if not 1 <= k < below:
            raise InputError(
                f"a level of {k} classes over {below}: each level needs at least 1 class and fewer than the level below it; "
                f"asked for {list(sizes)} over {n}"
            )
        below = k


def _level(points: Floats, k: int, keys: list[int], resample: Resampling, lloyd: Lloyd) -> ClusterLevel:
    """Fit, then fit again on points of each cluster; every fit is followed by the nearest centroid of every point."""
    clustering = _fit(points, k, [*keys, 0], lloyd)
    level, similarity = ClusterLevel(clustering.centroids, clustering.assignment), clustering.similarity
    for step in range(1, resample.steps + 1):
        closeness = similarity if resample.order == "closest" else np.random.default_rng([*keys, step, 1]).random(len(points))
        chosen = foremost(level.parent_of_below, closeness, resample.points)
        centroids = _fit(points[chosen], k, [*keys, step], lloyd).centroids
        ids, values = nearest(points, centroids, 1)
        level, similarity = ClusterLevel(centroids, ids[:, 0]), values[:, 0]
    return level


def _fit(points: Floats, k: int, keys: list[int], lloyd: Lloyd) -> kmeans.Clustering:
    seed = int(np.random.SeedSequence(keys).generate_state(1)[0])
    return kmeans.fit(points, k, seed=seed, iterations=lloyd.iterations, tolerance=lloyd.tolerance)


def foremost(cluster: NDArray[np.int32], score: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Positions i64[m], ascending, of the `count` rows of each cluster (i32[n]) with the highest score [n]; equal scores by the
    lower position."""
    order, place = ranked(cluster, -score)
    return np.sort(order[place < count])
