import json
from functools import reduce
from operator import add

import numpy as np
import pytest

from pipeline.reduce.describe.agreement import agreement, purity, reseeded
from pipeline.reduce.describe.members import MOST, Ranked, extreme_members
from pipeline.reduce.describe.quality import Counting, Measured, class_means, record, sizes, tally
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, Ids, Ints, unit

K = 30


@pytest.fixture(scope="module")
def clouds() -> tuple[Floats, Floats, Ints, Ids, Floats]:
    """4,000 rows around 30 centres, which are noisy enough to be mixed up; the classes are these centres."""
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((K, 16)))
    truth = random.integers(0, K, 4000)
    x = unit(centres[truth] + 0.8 * random.standard_normal((4000, 16)) / 4)
    return x, centres, truth, *nearest(x, centres, 2)


def test_shards_in_any_order_and_grouping_give_the_same_record(clouds: tuple[Floats, Floats, Ints, Ids, Floats]) -> None:
    x, centres, _, ids, cosines = clouds
    counting = Counting(K, margin=0.1, share=0.5, seed=3)
    rows = np.arange(len(x)) + 10**10
    whole = tally(counting, rows, ids, cosines)
    shuffled = np.random.default_rng(1).permutation(len(x))
    parts = [tally(counting, rows[part], ids[part], cosines[part]) for part in np.array_split(shuffled, 7)]
    joined = reduce(add, [reduce(add, parts[4:]), *parts[:4]])
    assert json.dumps(record(joined, centres)) == json.dumps(record(whole, centres))
    for kind in ("nearest", "farthest"):
        one, other = getattr(joined.members, kind), getattr(whole.members, kind)
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.similarity, other.similarity)


def test_tallies_of_different_counting_do_not_add_up(clouds: tuple[Floats, Floats, Ints, Ids, Floats]) -> None:
    *_, ids, cosines = clouds
    one, other = (tally(Counting(K, margin=m), np.arange(10), ids[:10], cosines[:10]) for m in (0.1, 0.2))
    with pytest.raises(ValueError, match="different counting"):
        one + other


def test_the_record_says_what_a_direct_count_says(clouds: tuple[Floats, Floats, Ints, Ids, Floats]) -> None:
    x, centres, _, ids, cosines = clouds
    found = tally(Counting(K, margin=0.1), np.arange(len(x)), ids, cosines)
    said = record(found, centres, Measured(recall=0.97))
    counts = np.bincount(ids[:, 0], minlength=K)
    assert said["rows"] == len(x)
    assert (said["sizes"]["min"], said["sizes"]["max"], said["recall"]) == (counts.min(), counts.max(), 0.97)
    assert said["sizes"]["imbalance"] == pytest.approx(K * (counts**2).sum() / len(x) ** 2)
    assert said["within"]["mean"] == pytest.approx(cosines[:, 0].mean(dtype=np.float64), abs=1e-8)
    for q, value in said["within"]["quantiles"].items():
        assert value == pytest.approx(np.quantile(cosines[:, 0], float(q)), abs=0.002)
    assert class_means(found)[5] == pytest.approx(cosines[ids[:, 0] == 5, 0].mean(dtype=np.float64), abs=1e-8)
    gram = centres @ centres.T - 2 * np.eye(K)
    assert said["between"]["mean"] == pytest.approx(gram.max(axis=1).mean(), abs=1e-6)
    close = cosines[:, 0] - cosines[:, 1] <= np.float32(0.1)
    assert said["confusable"]["share"] == pytest.approx(close.mean())
    best = said["confusable"]["pairs"][0]
    both = close & np.isin(ids[:, 0], best["classes"]) & np.isin(ids[:, 1], best["classes"])
    assert best["rows"] == both.sum()
    assert best["share"] == pytest.approx(both.sum() / counts[best["classes"]].sum())
    assert best["cosine"] == pytest.approx(gram[tuple(best["classes"])], abs=1e-6)


def test_the_most_confusable_pair_is_the_one_planted() -> None:
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((12, 32)))
    centres[7] = unit(centres[2:3] + 0.3 * random.standard_normal((1, 32)) / np.sqrt(32))[0]
    x = unit(centres[random.integers(0, 12, 2000)] + 0.7 * random.standard_normal((2000, 32)) / np.sqrt(32))
    pairs = record(tally(Counting(12), np.arange(2000), *nearest(x, centres, 2)), centres)["confusable"]["pairs"]
    assert pairs[0]["classes"] == [2, 7]
    assert all(pair["share"] < pairs[0]["share"] / 5 for pair in pairs[1:])


def test_the_sample_for_pairs_is_its_share_of_the_rows_and_another_for_another_seed(
    clouds: tuple[Floats, Floats, Ints, Ids, Floats],
) -> None:
    *_, ids, cosines = clouds
    one, other = (tally(Counting(K, share=0.25, seed=s), np.arange(len(ids)), ids, cosines).sampled for s in (0, 1))
    assert one.sum() == pytest.approx(1000, abs=100)
    assert not np.array_equal(one, other)


def test_nearest_and_farthest_members_are_the_ends_of_the_ranking_and_ties_go_to_the_lower_row() -> None:
    random = np.random.default_rng(0)
    classes = random.integers(0, 5, 1000).astype(np.int32)
    similarity = (random.integers(0, 20, 1000) / 20).astype(np.float32)   # many ties
    rows = random.permutation(1000)
    found = extreme_members(rows, classes, similarity)
    for c in range(5):
        own = sorted((-float(s), int(r)) for s, r, k in zip(similarity, rows, classes, strict=True) if k == c)
        assert listed(found.nearest.of(c)) == [(row, -s) for s, row in own[:MOST]]
        far = sorted((-s, row) for s, row in own)[:MOST]
        assert listed(found.farthest.of(c)) == [(row, s) for s, row in far]


def test_a_class_without_rows_and_a_single_class_are_recorded() -> None:
    x = unit(np.random.default_rng(0).standard_normal((50, 8)))
    centres = np.vstack([x[:1], x[:1]])   # ties go to the first: the second stays empty
    found = tally(Counting(2), np.arange(50), *nearest(x, centres, 2))
    assert np.isnan(class_means(found)).tolist() == [False, True]
    said = record(found, centres)
    assert (said["sizes"]["empty"], said["sizes"]["histogram"]) == (1, {"0": 1, "32": 1})
    alone = record(tally(Counting(1), np.arange(50), *nearest(x, centres[:1], 1)), centres[:1])
    assert alone["confusable"]["pairs"] == []
    assert alone["sizes"]["imbalance"] == 1
    json.dumps([said, alone], allow_nan=False)


def test_no_rows_give_a_record_without_figures() -> None:
    nothing = tally(Counting(3), np.empty(0, np.int64), np.empty((0, 2), np.int32), np.empty((0, 2), np.float32))
    said = record(nothing, np.eye(3, dtype=np.float32))
    assert (said["rows"], said["within"]["mean"], said["sizes"]["imbalance"]) == (0, None, None)
    json.dumps(said, allow_nan=False)


def test_sizes_are_counted_by_octave() -> None:
    assert sizes(np.array([0, 1, 2, 3, 4, 7, 8]))["histogram"] == {"0": 1, "1": 1, "2": 2, "4": 2, "8": 1}


def test_chance_level_rises_with_purity_but_not_with_mutual_information(clouds: tuple[Floats, Floats, Ints, Ids, Floats]) -> None:
    _, _, truth, ids, _ = clouds
    reference = [f"folder {t}" if t % 5 else None for t in truth]
    good = agreement(ids[:, 0], reference, seed=0)
    assert good is not None
    has = truth % 5 > 0
    assert (good.rows, good.values) == (has.sum(), 24)
    assert good.ami > 0.6
    assert abs(good.ami_by_chance) < 0.02
    many = agreement(np.random.default_rng(0).integers(0, 1000, len(truth)).astype(np.int32), reference, seed=0)
    assert many is not None
    assert abs(many.ami) < 0.02
    assert many.purity > 0.2
    assert many.purity == pytest.approx(many.purity_by_chance, abs=0.02)
    assert good.purity > 0.75 > 0.15 > good.purity_by_chance


def test_purity_is_the_share_of_the_commonest_values() -> None:
    assert purity(np.array([0, 0, 0, 1, 1]), np.array([2, 2, 0, 1, 0])) == pytest.approx(3 / 5)


def test_without_a_reference_value_there_is_no_agreement() -> None:
    assert agreement(np.zeros(3, np.int32), [None] * 3, seed=0) is None


def test_planted_classes_are_stable_under_reseeding_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    tight = unit(np.eye(16)[random.integers(0, 8, 1000)] + 0.3 * random.standard_normal((1000, 16)) / 4)
    assert (reseeded(tight, 8, seed=0).ari or 0) > 0.95
    noise = reseeded(unit(random.standard_normal((1000, 16))), 8, seed=0)
    assert noise.ari is not None
    assert noise.ari < 0.5
    assert (noise.rows, noise.k, noise.reason) == (1000, 8, None)


def test_a_refit_on_too_few_rows_is_not_attempted(clouds: tuple[Floats, Floats, Ints, Ids, Floats]) -> None:
    few = reseeded(clouds[0][:100], K, seed=0)
    assert few.ari is None
    assert "at least 10 per class" in str(few.reason)


def listed(ranked: Ranked) -> list[tuple[int, float]]:
    return list(zip(ranked.rows.tolist(), ranked.similarity.tolist(), strict=True))
