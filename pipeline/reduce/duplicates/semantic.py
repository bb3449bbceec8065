"""Duplicates by meaning: pictures of one class whose embeddings are nearly the same (SemDeDup, Abbas et al. 2023, arXiv
2303.09540, section 3).

The rows of a class are put in an order of preference: by the paper, and by its code's default (`keep_hard`), the row least
similar to the centroid comes first. Row j then goes where the cosine to a row before it is above 1 - epsilon; the larger
epsilon is, the more go (the README of the authors' code has that the wrong way round).

As published, the row before may have gone itself, so that a chain a ~ b ~ c leaves a alone although c is not like a. Greedy, a
row goes only when one that stays is so near: nothing is lost that nothing stands for, and rows that went are compared no more,
which also bounds the work on a class that is full of one picture. Rows of different classes are not compared.

Every cosine is exact, whatever the machine, the number of threads and the blocks: a unit row is rounded to multiples of 2^-26,
so by Cauchy and Schwarz all partial sums of a product of two are multiples of 2^-52 below 2, which float64 adds without rounding
in any order. What is rounded away moves a cosine by less than 1e-7; float16, in which embeddings are stored, moves it by more.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.duplicates.shelf import Shelf
from pipeline.vectors import Bools, Doubles, Floats, Halves, Ids, Ints, Matrix
from pipeline.work import beat

STEP = 2.0**26
"""Unit rows are rounded to multiples of its reciprocal."""
ONE = STEP * STEP
"""The product of equal unit rows, about."""
BLOCK = 1024
"""Rows that are compared at once with those before."""
AGAINST = 4096
"""Rows before, at once: a product holds BLOCK x AGAINST x 8 bytes."""

Keep = Literal["hard", "easy", "random"]


@dataclass(frozen=True)
class SemanticRule:
    """Which rows of a class go."""

    epsilon: float
    """A row goes where a cosine to a preferred one is above 1 - epsilon."""
    greedy: bool = True
    """Only for a preferred row that stays; else as published."""

    @property
    def bound(self) -> float:
        """Products of lattice rows above it are of duplicates."""
        return (1 - self.epsilon) * ONE


@dataclass(frozen=True)
class Judged:
    """What became of the n rows of a class, in the order of preference."""

    of: Ints
    """i64[n]: the place of the row that removes it, -1 where it stays. Greedy: the first in the order that stays and is near
    enough; as published: the nearest before it (equal ones: the first)."""
    similarity: Floats
    """f32[n]: the highest cosine to the rows before it that it was compared with, of a row that goes that to `of`; -1 for the
    first. As published it is SemDeDup's M, so that any other bound on it is another epsilon."""
    chained: Bools
    """bool[n]: goes although no row that stays is near enough; none does when greedy."""


class Ordered(Protocol):
    """Rows of a class in the order of preference."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Halves:
        """f16[m, d]: the rows from `start` up to `stop`, or up to the end."""


def lattice(rows: Matrix) -> Doubles:
    """Rows f16[n, d], nearly unit, at length 1 in steps of 2^-26: whole numbers f64[n, d]. Exact: squares of float16 are multiples
    of 2^-48, whose sum float64 holds, and IEEE 754 rounds roots, quotients and whole numbers correctly."""
    wide = np.asarray(rows, np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return np.asarray(np.rint(wide / np.where(length == 0, 1, length) * STEP))


def preference(rows: Matrix, centroids: Floats, place: Ids, keep: Keep, drawn: NDArray[np.uint64]) -> Ints:
    """i64[n]: the rank of each row f16[n, d] in its class, lower is preferred. `place`, i32[n], are the rows' classes by position
    among the centroids f32[k, d]; `drawn`, u64[n], are uniform numbers, which decide alone where `keep` is random."""
    if keep == "random":
        return (drawn >> np.uint64(1)).astype(np.int64)
    nearness = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        centres = np.rint(centroids[place[part]].astype(np.float64) * STEP)
        nearness[part] = (lattice(rows[part]) * centres).sum(axis=1)
    return nearness if keep == "hard" else -nearness


def judged(rows: Ordered, rule: SemanticRule) -> Judged:
    """Compares every row of a class with those before it. Memory is bounded whatever the size of the class: blocks of the upper
    triangle are compared one after another, and rows to compare with lie on a shelf."""
    n = len(rows)
    result = Judged(np.full(n, -1, np.int64), np.full(n, -1, np.float32), np.zeros(n, bool))
    before, places = Shelf(), np.empty(n, np.int64)   # rows to compare with, and their places in the order
    try:
        for start in range(0, n, BLOCK):
            halves = rows.part(start, start + BLOCK)
            block = _Block(lattice(halves), start, rule)
            for at in range(0, len(before), AGAINST):
                earlier = before.part(at, at + AGAINST)
                of = places[at : at + len(earlier)]
                block.compare(lattice(earlier), of, result.of[of] < 0)
                beat()
            block.compare_within()
            part = slice(start, start + len(halves))
            result.of[part], result.similarity[part], result.chained[part] = block.of, block.similarity, block.chained
            taken = block.of < 0 if rule.greedy else np.ones(len(halves), bool)
            places[len(before) : len(before) + int(taken.sum())] = start + np.flatnonzero(taken)
            before.add(halves[taken])
    finally:
        before.close()
    return result


class _Block:
    """Rows of a class that are being judged: places `start`, `start` + 1, … of the order."""

    def __init__(self, rows: Doubles, start: int, rule: SemanticRule) -> None:
        self._rows, self._start, self._rule = rows, start, rule
        self._best = np.full(len(rows), -np.inf)         # the highest product so far
        self._nearest = np.full(len(rows), -1, np.int64)   # where it was
        self._covered = np.zeros(len(rows), bool)        # near enough to a row that stays
        self._removed = np.zeros(len(rows), bool)

    def compare(self, earlier: Doubles, places: Ints, stays: Bools) -> None:
        """With rows before the block: f64[m, d], at these places of the order, i64[m], of which some stay, bool[m]."""
        open_rows = np.flatnonzero(~self._removed) if self._rule.greedy else np.arange(len(self._rows))
        if not len(open_rows) or not len(earlier):
            return
        product = earlier @ self._rows[open_rows].T
        near = product > self._rule.bound
        self._covered[open_rows] |= (near & stays[:, None]).any(axis=0)
        first = near.argmax(axis=0) if self._rule.greedy else product.argmax(axis=0)
        hit = near.any(axis=0)
        chosen = np.where(hit, first, product.argmax(axis=0))
        value = product[chosen, np.arange(len(open_rows))]
        better = hit if self._rule.greedy else np.zeros(len(open_rows), bool)
        better = better | (value > self._best[open_rows])   # of equal ones the first stands
        rows = open_rows[better]
        self._best[rows], self._nearest[rows] = value[better], places[chosen[better]]
        self._removed[open_rows[hit]] = True

    def compare_within(self) -> None:
        """With the rows of the block that come before."""
        product = np.where(np.tri(len(self._rows), k=-1, dtype=bool).T, self._rows @ self._rows.T, -np.inf)
        near = product > self._rule.bound
        if self._rule.greedy:
            self._greedy_within(product, near)
            return
        best, first = product.max(axis=0), product.argmax(axis=0)
        better = best > self._best
        self._best[better], self._nearest[better] = best[better], self._start + first[better]
        self._removed |= near.any(axis=0)
        self._covered |= (near & ~self._removed[:, None]).any(axis=0)

    def _greedy_within(self, product: Doubles, near: Bools) -> None:
        for j in np.flatnonzero(near.any(axis=0) & ~self._removed).tolist():   # in order, so those before are decided
            removing = np.flatnonzero(near[:, j] & ~self._removed)
            if len(removing):
                self._removed[j] = self._covered[j] = True
                self._best[j], self._nearest[j] = product[removing[0], j], self._start + removing[0]
        stays = ~self._removed
        within = np.where(stays[:, None], product, -np.inf).max(axis=0, initial=-np.inf)
        self._best[stays] = np.maximum(self._best, within)[stays]

    @property
    def of(self) -> Ints:
        return np.where(self._removed, self._nearest, -1)

    @property
    def similarity(self) -> Floats:
        return np.clip(self._best / ONE, -1, 1).astype(np.float32)

    @property
    def chained(self) -> Bools:
        return self._removed & ~self._covered
