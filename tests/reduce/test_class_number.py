import math

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from pipeline.errors import InputError
from pipeline.reduce.class_number.advise import advise
from pipeline.reduce.class_number.estimate import LABELLED_ROWS, estimate_class_number
from pipeline.reduce.class_number.mixture import Moments, Prior, log_marginal, log_weight, moments, split_and_merge, split_ratio
from pipeline.reduce.class_number.projection import GRID, MAX_ROWS, projected
from pipeline.search.nearest import nearest
from pipeline.vectors import Doubles, Floats, Ids, unit

BLOB = 0.05


def halves(rows: Doubles, side: np.ndarray) -> tuple[Moments, Moments, Prior]:
    found = moments(rows, side.astype(np.int32), 2)
    return found.of(np.array(0)), found.of(np.array(1)), Prior(rows.mean(axis=0))


def planted(seed: int, k: int = 20, d: int = 16, known: int = 10) -> tuple[Floats, np.ndarray, Ids]:
    """AT-12b: 200 to 600 rows around each of k prototypes, half the rows of the first `known` classes labelled."""
    random = np.random.default_rng(seed)
    prototypes: list[np.ndarray] = []
    while len(prototypes) < k:
        one = random.standard_normal(d)
        one /= np.linalg.norm(one)
        if all(one @ other < 0.6 for other in prototypes):
            prototypes.append(one)
    truth = np.repeat(np.arange(k), random.integers(200, 601, k))
    x = np.array(prototypes)[truth] + 0.35 * random.standard_normal((len(truth), d)) / np.sqrt(d)
    labels = np.where((truth < known) & (random.random(len(truth)) < 0.5), truth, -1).astype(np.int32)
    return unit(x), truth, labels


def blobs(k: int, n: int = 3000, d: int = 32, noise: float = 0.6) -> Floats:
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((k, d)))
    return unit(centres[random.integers(0, k, n)] + noise * random.standard_normal((n, d)) / np.sqrt(d))


@pytest.mark.parametrize("seed", range(3))
def test_two_blobs_stay_apart_and_one_split_at_random_is_merged_again(seed: int) -> None:   # AT-12a
    random = np.random.default_rng(seed)
    side = np.repeat([0, 1], 200)
    rows = BLOB * random.standard_normal((400, 8))
    rows[200:, 0] += 8 * BLOB
    assert float(split_ratio(*halves(rows, side))) > 50
    assert float(split_ratio(*halves(BLOB * random.standard_normal((400, 8)), random.permutation(side)))) < -50


def test_the_marginal_likelihood_is_the_product_of_its_sequential_predictives() -> None:   # AT-12c
    rows = 0.3 * np.random.default_rng(0).standard_normal((60, 8)) + 1
    prior, size = Prior(rows.mean(axis=0)), 8
    kappa, nu, mean, psi, total = prior.kappa, size + 1.0, prior.mean, prior.scale * np.eye(size), 0.0
    for row in rows:   # Murphy 2007, equation 258: a multivariate t, then the posterior after one row
        free = nu - size + 1
        scale, off = psi * (kappa + 1) / (kappa * free), row - mean
        total += (math.lgamma((free + size) / 2) - math.lgamma(free / 2) - size / 2 * math.log(free * math.pi)
                  - np.linalg.slogdet(scale)[1] / 2 - (free + size) / 2 * math.log1p(off @ np.linalg.solve(scale, off) / free))
        psi = psi + kappa / (kappa + 1) * np.outer(off, off)
        mean, kappa, nu = (kappa * mean + row) / (kappa + 1), kappa + 1, nu + 1
    found = moments(rows, np.zeros(60, np.int32), 1)
    assert float(log_marginal(found, prior)[0]) == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_planted_classes_are_counted_from_their_number_and_from_the_best_start(seed: int) -> None:   # AT-12b
    x, truth, labels = planted(seed)
    same = split_and_merge(projected(x, 16), labels, 20, seed=0)
    assert abs(same.k - 20) <= 2
    assert normalized_mutual_info_score(truth, same.assignment) >= 0.96
    found = estimate_class_number(x, labels, seed=0)
    assert 20 <= found.k <= 26
    assert normalized_mutual_info_score(truth, found.assignment) >= 0.97
    assert [start.classes for start in found.starts] == [10, 12, 15, 20, 30, 40]
    assert max(start.score for start in found.starts) == next(s.score for s in found.starts if s.found == found.k)
    assert (nearest(unit(x), found.centroids, 1)[0][:, 0] == found.assignment).mean() > 0.98


def test_the_planted_partition_scores_above_where_a_start_with_too_few_classes_ends() -> None:
    x, truth, labels = planted(0)
    rows = projected(x, 16)
    true = log_weight(moments(rows, truth.astype(np.int32), 20), Prior(rows.mean(axis=0))).sum()
    low = split_and_merge(rows, labels, 12, seed=0)
    assert low.k < 20
    assert low.score < true


def test_too_many_classes_are_merged_and_labelled_rows_keep_their_class() -> None:
    x, _, labels = planted(1)
    found = split_and_merge(projected(x, 16), labels, 60, seed=0)
    assert found.k <= 26
    assert (found.assignment[labels >= 0] == labels[labels >= 0]).all()


def test_labels_may_be_any_numbers_and_new_classes_have_none() -> None:
    x, _, labels = planted(2)
    named = np.where(labels >= 0, 7 * labels + 100, -1).astype(np.int32)
    plain, found = estimate_class_number(x, labels, seed=0), estimate_class_number(x, named, seed=0)
    assert np.array_equal(plain.assignment, found.assignment)
    assert found.labels.tolist() == [*range(100, 170, 7), *[-1] * (found.k - 10)]
    assert "10 have labels" in found.reason


def test_a_large_run_is_sampled_with_rows_of_every_labelled_class() -> None:
    x = blobs(4, n=84_000, d=8)
    labels = np.full(len(x), -1, np.int32)
    labels[:9], labels[9:14] = 0, 1
    found = estimate_class_number(x, labels, seed=3)
    assert len(found.rows) == MAX_ROWS
    assert (np.diff(found.rows) > 0).all()
    assert (labels[found.rows] == 0).sum() >= LABELLED_ROWS
    assert (labels[found.rows] == 1).sum() == 5
    assert f"a sample of {MAX_ROWS} of 84000 rows" in found.reason


def test_only_labelled_rows_give_the_labelled_classes() -> None:
    x, truth, _ = planted(0, k=6, known=6)
    found = estimate_class_number(x, truth.astype(np.int32), seed=0)
    assert found.k == 6
    assert np.array_equal(found.assignment, truth)


def test_an_estimate_without_a_label_is_refused() -> None:
    with pytest.raises(InputError, match="needs a label"):
        estimate_class_number(blobs(3, n=100), np.full(100, -1, np.int32), seed=0)


def test_sums_of_projected_rows_are_exact_so_their_order_changes_nothing() -> None:
    rows = projected(blobs(5, d=64), 16)
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(rows * GRID, np.rint(rows * GRID))
    one, other = rows.T @ rows, rows[order].T @ rows[order]
    assert np.array_equal(one, other)
    assert np.array_equal(one, sum(np.outer(row, row) for row in rows))
    spread = rows.var(axis=0)
    assert (spread[:4] > 10 * spread[4:].max()).all()   # 5 centres span 4 dimensions


@pytest.mark.parametrize("k", [12, 40])
def test_a_planted_number_of_classes_stands_out_of_a_range(k: int) -> None:
    found = advise(blobs(k), [3, 6, 12, 20, 40, 64], seed=0)
    assert found.k == k
    assert found.between is not None
    assert found.between[0] <= k <= found.between[1]
    best = next(one for one in found.judged if one.k == k)
    assert best.evidence == max(one.evidence for one in found.judged)
    assert best.stability > 0.8 > 0.3 > best.stability_by_chance
    assert f"k = {k}" in found.reason


@pytest.mark.parametrize("widths", [np.ones(32), np.linspace(3, 0.2, 32)], ids=["round", "stretched"])
def test_no_number_stands_out_of_rows_without_classes(widths: Doubles) -> None:
    found = advise(np.random.default_rng(1).standard_normal((2000, 32)) * widths, [2, 6, 12, 32], seed=0)
    assert found.k is None
    assert found.between is None
    assert all(one.stability == pytest.approx(one.stability_by_chance, abs=0.15) for one in found.judged)
    assert all(one.stability_by_chance > 0.02 for one in found.judged)
    assert "no number of classes stands out" in found.reason


def test_a_k_that_the_rows_cannot_show_is_not_judged() -> None:
    x = blobs(4, n=200)
    found = advise(x, [1, 4, 64], seed=0)
    assert [one.k for one in found.judged] == [4]
    assert "not judged: [1, 64]" in found.reason
    with pytest.raises(InputError, match="between 2 and 10"):
        advise(x, [64], seed=0)
