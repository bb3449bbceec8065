"""How many classes are there, when some are known: the labelled rows of some classes tell how wide a class is.

`mixture.fixed_point` from several numbers of classes; the partition of the highest score wins, because where a start ends
depends on where it began. See `advise.py` for embeddings without any labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.class_number.mixture import Mixture, fixed_point
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
    """The rows looked at, ascending: all, or a seeded sample of 20,000."""
    assignment: NDArray[np.int32]
    """The class of each of `rows`, 0..k-1; labelled ones come first."""
    labels: NDArray[np.int32]
    """i32[k]: the given label of each class, -1 where the class is new."""
    centroids: Floats
    """f32[k, d], unit length: mean directions of the members among `rows`."""
    starts: tuple[SearchStart, ...]
    reason: str
    """Why this number, and what to doubt about it."""


def estimate(x: NDArray[np.floating], labels: NDArray[np.int32], seed: int, *, most: int | None = None) -> Estimate:
    """Classes among the rows of x ([n, d], any float dtype, none zero), some of which have a label (>= 0; -1: unknown).

    Looks at 20,000 rows at most (drawn by seed, with some rows of every labelled class), in `most` principal components (8 or
    16 by the number of rows). Holds the sample only. Raises InputError without a labelled row.
    """
    if len(labels) != len(x) or not (labels >= 0).any():
        raise InputError("estimating the number of classes needs a label (>= 0) for some rows; without any, see the advice on k")
    rows = _sampled(labels, seed)
    given, known = np.unique(labels[rows], return_inverse=True)
    known = (known - (given[0] < 0)).astype(np.int32)
    given = given[given >= 0]
    unit_rows = unit(x[rows])
    coordinates = projected(unit_rows, most or dimensions(len(rows), 2 * len(given)))
    tried = {k: fixed_point(coordinates, known, k, seed) for k in _starts(len(given), len(rows))}
    first, best = max(tried.items(), key=lambda one: (one[1].score, -one[0]))
    starts = tuple(SearchStart(classes=k, found=found.k, score=found.score) for k, found in tried.items())
    new = np.full(best.k - len(given), -1, np.int32)
    return Estimate(best.k, rows, best.assignment, np.concatenate([given.astype(np.int32), new]),
                    _directions(unit_rows, best), starts, _reason(starts, first, (len(given), len(rows), len(x))))


def _sampled(labels: NDArray[np.int32], seed: int) -> NDArray[np.int64]:
    """A few rows of each labelled class, then any, by seed."""
    if len(labels) <= MAX_ROWS:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    given = labels[by_class]
    first = by_class[(given >= 0) & (places(given) < LABELLED_ROWS)]
    rest = shuffled[~np.isin(shuffled, first)]
    return np.sort(np.concatenate([first, rest])[:MAX_ROWS])


def _starts(known: int, rows: int) -> list[int]:
    limit = max(known, rows // ROWS_PER_START)
    return sorted({min(round(known * times), limit) for times in STARTS})


def _directions(unit_rows: Floats, found: Mixture) -> Floats:
    sums = np.zeros((found.k, unit_rows.shape[1]))
    np.add.at(sums, found.assignment, unit_rows.astype(np.float64))
    return unit(sums)


def _reason(starts: tuple[SearchStart, ...], first: int, counts: tuple[int, int, int]) -> str:
    known, seen, rows = counts
    best = next(start for start in starts if start.classes == first)
    text = (f"{best.found} classes score highest, of which {known} have labels "
            f"(from {len(starts)} starts, which ended at {min(s.found for s in starts)} to {max(s.found for s in starts)})")
    if seen < rows:
        text += f"; a sample of {seen} of {rows} rows was looked at, rare classes may be missing"
    if first == starts[-1].classes and best.found >= first:
        text += "; the largest start won and did not shrink: there may be more"
    return text
