"""How many classes, when nothing is known: advice from fits over a range of k, with its uncertainty.

Two signs, each against rows without classes (a Gaussian of the same mean and covariance, on the sphere: the idea of the gap
statistic, Tibshirani, Walther and Hastie 2001):
- stability: do fits of two disjoint halves divide the rows alike (Ben-Hur, Elisseeff and Guyon 2002)?
- evidence: how much likelier are the rows as a mixture of these k classes than as one Gaussian (`mixture.log_weight`)?
A number of classes stands out where both are above what the Gaussian gives.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import sampled
from pipeline.errors import InputError
from pipeline.reduce.class_number.mixture import Prior, log_weight, moments
from pipeline.reduce.class_number.projection import MAX_ROWS, dimensions, on_grid, projected
from pipeline.reduce.classes.overlap import Overlap, rand_index
from pipeline.reduce.kmeans import in_memory as kmeans
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, unit
from schemas.answers.classes import JudgedNumber, NumberAdvice

ROWS_PER_CLASS = 20     # in the sample; a k that gives fewer is not judged
HALVINGS = 3            # pairs of halves: their spread is the uncertainty
ITERATIONS = 10
STABLE = 0.1            # of the adjusted Rand index above chance, at least
NEAR = 0.05             # as stable as the best within so much: not told apart from it


def advise(x: NDArray[np.floating], ks: Sequence[int], seed: int) -> NumberAdvice:
    """Judges each k of `ks` (>= 2) on the rows of x ([n, d], any float dtype, none zero).

    Looks at a seeded sample of 20,000 rows at most and holds that twice. A k that leaves fewer than 20 of them per class is
    left out, and `reason` says so; raises InputError when none is left.
    """
    rows = sampled(np.arange(len(x)), MAX_ROWS, seed)
    numbers = sorted(set(ks))
    usable = [k for k in numbers if 2 <= k <= len(rows) // ROWS_PER_CLASS]
    if len(rows) < 2 * ROWS_PER_CLASS:
        raise InputError(f"{len(rows)} rows are too few to judge any number of classes on: it takes {2 * ROWS_PER_CLASS}")
    if not usable:
        raise InputError(f"no number of classes in {numbers} can be judged on {len(rows)} rows: give some between 2 and "
                         f"{len(rows) // ROWS_PER_CLASS}")
    real = unit(x[rows])
    null = gaussian_like(real, seed)
    components = dimensions(len(rows), max(usable))
    evidence = zip(_evidence(real, usable, seed, components), _evidence(null, usable, seed, components), strict=True)
    judged = tuple(_judged(k, _stability(real, k, seed), _stability(null, k, seed)[0], gains)
                   for k, gains in zip(usable, evidence, strict=True))
    best, between, reason = _verdict(judged)
    if len(usable) < len(numbers):
        reason += f"; not judged: {sorted(set(numbers) - set(usable))} ({len(rows)} rows are too few, or k is below 2)"
    return NumberAdvice(k=best, between=between, judged=judged, rows=len(rows), reason=reason)


def _judged(k: int, stability: tuple[float, float], by_chance: float, evidence: tuple[float, float]) -> JudgedNumber:
    return JudgedNumber(k=k, stability=stability[0], spread=stability[1], stability_by_chance=by_chance,
                        evidence=evidence[0], evidence_by_chance=evidence[1])


def _verdict(judged: tuple[JudgedNumber, ...]) -> tuple[int | None, tuple[int, int] | None, str]:
    good = [judgement for judgement in judged if _stands_out(judgement)]
    if not good:
        reason = "fits of two halves agree no more, or the rows are no likelier, than without classes"
        return None, None, f"no number of classes stands out: {reason}"
    best = max(good, key=lambda judgement: (judgement.stability - judgement.stability_by_chance, -judgement.k))
    lead = best.stability - best.stability_by_chance - max(NEAR, best.spread)
    near = [judgement.k for judgement in good if judgement.stability - judgement.stability_by_chance >= lead]
    text = (f"k = {best.k}: fits of two halves agree at {best.stability:.2f} +- {best.spread:.2f} "
            f"({best.stability_by_chance:.2f} without classes)")
    if len(near) > 1:
        text += f"; {near[0]} to {near[-1]} are not told apart from it"
    if best.k in (judged[0].k, judged[-1].k) and len(judged) > 1:
        text += "; it is at the end of the range: widen it"
    return best.k, (near[0], near[-1]), text


def _stands_out(judgement: JudgedNumber) -> bool:
    stable = judgement.stability - judgement.stability_by_chance >= max(STABLE, 2 * judgement.spread)
    return stable and judgement.evidence > max(0.0, judgement.evidence_by_chance)


def _stability(rows: Floats, k: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation, over the halvings, of the adjusted Rand index of fits of the two halves."""
    indices = []
    for turn in range(HALVINGS):
        order = np.random.default_rng([seed, turn]).permutation(len(rows))
        halves = [np.sort(half) for half in np.array_split(order, 2)]
        first, second = (nearest(rows, kmeans.fit(rows[half], k, seed=seed + at, iterations=ITERATIONS).centroids, 1)[0][:, 0]
                      for at, half in enumerate(halves))
        indices.append(rand_index(Overlap.of(first, second)))
    return float(np.mean(indices)), float(np.std(indices))


def _evidence(rows: Floats, ks: Sequence[int], seed: int, components: int) -> list[float]:
    """For each k the log weight of a mixture of k classes beyond that of one class, in nats per row."""
    coordinates = projected(rows, components)
    prior = Prior(coordinates.sum(axis=0) / len(rows))
    single_class = float(log_weight(moments(coordinates, np.zeros(len(rows), np.int32), 1), prior).sum())
    gains = []
    for k in ks:
        fit = kmeans.fit(rows, k, seed=seed, iterations=ITERATIONS)
        score = float(log_weight(moments(coordinates, fit.assignment, len(fit.sizes)), prior).sum())
        gains.append((score - single_class) / len(rows))
    return gains


def gaussian_like(rows: Floats, seed: int) -> Floats:
    """As many unit rows f32[n, d] without classes: drawn from a Gaussian of the same mean and covariance, and brought to length
    1."""
    wide = on_grid(rows)
    mean = on_grid(wide.sum(axis=0) / len(wide))
    values, vectors = np.linalg.eigh((wide - mean).T @ (wide - mean) / len(wide))
    root = on_grid(vectors * np.sqrt(np.maximum(values, 0)))
    drawn = on_grid(np.random.default_rng(seed).standard_normal(rows.shape))
    return unit(mean + drawn @ root.T)
