import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.reduce.classes import matching
from pipeline.reduce.classes.matching import ClassPairs, MatchRule
from pipeline.reduce.classes.overlap import Overlap


def pairs(*triples: tuple[int, int, float]) -> ClassPairs:
    old, new, score = (np.array(column) for column in zip(*sorted(triples), strict=True))
    return ClassPairs(old, new, score.astype(float), score.astype(float), np.full(len(old), np.nan))


def test_the_matching_is_globally_best_where_the_best_pair_first_is_not() -> None:
    some = pairs((0, 0, 0.9), (0, 1, 0.8), (1, 0, 0.8), (1, 1, 0.1), (7, 5, 0.3))
    chosen = matching.matching(some)
    assert list(zip(chosen.old, chosen.new, strict=True)) == [(0, 1), (1, 0), (7, 5)]
    greedy = some.where(np.sort(matching.greedily(some, np.arange(5))))
    assert list(zip(greedy.old, greedy.new, strict=True)) == [(0, 0), (1, 1), (7, 5)]


def test_best_pair_first_gives_the_optimum_where_the_best_is_beyond_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    partner = rng.permutation(60)
    some = pairs(*((i, j, 0.9 if partner[i] == j else 0.3 + 0.2 * rng.random()) for i in range(60) for j in range(60)))
    best = matching.matching(some)
    monkeypatch.setattr(matching, "EXACT", 8)
    assert np.array_equal(matching.matching(some).new, best.new)
    assert np.array_equal(best.new, partner)


def test_an_optional_partner_is_not_forced_on_a_class() -> None:
    chosen = matching.matching(pairs((0, 0, 0.9), (1, 0, 0.8)))
    assert (chosen.old.tolist(), chosen.new.tolist()) == ([0], [0])


def test_overlaps_of_partitions_add_up_in_any_order() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.integers(-1, 9, 1000), rng.integers(-1, 7, 1000)
    whole = Overlap.of(old, new)
    parts = [Overlap.of(old[part], new[part]) for part in np.array_split(np.arange(1000), 4)]
    for some in (parts, parts[::-1]):
        joined = Overlap.joined(some)
        for name in ("old", "new", "rows"):
            assert np.array_equal(getattr(joined, name), getattr(whole, name))
            assert getattr(joined, name).dtype == np.int64
    assert whole.rows.sum() == ((old >= 0) & (new >= 0)).sum()
    assert len(Overlap.joined([]).rows) == 0


def test_a_rule_out_of_bounds_is_refused() -> None:
    for wrong in ({"floor": 0}, {"overlap_weight": 1.1}, {"candidates": 0}):
        with pytest.raises(InputError, match="matching needs"):
            MatchRule(**wrong)
