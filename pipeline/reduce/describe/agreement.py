"""How far two divisions of the same rows agree: purity and adjusted mutual information against a reference, each with what
chance alone gives, and whether a refit with another seed finds the same classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import sampled
from pipeline.reduce.classes.overlap import Overlap, rand_index
from pipeline.reduce.kmeans import in_memory as kmeans
from pipeline.vectors import Ids

MAX_ROWS = 20_000      # rows of any sample in this module
SHUFFLES = 5
ROWS_PER_CLASS = 10    # a refit on fewer rows per class says nothing about the fit on all rows
ITERATIONS = 15


@dataclass(frozen=True)
class Agreement:
    """How far the classes of a sample agree with a reference column."""

    rows: int
    """Rows of the sample that have a reference value."""
    values: int
    """Different reference values among them."""
    purity: float
    """Share of the rows whose value is the commonest one of their class."""
    purity_by_chance: float
    """Purity of the classes against shuffled values; it grows with the number of classes."""
    ami: float
    """Adjusted mutual information (Vinh, Epps and Bailey 2010, arithmetic mean): 0 by chance, 1 for the same division."""
    ami_by_chance: float
    """Mean over shuffled values: how near 0 chance comes here."""


@dataclass(frozen=True)
class Stability:
    """Two fits of one sample that differ in their seeds only."""

    ari: float | None
    """Adjusted Rand index (Hubert and Arabie 1985) of the two divisions: 0 by chance, 1 for the same; null: see `reason`."""
    rows: int
    k: int
    reason: str | None


def agreement(assignment: Ids, reference: Sequence[str | None], seed: int) -> Agreement | None:
    """The agreement of the classes i32[n] of some rows with a reference value of each (None: not known). None where no row has a
    value.

    More than 20,000 rows with a value are sampled by seed.
    """
    rows = np.array([row for row, value in enumerate(reference) if value is not None], np.int64)
    rows = sampled(rows, MAX_ROWS, seed)
    if not len(rows):
        return None
    from sklearn.metrics import adjusted_mutual_info_score  # more than a second

    values, codes = np.unique([str(reference[row]) for row in rows], return_inverse=True)
    classes = np.unique(assignment[rows], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(codes) for _ in range(SHUFFLES)]
    return Agreement(
        len(rows), len(values), purity(classes, codes), float(np.mean([purity(classes, permuted) for permuted in shuffled])),
        float(adjusted_mutual_info_score(codes, classes)),
        float(np.mean([adjusted_mutual_info_score(permuted, classes) for permuted in shuffled])),
    )


def purity(classes: NDArray[np.int64], values: NDArray[np.int64]) -> float:
    """Share of the rows (0..1) whose value is the commonest of their class; classes and values i64[n], numbered from 0."""
    kinds = int(values.max()) + 1
    cells, count = np.unique(classes * kinds + values, return_counts=True)
    best = np.zeros(int(classes.max()) + 1, np.int64)
    np.maximum.at(best, cells // kinds, count)
    return float(best.sum() / len(classes))


def reseeded(x: NDArray[np.floating], k: int, seed: int) -> Stability:
    """The agreement of two fits of k classes on a seeded sample of at most 20,000 rows of x ([n, d], any float dtype; read by row
    number, so it may be a memory map)."""
    rows = sampled(np.arange(len(x)), MAX_ROWS, seed)
    if len(rows) < ROWS_PER_CLASS * k:
        reason = f"{len(rows)} rows are too few to refit {k} classes; at least {ROWS_PER_CLASS} per class are needed"
        return Stability(None, len(rows), k, reason)
    drawn = np.asarray(x[rows])
    first, second = (kmeans.fit(drawn, k, seed=s, iterations=ITERATIONS).assignment for s in (seed, seed + 1))
    return Stability(rand_index(Overlap.of(first, second)), len(rows), k, None)
