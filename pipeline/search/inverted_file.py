"""Nearest centres through an inverted file, for centres by the tens of thousands, and the gate that allows it.

The centres are put into lists, each around a coarse centre; a row is compared with those of the few lists nearest to it,
all rows of a list in one matrix product. Lists and probes are found by the exact search and values measured as there, so
every process finds the same: the nearest centres of the probed lists, with exact values.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.search.kernels import Centres, Kernel, SearchResult, kernel
from pipeline.search.nearest import assigned, nearest
from pipeline.vectors import Doubles, Floats, Ids, Ints, unit

LEAST = 16_384   # centres below which the exact search is chosen without a trial
PROBES = (4, 8, 16, 32)
ROUNDS = 5       # of the coarse centres' fit
TRAINED = 64     # centres per list that this fit is made on
BOUND = 0.95
ERRORS = 3       # standard errors that a measured recall must lie above its bound


@dataclass(frozen=True)
class Search:
    """How rows are compared with centres, in plain values: chosen once and handed to every process. JSON-able by `asdict`."""

    probes: int | None
    """Lists that each row is compared with; null: every centre is compared."""
    lists: int | None = None
    seed: int = 0
    recall: float = 1.0
    """Share of the l nearest centres that the search gives, over the sample."""
    sample: int = 0
    """Rows that the recall was measured on."""
    tried: tuple[tuple[int, float], ...] = ()
    """(probes, recall) of every trial."""

    def centres(self, vectors: Floats, exact: Kernel | None = None) -> Centres:
        """The centres f32[k, d], made ready for this search. `exact` replaces the process's own kernel."""
        ready = (exact or kernel())(np.ascontiguousarray(vectors, np.float32))
        if self.probes is None or self.lists is None:
            return ready
        return ListedCentres(ready, InvertedFile(ready.vectors, self.lists, self.seed), self.probes)

    def record(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return asdict(self)


EXACT = Search(None)


@dataclass(frozen=True, eq=False)
class InvertedFile:
    """The centres f32[k, d] in so many lists; holds a copy of them. Equal arguments give an equal file in every process."""

    vectors: Floats
    count: int
    seed: int

    @cached_property
    def coarse(self) -> Centres:
        """The lists' own centres: a short Lloyd fit on centres drawn by the seed. Sums go by ascending id, in float64."""
        drawn = np.random.default_rng(self.seed).permutation(len(self.vectors))[: TRAINED * self.count]
        coarse, rows = self.vectors[drawn[: self.count]], self.vectors[np.sort(drawn)]
        for _ in range(ROUNDS):
            order, starts, sizes = _grouped(assigned(rows, kernel()(coarse)), self.count)
            used = np.flatnonzero(sizes)
            coarse = coarse.copy()   # a search made ready holds the former ones
            coarse[used] = unit(np.add.reduceat(rows[order].astype(np.float64), starts[used], axis=0))
        return kernel()(coarse)

    @cached_property
    def _sorted(self) -> tuple[Ints, Floats, Ints, Ints]:
        """Ids i64[k] by list, their vectors f32[k, d], and where each list begins and how long it is, i64[lists] each."""
        order, starts, sizes = _grouped(assigned(self.vectors, self.coarse), self.count)
        return order, self.vectors[order], starts, sizes

    def lists_of(self, probed: Ids) -> Iterator[tuple[Ints, Ints, Floats]]:
        """For each list that `probed` (i32[n], a list each) names: its places in `probed`, the ids of its centres i64[c], and their
        vectors f32[c, d]."""
        ids, vectors, starts, sizes = self._sorted
        order, first, named = _grouped(probed, self.count)
        for number in np.flatnonzero((named > 0) & (sizes > 0)):
            inside = slice(starts[number], starts[number] + sizes[number])
            yield order[first[number] : first[number] + named[number]], ids[inside], vectors[inside]


def _grouped(groups: Ids, count: int) -> tuple[Ints, Ints, Ints]:
    """Places i64[n] by group, equal ones as they come; where each group begins among them, and its size, i64[count] each."""
    sizes = np.bincount(groups, minlength=count)
    return np.argsort(groups, kind="stable"), np.cumsum(sizes) - sizes, sizes


@dataclass(frozen=True, eq=False)
class ListedCentres:
    """Centres of which a row is compared with those in the lists nearest to it."""

    exact: Centres
    file: InvertedFile
    probes: int

    @property
    def vectors(self) -> Floats:
        """The centres f32[k, d]."""
        return self.exact.vectors

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `kernels.Centres`: of the probed lists the m best of each, then the m best of these. Rows whose lists hold fewer than
        m centres go to the exact search."""
        probed = nearest(rows, self.file.coarse, self.probes)[0]
        ids = np.full((probed.size, m), -1, np.int64)
        values = np.full((probed.size, m), -np.inf, np.float32)
        for places, members, vectors in self.file.lists_of(probed.ravel()):
            products = rows[places // self.probes] @ vectors.T
            columns = _largest(products, m)
            ids[places, : columns.shape[1]] = members[columns]
            values[places, : columns.shape[1]] = np.take_along_axis(products, columns, 1)
        ids, values = ids.reshape(len(rows), -1), values.reshape(len(rows), -1)
        columns = _largest(values, m)
        columns = np.take_along_axis(columns, np.argsort(-np.take_along_axis(values, columns, 1), axis=1), 1)
        ids, values = np.take_along_axis(ids, columns, 1), np.take_along_axis(values, columns, 1)
        short = np.flatnonzero(ids[:, -1] < 0)
        if len(short):
            ids[short], values[short] = self.exact.candidates(rows[short], m)
        return ids, values


def _largest(values: Floats, m: int) -> Ints:
    """Columns i64[n, m] of the m largest values of each row (of all, where there are fewer), in no order."""
    width = values.shape[1]
    return np.argpartition(values, width - m, axis=1)[:, width - m :] if m < width else np.tile(np.arange(width), (len(values), 1))


def recall(ids: Ids, exact_ids: Ids) -> Doubles:
    """Share of each row's exact ids i32[n, l] that are among its ids i32[n, l]: f64[n]."""
    shares: Doubles = (ids[:, :, None] == exact_ids[:, None, :]).any(axis=1).mean(axis=1)
    return shares


def gated(vectors: Floats, sample: Floats, l: int, *, bound: float = BOUND, seed: int = 0) -> Search:  # noqa: E741
    """The search over centres f32[k, d] with the fewest probes whose recall@l on the sample rows f32[n, d] lies above `bound` by
    three standard errors; the exact one where none does, or where the centres are too few to gain by it.

    Measures the exact search on the whole sample, so a few thousand rows are enough. The sample should be drawn by a seed
    from all rows; the result depends on nothing but the arguments.
    """
    if len(vectors) < LEAST or not len(sample):
        return EXACT
    exact = kernel()(np.ascontiguousarray(vectors, np.float32))
    expected = nearest(sample, exact, l)[0]
    file = InvertedFile(exact.vectors, round(len(vectors) ** 0.5), seed)
    tried: list[tuple[int, float]] = []
    for probes in PROBES:
        shares = recall(nearest(sample, ListedCentres(exact, file, probes), l)[0], expected)
        tried.append((probes, float(shares.mean())))
        if shares.mean() - ERRORS * shares.std() / len(sample) ** 0.5 >= bound:
            return Search(probes, file.count, seed, tried[-1][1], len(sample), tuple(tried))
    return Search(None, sample=len(sample), tried=tuple(tried))
