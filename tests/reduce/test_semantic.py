"""Duplicates by meaning: which rows of a class go, as the paper has it (AT-7) and greedy."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from pipeline.reduce.duplicates import semantic
from pipeline.reduce.duplicates.semantic import ONE, Judged, Keep, SemanticRule, judged, lattice, preference
from pipeline.reduce.duplicates.shelf import Shelf
from pipeline.reduce.kmeans.in_memory import fit
from pipeline.vectors import Bools, Doubles, Floats, Halves, Ids, Ints, unit

PUBLISHED, GREEDY = SemanticRule(0.05, greedy=False), SemanticRule(0.05)


@dataclass(frozen=True)
class InOrder:
    """Rows of a class, in the order of preference."""

    rows: Halves

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> Halves:
        return self.rows[start:stop]


def of_class(rows: Floats, rule: SemanticRule) -> Judged:
    """What becomes of rows that are in the order of preference."""
    return judged(InOrder(rows.astype(np.float16)), rule)


def removed(x: Floats, classes: Ids, centroids: Floats, rule: SemanticRule, keep: Keep = "hard") -> Bools:
    """bool[n]: the rows that go, class by class."""
    rows, gone = x.astype(np.float16), np.zeros(len(x), bool)
    rank = preference(rows, centroids, classes, keep, np.arange(len(x), dtype=np.uint64))
    order = np.lexsort((np.arange(len(x)), rank, classes))
    ends = np.searchsorted(classes[order], np.arange(len(centroids) + 1))
    for start, end in pairwise(ends.tolist()):
        members = order[start:end]
        gone[members] = judged(InOrder(rows[members]), rule).of >= 0
    return gone


@pytest.fixture(scope="module")
def groups() -> tuple[Floats, Ints]:
    """300 groups of 2 to 5 rows, each at a cosine of 0.99 or more to a base, and 2,000 single rows, of 256 values: the rows, and
    the group of each."""
    rng = np.random.default_rng(0)
    bases = unit(rng.standard_normal((2300, 256)))
    group = np.concatenate([np.repeat(np.arange(300), rng.integers(2, 6, 300)), np.arange(300, 2300)])
    away = rng.standard_normal((len(group), 256))
    away -= (away * bases[group]).sum(axis=1, keepdims=True) * bases[group]
    cosine = np.where(group < 300, rng.uniform(0.99, 1, len(group)), 1)[:, None]
    x = unit(cosine * bases[group] + np.sqrt(1 - cosine**2) * unit(away))
    shuffled = rng.permutation(len(x))
    return x[shuffled], group[shuffled]


@pytest.mark.parametrize("rule", [PUBLISHED, GREEDY])
@pytest.mark.parametrize(("keep", "stays"), [("hard", np.argmin), ("easy", np.argmax)])
def test_one_of_each_group_stays_in_a_single_class_that_least_or_most_like_the_centroid(
    groups: tuple[Floats, Ints], rule: SemanticRule, keep: Keep, stays: Callable[[Doubles], np.intp],
) -> None:
    x, group = groups
    centroid = unit(x.mean(axis=0, keepdims=True))
    gone = removed(x, np.zeros(len(x), np.int32), centroid, rule, keep)
    nearness = x.astype(np.float16).astype(np.float64) @ centroid[0].astype(np.float64)
    for number in range(300):
        members = np.flatnonzero(group == number)
        assert members[~gone[members]].tolist() == [members[stays(nearness[members])]]
    assert not gone[group >= 300].any()


@pytest.mark.parametrize("k", [10, 50])
def test_in_several_classes_hardly_a_duplicate_is_missed_and_no_group_is_lost(groups: tuple[Floats, Ints], k: int) -> None:
    x, group = groups
    found = fit(x, k, seed=0)
    for rule in (PUBLISHED, GREEDY):
        gone = removed(x, found.assignment, found.centroids, rule)
        assert len(np.unique(group[~gone])) == 2300
        assert not gone[group >= 300].any()
        assert gone.sum() >= 0.995 * (np.count_nonzero(group < 300) - 300)


def test_a_chain_collapses_as_published_and_not_greedy() -> None:
    angles = np.radians(16.26 * np.arange(4))
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    published, greedy = of_class(chain, PUBLISHED), of_class(chain, GREEDY)
    assert published.of.tolist() == [-1, 0, 1, 2]
    assert published.chained.tolist() == [False, False, True, True]
    assert published.similarity == pytest.approx([-1, 0.96, 0.96, 0.96], abs=1e-3)
    assert greedy.of.tolist() == [-1, 0, -1, 2]
    assert greedy.similarity == pytest.approx([-1, 0.96, 0.843, 0.96], abs=1e-3)
    assert not greedy.chained.any()


def test_the_larger_epsilon_is_the_more_go_and_the_bound_itself_stays() -> None:
    pair = np.array([[1, 0], [0.6, 0.8]], np.float16)
    epsilon = 1 - (lattice(pair) @ lattice(pair).T)[0, 1] / ONE
    for wider, of in ((0.1, -1), (epsilon, -1), (epsilon + 1e-9, 0), (0.5, 0)):
        assert judged(InOrder(pair), SemanticRule(wider)).of.tolist() == [-1, of]


def expected(rows: Halves, rule: SemanticRule) -> tuple[list[int], Ints]:
    """Row by row, in whole numbers of Python's own width: the row that removes each (-1: none), and the products."""
    whole = lattice(rows).astype(np.int64).astype(object)
    products = (whole @ whole.T).astype(np.int64)
    of: list[int] = []
    for j in range(len(rows)):
        before = [i for i in range(j) if products[i, j] > rule.bound and (of[i] < 0 or not rule.greedy)]
        nearest = [i for i in before if products[i, j] == products[before, j].max()]
        of.append(-1 if not before else before[0] if rule.greedy else nearest[0])
    return of, products


@pytest.mark.parametrize("rule", [SemanticRule(0.2, greedy=False), SemanticRule(0.2)])
def test_agrees_with_row_by_row_whatever_the_blocks_and_wherever_rows_lie(
    rule: SemanticRule, monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    rows = unit(rng.standard_normal((20, 16))[rng.integers(20, size=150)] + 0.35 * rng.standard_normal((150, 16)))
    halves = np.concatenate([rows, rows[:10]]).astype(np.float16)
    of, products = expected(halves, rule)
    assert 0 < sum(place >= 0 for place in of) < 150
    results = [judged(InOrder(halves), rule)]
    for block, against in ((7, 5), (64, 16)):
        monkeypatch.setattr(semantic, "BLOCK", block)
        monkeypatch.setattr(semantic, "AGAINST", against)
        results.append(judged(InOrder(halves), rule))
    for result in results:
        assert result.of.tolist() == of
        assert np.array_equal(result.similarity, results[0].similarity)
        assert np.array_equal(result.chained, results[0].chained)
    gone = result.of >= 0
    cosines = np.minimum(products[result.of[gone], gone.nonzero()[0]] / ONE, 1)
    assert np.array_equal(result.similarity[gone], cosines.astype(np.float32))
    covered = np.triu(products > rule.bound, 1)[~gone].any(axis=0)
    assert np.array_equal(result.chained, gone & ~covered)


def test_products_are_exact_in_whatever_order_they_are_added() -> None:
    rows = unit(np.random.default_rng(2).standard_normal((40, 768))).astype(np.float16)
    whole = lattice(rows)
    exact = (whole.astype(np.int64).astype(object) @ whole.T.astype(np.int64).astype(object)).astype(float)
    assert np.array_equal(whole @ whole.T, exact)
    assert np.array_equal(whole[:, ::-1] @ whole[:, ::-1].T, exact)
    true = unit(rows).astype(np.float64)
    assert np.abs(exact / ONE - true @ true.T).max() < 1e-7


def test_equal_rows_keep_their_own_order_and_a_draw_decides_alone() -> None:
    x = np.repeat(unit(np.random.default_rng(3).standard_normal((1, 8))), 4, axis=0)
    one_class = np.zeros(4, np.int32)
    assert removed(x, one_class, x[:1], GREEDY).tolist() == [False, True, True, True]
    drawn = np.array([9, 4, 2**63, 7], np.uint64)
    assert preference(x.astype(np.float16), x[:1], one_class, "random", drawn).argsort().tolist() == [1, 3, 0, 2]


def test_a_shelf_gives_back_what_lies_on_it_in_memory_and_in_a_file() -> None:
    rows = np.random.default_rng(4).standard_normal((50, 6)).astype(np.float16)
    for in_memory in (1 << 20, 100):
        shelf = Shelf(in_memory)
        for start in range(0, 50, 20):
            shelf.add(rows[start : start + 20])
        assert len(shelf) == 50
        assert np.array_equal(shelf.part(15, 60), rows[15:])
        assert np.array_equal(shelf.at(np.array([49, 0, 7])), rows[[49, 0, 7]])
        shelf.close()
