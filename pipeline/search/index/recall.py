"""How much a search finds: recall@10 against exact search, and the smallest effort that finds enough.

Queries are vectors that the index was not trained on, each looking for its neighbours but itself, and vectors of the other kind
(captions look for pictures, as people do): these lie apart from what they look for, and need more effort. The lowest recall of the
kinds counts.

A vector that is as similar as the tenth counts as found whichever of several equal ones it is, as in ann-benchmarks: a set with
copies has more than ten nearest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.search.index.choice import HNSW
from pipeline.search.index.ids import NOTHING
from pipeline.search.index.opened import OpenIndex
from pipeline.vectors import Bools, Floats, Ints
from schemas.indexes import Measured, Tried

DEPTH = 10
"""Neighbours that count."""
SHARES = (1.0, 0.1, 0.01)
"""Of the vectors that may be found: all, and what a filter leaves."""
TIE = 1e-6
"""Similarities in float32 that differ by less are equal."""
FLAT_GAIN = 0.002
"""An inverted file of coarse codes gains nothing from more lists at some point: where two doublings gain less, it stops."""

Similar = Callable[[Floats, Ints], Floats]
"""From queries, f32 [q, d], and ids, i64 [q, m], to their exact similarities, f32 [q, m]; -inf where there is no neighbour."""


@dataclass(frozen=True)
class Truth:
    """Queries of one kind and their true neighbours among a share of the vectors."""

    queries: Floats
    """f32 [q, d]"""
    own: Ints
    """i64 [q]: the id of each query in the index, which it does not look for; -1 where it is not in it."""
    ids: Ints
    """i64 [q, DEPTH]: the nearest but itself, best first; -1 where there are fewer."""
    similarities: Floats
    """f32 [q, DEPTH]"""


@dataclass
class Judge:
    """Counts what searches find. Exact similarities of what is not among the true neighbours are asked for once."""

    truth: Truth
    similar: Similar
    _known: dict[tuple[int, int], float] = field(default_factory=dict)

    def recall(self, found: Ints) -> float:
        """Share of the true neighbours that were found, 0..1; 1 where there is none. `found`: i64 [q, DEPTH]."""
        there = (self.truth.ids != NOTHING).sum(axis=1)
        if not there.any():
            return 1.0
        right = (found[:, :, None] == self.truth.ids[:, None, :]).any(axis=2) & (found != NOTHING)
        right |= self._tied(found, right, there)
        counted = np.minimum(right.sum(axis=1), there)
        return float(counted.sum() / there.sum())

    def _tied(self, found: Ints, right: Bools, there: Ints) -> Bools:
        """Which of the others are as similar as the last true neighbour."""
        last = self.truth.similarities[np.arange(len(there)), np.maximum(there - 1, 0)]
        rows, columns = np.nonzero(~right & (found != NOTHING) & (there > 0)[:, None])
        asked = [(int(row), int(found[row, column])) for row, column in zip(rows, columns, strict=True)]
        missing = [pair for pair in dict.fromkeys(asked) if pair not in self._known]
        if missing:
            pairs = np.array(missing, np.int64)
            values = self.similar(self.truth.queries[pairs[:, 0]], pairs[:, 1:])[:, 0]
            self._known.update(zip(missing, values.tolist(), strict=True))
        tied = np.zeros_like(right)
        tied[rows, columns] = [self._known[pair] >= last[pair[0]] - TIE for pair in asked]
        return tied


@dataclass(frozen=True)
class Among:
    """The vectors that may be found: a share of all, and their ids, i64 [n]; None: all."""

    share: float = 1.0
    allowed: Ints | None = None


def measured(index: OpenIndex, judges: Mapping[str, Judge], among: Among, wished: float, start: int = 1) -> Measured:
    """The smallest effort, of those that are tried from `start` on, with which the recall of each kind of queries reaches what is
    wished."""
    curve: list[Tried] = []
    for effort in efforts(index.most, start):
        recalls = [_recall(index, judge, among.allowed, effort) for judge in judges.values()]
        curve.append(Tried(effort=effort, recall=round(min(recalls), 4)))
        if curve[-1].recall >= wished or (len(curve) > 4 and curve[-1].recall - curve[-5].recall < FLAT_GAIN):
            break
    best = curve[-1] if curve[-1].recall >= wished else max(curve, key=lambda tried: (tried.recall, -tried.effort))
    return Measured(share=among.share, effort=best.effort, recall=best.recall, reached=best.recall >= wished, curve=tuple(curve))


def least_effort(kind: str) -> int:
    """Of a search: one list; a walk through a graph is as wide as the neighbours are many, so a narrower one is the same again."""
    return 16 if kind == HNSW else 1


def efforts(most: int, start: int = 1) -> Sequence[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … from `start` on, and `most`."""
    found, step = list[int](), 1
    while step < most:
        found += [step, step + step // 2] if step > 1 else [step]
        step *= 2
    return [effort for effort in found if start <= effort < most] + [most]


def _recall(index: OpenIndex, judge: Judge, allowed: Ints | None, effort: int) -> float:
    truth = judge.truth
    found = index.search(truth.queries, DEPTH + 1, allowed=allowed, effort=effort)
    return judge.recall(without(found.ids, truth.own)) if len(truth.queries) else 1.0


def without(ids: Ints, own: Ints) -> Ints:
    """i64 [q, m - 1]: the first of each row of i64 [q, m] but its own."""
    order = np.argsort((ids == own[:, None]) & (ids != NOTHING), axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(ids, order, 1)
