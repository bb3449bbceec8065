"""How good the classes of a run are: sizes, cohesion, separation and confusion, as a record for report and JSON.

A `Tally` is made per shard or partition and added up in any order: it holds integers and exact extremes only, so the record
has the same bits for any partition of the rows. Memory: a few values and at most 32 rows per class, and the pairs of classes
that occur in the sample of rows that `Counting.share` draws. Agreement with a reference and stability are in `agreement`.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import PAIRS as PAIR_STREAM
from pipeline.draws import drawn, sampled
from pipeline.reduce.describe.agreement import Agreement, Stability
from pipeline.reduce.describe.members import Members, extreme_members
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, Ids, Ints

FIXED = 2**30             # fixed point of sums of cosines: 2^33 rows of one class fit an int64
BINS = 2000               # of similarity, over [-1, 1]: quantiles to 0.001
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
PAIRS = 20                # confusable pairs in the record
PAIR_ROWS = 10            # sampled rows in both classes of a pair that is worth ranking
NEIGHBOURS = 16_384       # classes whose nearest other class is looked up; of more, a seeded sample


@dataclass(frozen=True)
class Counting:
    """What a tally counts."""

    k: int
    margin: float = 0.02
    """A row is between two classes when its second cosine is at most so much below its first."""
    share: float = 1.0
    """Share of the rows (0..1) that pairs of classes are counted on; drawn by row number and seed, so alike for any partition."""
    seed: int = 0


@dataclass(frozen=True)
class Tally:
    """Counts of some rows. Those of disjoint sets of rows add up."""

    counting: Counting
    sizes: Ints
    """i64[k]: rows whose nearest class is this one."""
    similarity: Ints
    """i64[k]: sum of their cosines to it, fixed point 2^-30."""
    histogram: Ints
    """i64[BINS]: rows by that cosine."""
    sampled: Ints
    """i64[k]: rows of the sample that pairs are counted on."""
    pairs: Ints
    """i64[p]: lower class * k + higher class, ascending: pairs that some sampled row is between."""
    between: Ints
    """i64[p]: rows of the sample between the two."""
    members: Members

    def __add__(self, other: "Tally") -> "Tally":
        if self.counting != other.counting:
            raise ValueError(f"tallies of different counting cannot be added: {self.counting} and {other.counting}")
        pairs, place = np.unique(np.concatenate([self.pairs, other.pairs]), return_inverse=True)
        between = np.zeros(len(pairs), np.int64)
        np.add.at(between, place, np.concatenate([self.between, other.between]))
        return Tally(self.counting, self.sizes + other.sizes, self.similarity + other.similarity, self.histogram + other.histogram,
                     self.sampled + other.sampled, pairs, between, self.members + other.members)


def tally(counting: Counting, rows: Ints, ids: Ids, cosines: Floats) -> Tally:
    """Counts rows with these numbers in the run (i64[n]), by their nearest classes (i32[n, >= 2], best first; 1 where k = 1) and
    the cosines to them (f32, same shape)."""
    k, classes, cosine = counting.k, ids[:, 0], cosines[:, 0]
    similarity = np.zeros(k, np.int64)
    np.add.at(similarity, classes, np.rint(cosine.astype(np.float64) * FIXED).astype(np.int64))
    bins = np.clip(((cosine.astype(np.float64) + 1) / 2 * BINS).astype(np.int64), 0, BINS - 1)
    chosen = drawn(rows, counting.seed, PAIR_STREAM, counting.share)
    close = chosen & (cosine - cosines[:, 1] <= counting.margin) if k > 1 else np.zeros(len(rows), bool)
    between_pairs = np.sort(ids[close, :2].astype(np.int64), axis=1)
    pairs, between = np.unique(between_pairs[:, 0] * k + between_pairs[:, -1], return_counts=True)
    return Tally(
        counting, np.bincount(classes, minlength=k).astype(np.int64), similarity,
        np.bincount(bins, minlength=BINS).astype(np.int64), np.bincount(classes[chosen], minlength=k).astype(np.int64),
        pairs, between.astype(np.int64), extreme_members(rows, classes, cosine),
    )


@dataclass(frozen=True)
class Measured:
    """What is measured elsewhere about the same classes; null: not measured."""

    agreement: Agreement | None = None
    stability: Stability | None = None
    recall: float | None = None
    """recall@l of the labels against exact search."""


def record(tally: Tally, centroids: Floats, measured: Measured = Measured()) -> dict[str, Any]:
    """The quality of the classes with these centroids f32[k, d] as JSON-able values. Cosines are of unit vectors, shares 0..1."""
    rows = int(tally.sizes.sum())
    return {
        "rows": rows,
        "classes": tally.counting.k,
        "sizes": sizes(tally.sizes),
        "within": _within(tally),
        "between": _between(centroids, tally.counting.seed),
        "confusable": _confusable(tally, centroids),
        "stability": None if measured.stability is None else asdict(measured.stability),
        "agreement": None if measured.agreement is None else asdict(measured.agreement),
        "recall": measured.recall,
    }


def sizes(counts: Ints) -> dict[str, Any]:
    """The distribution of class sizes i64[k]. Histogram: classes of 0, 1, 2-3, 4-7, ... rows, the key is the lower end.
    Imbalance: k * sum n_j^2 / n^2, 1 where all are of one size."""
    n = int(counts.sum())
    octave = np.zeros(len(counts), np.int64)
    octave[counts > 0] = np.frexp(counts[counts > 0].astype(np.float64))[1]
    return {
        "min": int(counts.min()), "max": int(counts.max()), "mean": n / len(counts), "empty": int((counts == 0).sum()),
        "quantiles": _quantiles(counts),
        "histogram": {str((1 << int(o)) >> 1): int(many) for o, many in zip(*np.unique(octave, return_counts=True), strict=True)},
        "imbalance": len(counts) * sum(int(c) ** 2 for c in counts) / n**2 if n else None,
    }


def class_means(tally: Tally) -> NDArray[np.float64]:
    """f64[k]: mean cosine of each class's rows to its centroid; nan where it has none."""
    with np.errstate(invalid="ignore"):
        return np.asarray(tally.similarity / FIXED / tally.sizes, np.float64)


def _within(tally: Tally) -> dict[str, Any]:
    """Cosines of rows to their own centroid: of all rows, and of the classes' means."""
    rows, means = int(tally.sizes.sum()), class_means(tally)
    means = means[np.isfinite(means)]
    if not rows:
        return {"mean": None, "quantiles": {}, "class_means": {}}
    reach = np.cumsum(tally.histogram)
    at = {str(q): (int(np.searchsorted(reach, q * rows)) + 0.5) / BINS * 2 - 1 for q in QUANTILES}
    return {"mean": int(tally.similarity.sum()) / FIXED / rows, "quantiles": {q: round(v, 4) for q, v in at.items()},
            "class_means": _quantiles(means)}


def _between(centroids: Floats, seed: int) -> dict[str, Any]:
    """Cosines of centroids to the nearest other centroid."""
    if len(centroids) < 2:
        return {"classes": 0, "mean": None, "quantiles": {}}
    chosen = sampled(np.arange(len(centroids)), NEIGHBOURS, seed)
    ids, cosines = nearest(centroids[chosen], centroids, 2)
    nearest_other = np.where(ids[:, 0] == chosen, cosines[:, 1], cosines[:, 0]).astype(np.float64)
    return {"classes": len(chosen), "mean": float(nearest_other.mean()), "quantiles": _quantiles(nearest_other)}


def _confusable(tally: Tally, centroids: Floats) -> dict[str, Any]:
    """The pairs with the largest share of sampled rows between them, of the rows of both classes; equal ones by the ids."""
    k = max(tally.counting.k, 1)
    lower, higher = np.divmod(tally.pairs, k)
    rows = tally.sampled[lower] + tally.sampled[higher]
    share = tally.between / np.maximum(rows, 1)
    order = np.lexsort((tally.pairs, -share))
    order = order[rows[order] >= PAIR_ROWS][:PAIRS]
    cosine = (centroids[lower[order]].astype(np.float64) * centroids[higher[order]]).sum(axis=1)
    total = int(tally.sampled.sum())
    return {
        "margin": tally.counting.margin, "rows": total,
        "share": int(tally.between.sum()) / total if total else None,
        "pairs": [
            {"classes": [int(lower[at]), int(higher[at])], "share": float(share[at]), "rows": int(tally.between[at]),
             "cosine": float(c)}
            for at, c in zip(order, cosine, strict=True)
        ],
    }


def _quantiles(values: NDArray[np.generic]) -> dict[str, float]:
    if not len(values):
        return {}
    return {str(q): float(v) for q, v in zip(QUANTILES, np.quantile(values.astype(np.float64), QUANTILES), strict=True)}
