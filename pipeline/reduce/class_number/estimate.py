"""How many classes are there, when some are known: the labelled rows of some classes tell how wide a class is.

`mixture.fixed_point` from several numbers of classes; the partition of the highest score wins, because where a start ends
depends on where it began. See `advise.py` for embeddings without any labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.class_number.mixture import Mixture, split_and_merge
from pipeline.reduce.class_number.projection import MAX_ROWS, dimensions, projected
from pipeline.vectors import Floats, places, unit
from schemas.answers.classes import SearchStart

STARTS = (1.0, 1.2, 1.5, 2.0, 3.0, 4.0)   # times the labelled classes
LABELLED_ROWS = 8       # of each labelled class, in any sample
ROWS_PER_START = 10     # a start has at most a class for so many rows


@dataclass(frozen=True)
class Estimate:
    """The number of classes, the labelled ones included."""

    k: int
    rows: NDArray[np.int64]
    """i64[m]: the rows compared, ascending: all, or a seeded sample of 20,000."""
    assignment: NDArray[np.int32]
    """i32[m]: the class of each of `rows`, 0..k-1; labelled ones come first."""
    labels: NDArray[np.int32]
    """i32[k]: the label of each class, -1 where the class is new."""
    centroids: Floats
    """f32[k, d], unit length: mean directions of the members among `rows`."""
    starts: tuple[SearchStart, ...]
    reason: str
    """Why this number, and what to doubt about it."""


def estimate_class_number(
    x: NDArray[np.floating], labels: NDArray[np.int32], seed: int, *, components: int | None = None
) -> Estimate:
    """The number of classes among the rows of x ([n, d], any float dtype, none zero), some of which have a label in i32[n] (>= 0;
    -1: unknown).

    Compares 20,000 rows at most (drawn by seed, with some rows of every labelled class), in so many principal components (by
    default 8 or 16, by the number of rows). Holds the sample only. Raises InputError without a labelled row.
    """
    if len(labels) != len(x) or not (labels >= 0).any():
        raise InputError("estimating the number of classes needs a label (>= 0) for some rows; without any, see the advice on k")
    rows = _sampled(labels, seed)
    classes, assignment = np.unique(labels[rows], return_inverse=True)
    assignment = (assignment - (classes[0] < 0)).astype(np.int32)
    classes = classes[classes >= 0]
    unit_rows = unit(x[rows])
    coordinates = projected(unit_rows, components or dimensions(len(rows), 2 * len(classes)))
    mixtures = {k: split_and_merge(coordinates, assignment, k, seed) for k in _starts(len(classes), len(rows))}
    first, best = max(mixtures.items(), key=lambda item: (item[1].score, -item[0]))
    starts = tuple(SearchStart(classes=k, found=mixture.k, score=mixture.score) for k, mixture in mixtures.items())
    new = np.full(best.k - len(classes), -1, np.int32)
    return Estimate(best.k, rows, best.assignment, np.concatenate([classes.astype(np.int32), new]),
                    _directions(unit_rows, best), starts, _reason(starts, first, (len(classes), len(rows), len(x))))


def _sampled(labels: NDArray[np.int32], seed: int) -> NDArray[np.int64]:
    """Row numbers i64[m], ascending: a few rows of each labelled class, then any, by seed."""
    if len(labels) <= MAX_ROWS:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    sorted_labels = labels[by_class]
    first = by_class[(sorted_labels >= 0) & (places(sorted_labels) < LABELLED_ROWS)]
    rest = shuffled[~np.isin(shuffled, first)]
    return np.sort(np.concatenate([first, rest])[:MAX_ROWS])


def _starts(labelled: int, rows: int) -> list[int]:
    limit = max(labelled, rows // ROWS_PER_START)
    return sorted({min(round(labelled * times), limit) for times in STARTS})


def _directions(unit_rows: Floats, mixture: Mixture) -> Floats:
    sums = np.zeros((mixture.k, unit_rows.shape[1]))
    np.add.at(sums, mixture.assignment, unit_rows.astype(np.float64))
    return unit(sums)


def _reason(starts: tuple[SearchStart, ...], first: int, counts: tuple[int, int, int]) -> str:
    labelled, sampled, rows = counts
    best = next(start for start in starts if start.classes == first)
    text = (f"{best.found} classes score highest, of which {labelled} have labels "
            f"(from {len(starts)} starts, which ended at {min(s.found for s in starts)} to {max(s.found for s in starts)})")
    if sampled < rows:
        text += f"; a sample of {sampled} of {rows} rows was looked at, rare classes may be missing"
    if first == starts[-1].classes and best.found >= first:
        text += "; the largest start won and did not shrink: there may be more"
    return text
