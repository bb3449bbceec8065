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
BLOCK_VALUES = 1 << 21   # distances held at a time: 16 MB


@dataclass(frozen=True)
class Prior:
    """Normal-inverse-Wishart (Murphy 2007, section 8) with m0 = `mean`, nu0 = D + 1, Psi0 = scale * I; concentration 1."""

    mean: Coordinates
    kappa: float = 1e-4
    scale: float = 0.005


@dataclass(frozen=True)
class Moments:
    """Rows, their sum and their outer products, of one class or (with a leading axis) many. Those of disjoint sets add up."""

    count: Coordinates
    sum: Coordinates
    outer: Coordinates

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.sum + other.sum, self.outer + other.outer)

    def of(self, classes: NDArray[np.int64]) -> "Moments":
        return Moments(self.count[classes], self.sum[classes], self.outer[classes])


def moments(x: Coordinates, assignment: Ids, k: int) -> Moments:
    """Of each of k classes: count f64[k], sum f64[k, D], outer f64[k, D, D]."""
    size = x.shape[1]
    found = Moments(np.bincount(assignment, minlength=k).astype(np.float64), np.zeros((k, size)), np.zeros((k, size, size)))
    order = np.argsort(assignment, kind="stable")
    ends = np.cumsum(found.count).astype(np.int64)
    for c, end in enumerate(ends):
        rows = x[order[end - int(found.count[c]) : end]]
        found.sum[c], found.outer[c] = rows.sum(axis=0), rows.T @ rows
    return found


def log_marginal(found: Moments, prior: Prior) -> Coordinates:
    """ln p(rows of a class) with mean and covariance integrated out."""
    from scipy.special import multigammaln  # a quarter of a second that only an estimate pays

    n, size = found.count, found.sum.shape[-1]
    kappa, nu, nu0 = prior.kappa + n, size + 1 + n, size + 1
    mean = found.sum / np.maximum(n, 1)[..., None]
    off = mean - prior.mean
    spread = found.outer - n[..., None, None] * _outer(mean) + (prior.kappa * n / kappa)[..., None, None] * _outer(off)
    log_det = np.linalg.slogdet(prior.scale * np.eye(size) + spread)[1]
    return np.asarray(
        -n * size / 2 * math.log(math.pi) + multigammaln(nu / 2, size) - multigammaln(nu0 / 2, size)
        + nu0 / 2 * size * math.log(prior.scale) - nu / 2 * log_det + size / 2 * (math.log(prior.kappa) - np.log(kappa)),
        np.float64,
    )


def _outer(rows: Coordinates) -> Coordinates:
    return np.asarray(rows[..., :, None] * rows[..., None, :], np.float64)


def log_weight(found: Moments, prior: Prior) -> Coordinates:
    """ln alpha + ln Gamma(N) + ln p(rows), alpha = 1; their sum over the classes is the log score of a partition.
    Every class needs a row."""
    from scipy.special import gammaln

    return np.asarray(gammaln(found.count) + log_marginal(found, prior), np.float64)


def split_ratio(one: Moments, other: Moments, prior: Prior) -> Coordinates:
    """ln of the Hastings ratio of keeping two sets of rows apart; its negative is that of merging them."""
    return log_weight(one, prior) + log_weight(other, prior) - log_weight(one + other, prior)


@dataclass(frozen=True)
class Mixture:
    """One partition of the rows; no class is empty."""

    assignment: Ids
    centroids: Coordinates
    score: float
    """Sum over the classes of ln alpha + ln Gamma(N) + ln p(rows)."""

    @property
    def k(self) -> int:
        return len(self.centroids)


def closest(x: Coordinates, centroids: Coordinates) -> Ids:
    """The nearest centroid (Euclidean) of each row, equal ones by the lower id."""
    found = np.empty(len(x), np.int32)
    length = (centroids * centroids).sum(axis=1)
    step = max(1, BLOCK_VALUES // len(centroids))
    for at in range(0, len(x), step):
        found[at : at + step] = (length - 2 * (x[at : at + step] @ centroids.T)).argmin(axis=1)
    return found


def settled(x: Coordinates, labels: Ids, centroids: Coordinates, prior: Prior) -> Mixture:
    """Semi-supervised k-means from these centroids: a labelled row stays in its class (`labels` >= 0), the others go to the
    nearest. New classes that lose all rows are dropped."""
    known = int(labels.max(initial=-1)) + 1
    assignment = np.full(len(x), -1, np.int32)
    for _ in range(STEPS):
        previous, assignment = assignment, np.where(labels >= 0, labels, closest(x, centroids)).astype(np.int32)
        used = np.bincount(assignment, minlength=len(centroids)) > 0
        used[:known] = True
        assignment = (np.cumsum(used) - 1).astype(np.int32)[assignment]
        found = moments(x, assignment, int(used.sum()))
        centroids = on_grid(found.sum / found.count[:, None])
        if np.array_equal(assignment, previous):
            break
    return Mixture(assignment, centroids, math.fsum(log_weight(found, prior)))   # the same for any numbering of the classes


def fixed_point(x: Coordinates, labels: Ids, k: int, seed: int) -> Mixture:
    """From k classes (the labelled ones and k-means++ seeds) by splits and merges to where none is accepted; the best
    partition on the way. A proposal is accepted when its ratio H > 0, else with probability e^H."""
    rng = np.random.default_rng([seed, k])
    prior = Prior(x.sum(axis=0) / len(x))
    state = best = settled(x, labels, _seeds(x, labels, k, rng), prior)
    for _ in range(ROUNDS):
        revised = _revised(x, state, labels, prior, rng)
        if revised is None:
            break
        state = settled(x, labels, revised, prior)
        best = max(best, state, key=lambda one: one.score)
    return best


def _seeds(x: Coordinates, labels: Ids, k: int, rng: np.random.Generator) -> Coordinates:
    """Means of the labelled rows of each class, then rows drawn with probability proportional to the squared distance to what
    is there (greedy k-means++); fewer than k where no row is left at a distance."""
    labelled = labels >= 0
    known = int(labels.max(initial=-1)) + 1
    found = moments(x[labelled], labels[labelled], known)
    chosen = list(on_grid(found.sum / found.count[:, None]))
    free = x[~labelled]
    if not chosen and len(free):
        chosen.append(free[rng.integers(len(free))])
    distance = np.full(len(free), np.inf)
    for one in chosen:
        distance = np.minimum(distance, ((free - one) ** 2).sum(axis=1))
    while len(chosen) < k and distance.any():
        reach = np.cumsum(distance)
        drawn = np.searchsorted(reach, rng.random(2 + int(math.log(k))) * reach[-1], side="right")
        options = [np.minimum(distance, ((free - free[one]) ** 2).sum(axis=1)) for one in drawn]
        least = int(np.argmin([one.sum() for one in options]))
        chosen.append(free[drawn[least]])
        distance = options[least]
    return np.array(chosen)


def _revised(x: Coordinates, state: Mixture, labels: Ids, prior: Prior, rng: np.random.Generator) -> Coordinates | None:
    """The centroids after one round of splits and of merges between classes that did not split; None when none is accepted."""
    known = int(labels.max(initial=-1)) + 1
    order = np.argsort(state.assignment, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(state.assignment, minlength=state.k))[:-1])
    kept: list[int] = []
    new: list[Coordinates] = []
    for c in range(known, state.k):
        halves = _halves(x[members[c]])
        if halves is not None and _accepted(float(split_ratio(halves.of(np.array(0)), halves.of(np.array(1)), prior)), rng):
            new.append(on_grid(halves.sum / halves.count[:, None]))
        else:
            kept.append(c)
    merged = _merges(state, np.array(kept, np.int64), moments(x, state.assignment, state.k), (prior, rng))
    if not new and not merged:
        return None
    gone = {c for pair in merged for c in pair}
    found = moments(x, state.assignment, state.k)
    joined = [on_grid((found.sum[[i]] + found.sum[[j]]) / (found.count[i] + found.count[j])) for i, j in merged]
    staying = [*range(known), *(c for c in kept if c not in gone)]
    return np.concatenate([state.centroids[staying], *joined, *new])


def _merges(
    state: Mixture, kept: NDArray[np.int64], found: Moments, chance: tuple[Prior, np.random.Generator]
) -> list[tuple[int, int]]:
    """Each class with its nearest neighbour among `kept`; no class merges twice in a round."""
    if len(kept) < 2:
        return []
    used: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for at, c in enumerate(kept):
        others = np.delete(kept, at)
        other = int(others[((state.centroids[others] - state.centroids[c]) ** 2).sum(axis=1).argmin()])
        if not used & {int(c), other}:
            ratio = -float(split_ratio(found.of(np.array(c)), found.of(np.array(other)), chance[0]))
            if _accepted(ratio, chance[1]):
                pairs.append((int(c), other))
                used |= {int(c), other}
    return pairs


def _accepted(log_ratio: float, rng: np.random.Generator) -> bool:
    return log_ratio > 0 or rng.random() < math.exp(log_ratio)


def _halves(rows: Coordinates) -> Moments | None:
    """The two sub-clusters of a class (2-means from the halves along its widest axis); None where one is too small to judge."""
    off = rows - on_grid(rows.sum(axis=0) / len(rows))
    axis = np.linalg.eigh(off.T @ off)[1][:, -1]
    side = (off @ axis > 0).astype(np.int32)
    for _ in range(STEPS):
        found = moments(rows, side, 2)
        if found.count.min() <= SMALLEST:
            return None
        previous, side = side, closest(rows, on_grid(found.sum / found.count[:, None]))
        if np.array_equal(side, previous):
            return found
    return found if found.count.min() > SMALLEST else None
