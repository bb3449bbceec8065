"""A Bayesian Gaussian mixture whose number of classes moves by splits and merges; some classes are known by labels.

After Zhao, Wen and Han, "Learning Semi-supervised Gaussian Mixture Models for Generalized Category Discovery" (ICCV 2023):
semi-supervised k-means as the E-step, split and merge by the Hastings ratios of Chang and Fisher (2013) under a
normal-inverse-Wishart prior. Classes 0..known-1 are the labelled ones; they neither split nor merge. Rows are
`projection.Coordinates`. Held: the rows, one block of distances, and D x D moments per class.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.class_number.projection import Coordinates, on_grid
from pipeline.vectors import Ids

SMALLEST = 5      # sub-clusters of no more rows are no evidence for a class
STEPS = 20        # Lloyd steps between revisions; few fits need more
ROUNDS = 30       # revisions of one start
BLOCK_VALUES = 1 << 21   # distances in memory at a time: 16 MB


@dataclass(frozen=True)
class Prior:
    """Normal-inverse-Wishart (Murphy 2007, section 8) with m0 = `mean`, nu0 = D + 1, Psi0 = scale * I; concentration 1."""

    mean: Coordinates
    kappa: float = 1e-4
    scale: float = 0.005


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of a Gaussian: f64 count [], sum [D] and outer products [D, D] of the rows of one class, or of k
    classes with a leading axis. Those of disjoint sets of rows add up."""

    count: Coordinates
    sum: Coordinates
    outer: Coordinates

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.sum + other.sum, self.outer + other.outer)

    def of(self, classes: NDArray[np.int64]) -> "Moments":
        """The moments of these classes, i64[m] or i64[], alone."""
        return Moments(self.count[classes], self.sum[classes], self.outer[classes])


def moments(x: Coordinates, assignment: Ids, k: int) -> Moments:
    """The moments of each of k classes, by the class i32[n] of each row f64[n, D]."""
    size = x.shape[1]
    result = Moments(np.bincount(assignment, minlength=k).astype(np.float64), np.zeros((k, size)), np.zeros((k, size, size)))
    order = np.argsort(assignment, kind="stable")
    ends = np.cumsum(result.count).astype(np.int64)
    for c, end in enumerate(ends):
        rows = x[order[end - int(result.count[c]) : end]]
        result.sum[c], result.outer[c] = rows.sum(axis=0), rows.T @ rows
    return result


def log_marginal(data: Moments, prior: Prior) -> Coordinates:
    """ln p(rows of a class) with mean and covariance integrated out, f64 [] or [k] (Murphy 2007, section 8)."""
    from scipy.special import multigammaln  # a quarter of a second that only an estimate pays

    n, size = data.count, data.sum.shape[-1]
    kappa, nu, nu0 = prior.kappa + n, size + 1 + n, size + 1
    mean = data.sum / np.maximum(n, 1)[..., None]
    off = mean - prior.mean
    spread = data.outer - n[..., None, None] * _outer(mean) + (prior.kappa * n / kappa)[..., None, None] * _outer(off)
    log_det = np.linalg.slogdet(prior.scale * np.eye(size) + spread)[1]
    return np.asarray(
        -n * size / 2 * math.log(math.pi) + multigammaln(nu / 2, size) - multigammaln(nu0 / 2, size)
        + nu0 / 2 * size * math.log(prior.scale) - nu / 2 * log_det + size / 2 * (math.log(prior.kappa) - np.log(kappa)),
        np.float64,
    )


def _outer(rows: Coordinates) -> Coordinates:
    return np.asarray(rows[..., :, None] * rows[..., None, :], np.float64)


def log_weight(data: Moments, prior: Prior) -> Coordinates:
    """ln alpha + ln Gamma(N) + ln p(rows) of each class, f64 [] or [k], alpha = 1; the sum over the classes is the log score of a
    partition. Every class needs a row."""
    from scipy.special import gammaln

    return np.asarray(gammaln(data.count) + log_marginal(data, prior), np.float64)


def split_ratio(first: Moments, second: Moments, prior: Prior) -> Coordinates:
    """ln of the Hastings ratio of keeping two sets of rows apart, f64 [] or [k]; its negative is that of merging them (Chang and
    Fisher 2013)."""
    return log_weight(first, prior) + log_weight(second, prior) - log_weight(first + second, prior)


@dataclass(frozen=True)
class Mixture:
    """One partition of the rows; no class is empty."""

    assignment: Ids
    """i32[n]: the class of each row."""
    centroids: Coordinates
    """f64[k, D]"""
    score: float
    """Sum over the classes of ln alpha + ln Gamma(N) + ln p(rows)."""

    @property
    def k(self) -> int:
        """Classes, the labelled ones included."""
        return len(self.centroids)


def closest(x: Coordinates, centroids: Coordinates) -> Ids:
    """i32[n]: the nearest centroid (Euclidean, f64[k, D]) of each row f64[n, D], equal ones by the lower id."""
    assignment = np.empty(len(x), np.int32)
    length = (centroids * centroids).sum(axis=1)
    step = max(1, BLOCK_VALUES // len(centroids))
    for at in range(0, len(x), step):
        assignment[at : at + step] = (length - 2 * (x[at : at + step] @ centroids.T)).argmin(axis=1)
    return assignment


def semi_supervised_kmeans(x: Coordinates, labels: Ids, centroids: Coordinates, prior: Prior) -> Mixture:
    """Semi-supervised k-means of rows f64[n, D] from these centroids f64[k, D]: a labelled row stays in its class (`labels` i32[n]
    >= 0), the others go to the nearest. New classes that lose all rows are dropped."""
    labelled = int(labels.max(initial=-1)) + 1
    assignment = np.full(len(x), -1, np.int32)
    for _ in range(STEPS):
        previous, assignment = assignment, np.where(labels >= 0, labels, closest(x, centroids)).astype(np.int32)
        used = np.bincount(assignment, minlength=len(centroids)) > 0
        used[:labelled] = True
        assignment = (np.cumsum(used) - 1).astype(np.int32)[assignment]
        fitted = moments(x, assignment, int(used.sum()))
        centroids = on_grid(fitted.sum / fitted.count[:, None])
        if np.array_equal(assignment, previous):
            break
    return Mixture(assignment, centroids, math.fsum(log_weight(fitted, prior)))   # the same for any numbering of the classes


def split_and_merge(x: Coordinates, labels: Ids, k: int, seed: int) -> Mixture:
    """The best partition of rows f64[n, D] on the way from k classes (the labelled ones, `labels` i32[n] >= 0, and k-means++
    seeds), by splits and merges, to where none is accepted. A proposal is accepted when its ratio H > 0, else with probability
    e^H."""
    rng = np.random.default_rng([seed, k])
    prior = Prior(x.sum(axis=0) / len(x))
    state = best = semi_supervised_kmeans(x, labels, _seeds(x, labels, k, rng), prior)
    for _ in range(ROUNDS):
        revised = _revised(x, state, labels, prior, rng)
        if revised is None:
            break
        state = semi_supervised_kmeans(x, labels, revised, prior)
        best = max(best, state, key=lambda mixture: mixture.score)
    return best


def _seeds(x: Coordinates, labels: Ids, k: int, rng: np.random.Generator) -> Coordinates:
    """f64[k, D]: the means of the labelled rows of each class, then rows drawn with probability proportional to the squared
    distance to the nearest seed (greedy k-means++); fewer than k where no row is left at a distance."""
    labelled = labels >= 0
    classes = int(labels.max(initial=-1)) + 1
    fitted = moments(x[labelled], labels[labelled], classes)
    chosen = list(on_grid(fitted.sum / fitted.count[:, None]))
    free = x[~labelled]
    if not chosen and len(free):
        chosen.append(free[rng.integers(len(free))])
    distance = np.full(len(free), np.inf)
    for centroid in chosen:
        distance = np.minimum(distance, ((free - centroid) ** 2).sum(axis=1))
    while len(chosen) < k and distance.any():
        reach = np.cumsum(distance)
        drawn = np.searchsorted(reach, rng.random(2 + int(math.log(k))) * reach[-1], side="right")
        options = [np.minimum(distance, ((free - free[row]) ** 2).sum(axis=1)) for row in drawn]
        best = int(np.argmin([option.sum() for option in options]))
        chosen.append(free[drawn[best]])
        distance = options[best]
    return np.array(chosen)


def _revised(x: Coordinates, state: Mixture, labels: Ids, prior: Prior, rng: np.random.Generator) -> Coordinates | None:
    """The centroids after one round of splits and of merges between classes that did not split; None when none is accepted."""
    labelled = int(labels.max(initial=-1)) + 1
    order = np.argsort(state.assignment, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(state.assignment, minlength=state.k))[:-1])
    kept: list[int] = []
    new: list[Coordinates] = []
    for c in range(labelled, state.k):
        halves = _halves(x[members[c]])
        if halves is not None and _accepted(float(split_ratio(halves.of(np.array(0)), halves.of(np.array(1)), prior)), rng):
            new.append(on_grid(halves.sum / halves.count[:, None]))
        else:
            kept.append(c)
    merged = _merges(state, np.array(kept, np.int64), moments(x, state.assignment, state.k), (prior, rng))
    if not new and not merged:
        return None
    merged_classes = {c for pair in merged for c in pair}
    data = moments(x, state.assignment, state.k)
    joined = [on_grid((data.sum[[i]] + data.sum[[j]]) / (data.count[i] + data.count[j])) for i, j in merged]
    staying = [*range(labelled), *(c for c in kept if c not in merged_classes)]
    return np.concatenate([state.centroids[staying], *joined, *new])


def _merges(
    state: Mixture, kept: NDArray[np.int64], data: Moments, chance: tuple[Prior, np.random.Generator]
) -> list[tuple[int, int]]:
    """The accepted pairs of a class and its nearest neighbour among `kept`; no class merges twice in a round."""
    if len(kept) < 2:
        return []
    used: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for at, c in enumerate(kept):
        candidates = np.delete(kept, at)
        nearest = int(candidates[((state.centroids[candidates] - state.centroids[c]) ** 2).sum(axis=1).argmin()])
        if not used & {int(c), nearest}:
            ratio = -float(split_ratio(data.of(np.array(c)), data.of(np.array(nearest)), chance[0]))
            if _accepted(ratio, chance[1]):
                pairs.append((int(c), nearest))
                used |= {int(c), nearest}
    return pairs


def _accepted(log_ratio: float, rng: np.random.Generator) -> bool:
    return log_ratio > 0 or rng.random() < math.exp(log_ratio)


def _halves(rows: Coordinates) -> Moments | None:
    """The moments of the two sub-clusters of a class (2-means from the halves along its widest axis); None where one is too small
    to judge."""
    off = rows - on_grid(rows.sum(axis=0) / len(rows))
    axis = np.linalg.eigh(off.T @ off)[1][:, -1]
    side = (off @ axis > 0).astype(np.int32)
    for _ in range(STEPS):
        halves = moments(rows, side, 2)
        if halves.count.min() <= SMALLEST:
            return None
        previous, side = side, closest(rows, on_grid(halves.sum / halves.count[:, None]))
        if np.array_equal(side, previous):
            return halves
    return halves if halves.count.min() > SMALLEST else None
