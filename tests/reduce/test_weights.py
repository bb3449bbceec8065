import numpy as np
import pytest

from pipeline.reduce.classes.temperature import DEFAULT, SHARPEST, calibrated, calibration_error, loss, neighbour_classes, weights
from pipeline.reduce.kmeans.in_memory import fit
from pipeline.vectors import Floats, unit


def mixture(noise: float, n: int = 8000, k: int = 50, d: int = 32) -> tuple[Floats, Floats]:
    random = np.random.default_rng(0)
    centres = unit(random.standard_normal((k, d)))
    return centres, unit(centres[random.integers(0, k, n)] + noise * random.standard_normal((n, d)) / np.sqrt(d))


def test_tight_classes_give_sharp_weights_and_overlapping_ones_soft_weights() -> None:
    found = [calibrated(x[:2000], centres, 8, seed=0).temperature for centres, x in map(mixture, (0.8, 1.2, 1.6, 2.4))]
    assert found == sorted(found)
    assert found[-1] > 2 * found[0]


@pytest.mark.parametrize("noise", [1.0, 1.5, 2.0])
def test_a_weight_is_the_share_of_held_out_rows_whose_neighbour_is_of_that_class(noise: float) -> None:
    centres, x = mixture(noise)
    found = calibrated(x[:4000], centres, 8, seed=0)
    held_out = neighbour_classes(x[4000:], centres, 8)
    assert held_out.coverage > 0.8
    assert calibration_error(held_out, found.temperature) < 0.01
    assert calibration_error(held_out, found.temperature) < calibration_error(held_out, DEFAULT)
    weight = weights(held_out.cosines, found.temperature)
    hit = np.arange(8)[None] == held_out.position[:, None]
    bins = [(weight >= low) & (weight < low + 0.2) for low in (0, 0.2, 0.4, 0.6, 0.8)]
    judged = [inside for inside in bins if inside.sum() > 100]
    assert len(judged) >= 2
    for inside in judged:
        assert hit[inside].mean() == pytest.approx(weight[inside].mean(), abs=0.06)


def test_no_other_temperature_predicts_the_rows_better() -> None:
    centres, x = mixture(1.5, n=2000)
    found = calibrated(x, centres, 8, seed=0)
    seen = neighbour_classes(x, centres, 8)
    assert found.nll == pytest.approx(min(loss(seen, t) for t in np.geomspace(0.01, 1, 400)), rel=1e-5)
    assert found.nll == loss(seen, found.temperature)
    assert found.nll_default == loss(seen, 0.1) >= found.nll
    assert float(f"{found.temperature:.4g}") == found.temperature
    assert (found.rows, found.coverage) == (2000, seen.coverage)


def test_copies_of_a_picture_predict_nothing() -> None:
    centres, x = mixture(2.0, n=1000)
    alone = neighbour_classes(x, centres, 8)
    doubled = neighbour_classes(np.repeat(x, 2, axis=0), centres, 8)
    assert doubled.rows == 2000
    assert np.array_equal(doubled.position[::2], alone.position)
    assert np.array_equal(doubled.cosines[::2], alone.cosines)


def test_the_neighbour_is_the_nearest_other_row() -> None:
    centres, x = mixture(2.0, n=300)
    cosines = x.astype(np.float64) @ x.T.astype(np.float64)
    np.fill_diagonal(cosines, -2)
    own = (x.astype(np.float64) @ centres.T.astype(np.float64)).argsort(axis=1)[:, ::-1]
    expected = [np.flatnonzero(own[row, :8] == own[other, 0]) for row, other in enumerate(cosines.argmax(axis=1))]
    assert neighbour_classes(x, centres, 8).position.tolist() == [int(one[0]) for one in expected if len(one)]


def test_the_real_sample_is_predicted_no_worse_than_by_the_default(embeddings: np.ndarray) -> None:
    stored = embeddings.astype(np.float16)
    found = calibrated(stored, fit(stored, 32, seed=0).centroids, 8, seed=0)
    assert 0.05 < found.temperature < 0.2
    assert found.nll is not None
    assert found.nll_default is not None
    assert found.calibration_error is not None
    assert found.nll <= found.nll_default
    assert found.calibration_error < 0.03
    assert found.coverage > 0.9


def test_classes_that_never_mix_stop_at_the_sharpest_temperature() -> None:
    centres, x = mixture(0.3, n=1000)
    found = calibrated(x, centres, 8, seed=0)
    assert found.temperature == pytest.approx(SHARPEST, rel=1e-3)
    assert found.reason == "the nearest class always wins"


@pytest.mark.parametrize(("rows", "k", "reason"), [
    (500, 1, "one class"), (1, 50, "0 rows are too few"), (0, 50, "0 rows are too few"), (30, 50, "rows are too few"),
])
def test_where_nothing_can_be_learnt_the_default_stands(rows: int, k: int, reason: str) -> None:
    centres, x = mixture(1.0, n=500)
    found = calibrated(x[:rows], centres[:k], 8, seed=0)
    assert (found.temperature, found.nll) == (DEFAULT, None)
    assert reason in str(found.reason)


def test_equal_rows_teach_nothing() -> None:
    centres, x = mixture(1.0, n=1)
    found = calibrated(np.tile(x, (200, 1)), centres, 8, seed=0)
    assert (found.temperature, found.rows, found.coverage) == (DEFAULT, 0, 0.0)


def test_rows_without_an_embedding_are_left_out() -> None:
    centres, x = mixture(1.0, n=500)
    gaps = np.insert(x, [0, 7, 100], 0, axis=0)
    assert calibrated(gaps, centres, 8, seed=0) == calibrated(x, centres, 8, seed=0)
