"""The temperature at which label weights mean something, calibrated without labels.

A sample's weights are softmax(cosine / T) over its l nearest classes. T is chosen by a proper scoring rule (cross-entropy) to
predict the class y of the sample's nearest other sample; temperature scaling as of Guo et al. (2017), with the neighbour's
class in place of a label. A weight of 0.3 then reads: of samples like this one whose nearest neighbour belongs to one of
their l classes, three in ten have a neighbour of this class. "Nearest" is among at most 10,000 sampled rows.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import sampled
from pipeline.search.nearest import nearest
from pipeline.vectors import Doubles, Floats, unit

DEFAULT = 0.1           # where nothing can be learnt
SHARPEST, SOFTEST = 1e-3, 10.0
ROWS = 10_000
FEWEST = 50             # covered rows that one parameter needs
COPY = 1 - 1e-6         # a cosine above is a copy of the same picture, which predicts nothing
NEIGHBOURS = 8          # nearest rows among which the first that is no copy counts
BINS = 15


@dataclass(frozen=True)
class Calibration:
    """A temperature, and how much better than the default it predicts."""

    temperature: float
    """Four significant digits; the default 0.1 where `reason` says that nothing could be learnt."""
    nll: float | None
    """Mean -ln weight of y, in nats; null where no row could be used, as all that follow."""
    nll_default: float | None
    """The cross-entropy at temperature 0.1, the default."""
    calibration_error: float | None
    """Expected calibration error over 15 bins of weight (all l weights of each row), on the rows that chose T."""
    calibration_error_default: float | None
    rows: int
    """Sampled rows with a nearest other row."""
    coverage: float
    """Share of them whose y is among the l nearest classes; the others are left out."""
    reason: str | None
    """Why the temperature is the default, or stands at an end of the search (0.001 to 10)."""


@dataclass(frozen=True)
class Neighbours:
    """Rows whose nearest other row belongs to one of their l classes."""

    cosines: Doubles
    """f64[m, l] to the l nearest classes, best first."""
    position: NDArray[np.int64]
    """i64[m]: which of the l is y."""
    rows: int
    """Rows with a nearest other row, those whose y is another class included."""

    @property
    def coverage(self) -> float:
        """Share of the rows with a nearest other row whose y is among their l classes (0..1)."""
        return len(self.position) / self.rows if self.rows else 0.0


def calibrated(x: NDArray[np.floating], centroids: Floats, l: int, seed: int) -> Calibration:  # noqa: E741
    """The temperature for labels of x ([n, d], any float dtype; read by row number, so it may be a memory map) with the l nearest
    of the centroids f32[k, d]. Holds a seeded sample of at most 10,000 rows. Zero rows are left out."""
    drawn = unit(x[sampled(np.arange(len(x)), ROWS, seed)])
    sample = neighbour_classes(drawn[drawn.any(axis=1)], centroids, min(l, len(centroids)))
    if min(l, len(centroids)) < 2:
        return _default(sample, "with one class per sample every weight is 1")
    if len(sample.position) < FEWEST:
        return _default(sample, f"{len(sample.position)} rows are too few to learn from; {FEWEST} are needed")
    temperature = float(f"{_best(sample):.4g}")
    reason = None
    if not SHARPEST * 1.001 < temperature < SOFTEST / 1.001:
        reason = "the nearest class always wins" if temperature < 1 else "nearness to a class says nothing about the neighbour's"
    return Calibration(temperature, loss(sample, temperature), loss(sample, DEFAULT), calibration_error(sample, temperature),
                       calibration_error(sample, DEFAULT), sample.rows, sample.coverage, reason)


def _default(sample: Neighbours, reason: str) -> Calibration:
    return Calibration(DEFAULT, None, None, None, None, sample.rows, sample.coverage, reason)


def neighbour_classes(x: Floats, centroids: Floats, l: int) -> Neighbours:  # noqa: E741
    """The l classes (of centroids f32[k, d]) of unit rows f32[n, d], and which of them is the class of the nearest row that is not
    a copy (ties by the lower row). Rows with nothing but copies among their 8 nearest have none."""
    if not len(x):
        return Neighbours(np.zeros((0, l)), np.zeros(0, np.int64), 0)
    ids, cosines = nearest(x, centroids, l)
    rows, near = nearest(x, x, min(NEIGHBOURS + 1, len(x)))
    other = (rows != np.arange(len(x))[:, None]) & (near <= COPY)
    usable = np.flatnonzero(other.any(axis=1))
    y = ids[rows[usable, other[usable].argmax(axis=1)], 0]
    hit = ids[usable] == y[:, None]
    covered = hit.any(axis=1)
    return Neighbours(cosines[usable[covered]].astype(np.float64), hit[covered].argmax(axis=1), len(usable))


def weights(cosines: Doubles, temperature: float) -> Doubles:
    """softmax(cosine / temperature) by row, f64[m, l]; the first cosine of each row is the largest."""
    raw = np.exp((cosines - cosines[:, :1]) / temperature)
    return np.asarray(raw / raw.sum(axis=1, keepdims=True), np.float64)


def loss(sample: Neighbours, temperature: float) -> float:
    """Cross-entropy: mean -ln weight of y, in nats."""
    lead = (sample.cosines - sample.cosines[:, :1]) / temperature
    picked = np.take_along_axis(lead, sample.position[:, None], 1)[:, 0]
    return float((np.log(np.exp(lead).sum(axis=1)) - picked).mean())


def calibration_error(sample: Neighbours, temperature: float) -> float:
    """Expected calibration error (Guo et al. 2017) over BINS bins: the mean over all weights of |mean weight - share of the
    weights' classes that are y| in their bin."""
    weight = weights(sample.cosines, temperature)
    hit = np.arange(weight.shape[1])[None] == sample.position[:, None]
    bins = np.minimum((weight * BINS).astype(np.int64), BINS - 1).ravel()
    gap = np.bincount(bins, weight.ravel(), BINS) - np.bincount(bins, hit.ravel(), BINS)
    return float(np.abs(gap).sum() / weight.size)


def _best(sample: Neighbours) -> float:
    """Brent's bounded search on ln T, to 1e-7: the loss is convex in 1/T, so it has one minimum. Where no weight but the first is
    left the loss is 0 for every sharper T as well: the sharpest of equally good ones is taken."""
    from scipy.optimize import minimize_scalar  # a fifth of a second that only a calibration pays

    bounds = (math.log(SHARPEST), math.log(SOFTEST))
    minimum = minimize_scalar(lambda log: loss(sample, math.exp(log)), bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return min((SHARPEST, math.exp(minimum.x), SOFTEST), key=lambda temperature: loss(sample, temperature))
