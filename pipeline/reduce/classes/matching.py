"""Which class of one fit is which of another.

Each candidate pair of an old and a new class has a score in [0, 1], the weighted mean of
- closeness: how far the centroid stayed, (cos - c) / (1 - c) clipped at 0, c being the cosine of the old centroid to the nearest
  other old one. 1 is the same place, 0 as far away as the next class: cosines alone mean something else for every encoder.
- overlap: the Jaccard index of the two classes' samples, over samples present in both fits. Where neither class has such a
  sample, or none are given, closeness alone counts.
The matching is the one-to-one choice of pairs with the greatest sum of scores.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.classes.overlap import Overlap
from pipeline.search.nearest import nearest
from pipeline.vectors import Doubles, Floats, Ints, ranked, unit

EXACT = 2048             # classes on a side of a group that is matched optimally: a matrix of 32 MB
PAIR_VALUES = 1 << 22    # float64 values of one block of cosines: 32 MB


@dataclass(frozen=True)
class MatchRule:
    """When an old and a new class are the same."""

    overlap_weight: float = 0.5
    """Share of the overlap in the score; the rest is closeness."""
    floor: float = 0.25
    """Pairs with a lower score are different classes."""
    candidates: int = 8
    """Partners scored for each class: so many nearest, and so many with the most common samples."""

    def __post_init__(self) -> None:
        if not (0 <= self.overlap_weight <= 1 and 0 < self.floor <= 1 and self.candidates >= 1):
            raise InputError(f"matching needs overlap_weight in 0..1, a floor above 0 up to 1 and 1 or more candidates, not {self}")


@dataclass(frozen=True)
class ClassPairs:
    """Pairs of an old and a new class (positions), by old then new, each once: parallel arrays."""

    old: Ints
    """i64[p]"""
    new: Ints
    """i64[p]"""
    score: Doubles
    """f64[p], 0..1."""
    cosine: Doubles
    """f64[p], of the two centroids."""
    overlap: Doubles
    """f64[p]: the Jaccard index of their samples; NaN where it is not known."""

    def __len__(self) -> int:
        return len(self.old)

    def where(self, chosen: NDArray[Any]) -> "ClassPairs":
        """The pairs at a mask or at positions."""
        return ClassPairs(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def best(self, side: Ints, positions: Ints) -> "ClassPairs":
        """For each of these positions i64[m] of a side (`self.old` or `self.new`), its pair with the highest score above 0, equal
        ones by the lower partner; without one, positions of -1 and NaN."""
        order, place = ranked(side.astype(np.int32), -self.score)
        lead = order[(place == 0) & (self.score[order] > 0)]
        place_of = np.searchsorted(side[lead], positions)
        has = place_of < len(lead)
        has[has] = side[lead][place_of[has]] == positions[has]
        result = ClassPairs(*(np.full(len(positions), empty) for empty in (-1, -1, np.nan, np.nan, np.nan)))
        for f in fields(self):
            getattr(result, f.name)[has] = getattr(self, f.name)[lead[place_of[has]]]
        return result


def scored(old: Floats, new: Floats, overlap: Overlap | None, rule: MatchRule) -> ClassPairs:
    """The candidate pairs of two sets of centroids, f32[k, d] each, with their scores. Memory O(k x (d + candidates) + pairs of the
    overlap)."""
    if not (len(old) and len(new)):
        nothing = np.zeros(0)
        return ClassPairs(nothing.astype(np.int64), nothing.astype(np.int64), nothing, nothing, nothing)
    a, b = unit(old), unit(new)
    pair = np.unique(np.concatenate([_nearby(a, b, rule.candidates), _sharing(overlap, len(b), rule.candidates)]))
    old_ids, new_ids = pair // len(b), pair % len(b)
    cosine = _cosines(a, b, old_ids, new_ids)
    jaccard = np.full(len(pair), np.nan) if overlap is None else _jaccard(overlap, old_ids, new_ids, (len(a), len(b)))
    weight = np.where(np.isnan(jaccard), 0, rule.overlap_weight)
    score = (1 - weight) * _closeness(a, cosine, old_ids) + weight * np.nan_to_num(jaccard)
    return ClassPairs(old_ids, new_ids, score, cosine, jaccard)


def _nearby(a: Floats, b: Floats, count: int) -> Ints:
    """Pairs i64[p], as old x len(b) + new, of each centroid with the `count` nearest ones of the other side."""
    forth = nearest(a, b, min(count, len(b)))[0].astype(np.int64)
    back = nearest(b, a, min(count, len(a)))[0].astype(np.int64)
    from_old = np.arange(len(a))[:, None] * len(b) + forth
    from_new = back * len(b) + np.arange(len(b))[:, None]
    return np.concatenate([from_old.ravel(), from_new.ravel()])


def _sharing(overlap: Overlap | None, width: int, count: int) -> Ints:
    """Pairs i64[p], as old x width + new, of each class with the `count` that share the most samples with it."""
    if overlap is None:
        return np.zeros(0, np.int64)
    chosen = []
    for side in (overlap.old, overlap.new):
        order, place = ranked(side.astype(np.int32), -overlap.rows)
        chosen.append(order[place < count])
    at = np.concatenate(chosen)
    return overlap.old[at] * width + overlap.new[at]


def _cosines(a: Floats, b: Floats, old: Ints, new: Ints) -> Doubles:
    result = np.empty(len(old))
    step = max(1, PAIR_VALUES // a.shape[1])
    for at in range(0, len(old), step):
        part = slice(at, at + step)
        result[part] = (a[old[part]].astype(np.float64) * b[new[part]]).sum(axis=1)
    return np.clip(result, -1, 1)


def _closeness(a: Floats, cosine: Doubles, old: Ints) -> Doubles:
    if len(a) == 1:
        return np.maximum(cosine, 0)
    ids, values = nearest(a, a, 2)
    beside = np.where(ids[:, 0] == np.arange(len(a)), values[:, 1], values[:, 0]).astype(np.float64)   # a twin may rank first
    room = np.maximum(1 - beside, 1e-6)[old]
    return np.clip(1 - (1 - cosine) / room, 0, 1)


def _jaccard(overlap: Overlap, old: Ints, new: Ints, k: tuple[int, int]) -> Doubles:
    """The Jaccard index f64[p] of each pair's samples; NaN where neither class has a sample in both fits."""
    counted = overlap.old * k[1] + overlap.new   # ascending, each once
    pair = old * k[1] + new
    place = np.searchsorted(counted, pair)
    has = place < len(counted)
    has[has] = counted[place[has]] == pair[has]
    shared = np.zeros(len(pair), np.int64)
    shared[has] = overlap.rows[place[has]]
    either = overlap.totals(overlap.old, k[0])[old] + overlap.totals(overlap.new, k[1])[new] - shared
    return np.where(either > 0, shared / np.maximum(either, 1), np.nan)


def matching(pairs: ClassPairs) -> ClassPairs:
    """The one-to-one choice of pairs with the greatest sum of scores (all > 0), by old position: a linear sum assignment.

    Pairs fall into groups that share no class. Each is solved on its own: optimally up to EXACT classes on a side; beyond it, best
    pair first, which gives the same wherever each class's best partner is beyond doubt.
    """
    if not len(pairs):
        return pairs
    group = _groups(pairs)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    chosen = [_solved(pairs, part) if len(part) > 1 else part for part in np.split(order, starts[1:])]
    return pairs.where(np.sort(np.concatenate(chosen)))


def _groups(pairs: ClassPairs) -> NDArray[np.int32]:
    """A number per pair, the same for pairs that are linked by common classes."""
    from scipy.sparse import coo_array  # importing scipy takes a fifth of a second
    from scipy.sparse.csgraph import connected_components

    olds = int(pairs.old.max()) + 1
    nodes = olds + int(pairs.new.max()) + 1
    links = coo_array((np.ones(len(pairs), np.int8), (pairs.old, olds + pairs.new)), shape=(nodes, nodes))
    label: NDArray[np.int32] = connected_components(links, directed=False)[1]
    return label[pairs.old]


def _solved(pairs: ClassPairs, part: Ints) -> Ints:
    """Those of the pairs at `part` (one group, ascending) that are chosen."""
    from scipy.optimize import linear_sum_assignment

    rows, row = np.unique(pairs.old[part], return_inverse=True)
    columns, column = np.unique(pairs.new[part], return_inverse=True)
    if max(len(rows), len(columns)) > EXACT:
        return greedily(pairs, part)
    scores = np.zeros((len(rows), len(columns)))
    scores[row, column] = pairs.score[part]
    place = np.full(scores.shape, -1, np.int32)
    place[row, column] = np.arange(len(part))
    chosen = place[linear_sum_assignment(scores, maximize=True)]
    return np.asarray(part[chosen[chosen >= 0]])


def greedily(pairs: ClassPairs, part: Ints) -> Ints:
    """Those of the pairs at `part` (i64[m]) that a greedy choice takes: best pair first, equal scores by old then new position,
    without classes that are matched already."""
    best_first = part[np.argsort(-pairs.score[part], kind="stable")]
    taken_old, taken_new, chosen = set(), set(), []
    for at, old, new in zip(best_first.tolist(), pairs.old[best_first].tolist(), pairs.new[best_first].tolist(), strict=True):
        if old not in taken_old and new not in taken_new:
            taken_old.add(old)
            taken_new.add(new)
            chosen.append(at)
    return np.array(chosen, np.int64)
