"""Embeddings in the plane."""

import numpy as np
import pytest

from pipeline.reduce.layout.plane import plane
from pipeline.search.graph.neighbours import nearest_others
from pipeline.vectors import Floats, Ints


def planted(rows: int, groups: int, seed: int = 0) -> tuple[Floats, Ints]:
    """Unit rows f32 [n, 32] in groups, and the group of each."""
    draws = np.random.default_rng(seed)
    centres = draws.normal(size=(groups, 32))
    group = draws.integers(0, groups, rows)
    vectors = centres[group] + 0.35 * draws.normal(size=(rows, 32))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32), group


def test_neighbours_stay_neighbours_and_the_same_seed_gives_the_same_places() -> None:
    vectors, group = planted(400, 8)
    halves = vectors.astype(np.float16)
    places = plane(halves, seed=3)
    assert places.shape == (400, 2)
    assert places.dtype == np.float32
    assert np.abs(places).max() == pytest.approx(1)
    near = nearest_others(places, 5).rows
    assert (group[near] == group[:, None]).mean() > 0.97
    assert (plane(halves.astype(np.float32), seed=3) == places).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 16])
def test_few_rows_have_places_too(rows: int) -> None:
    places = plane(planted(rows, 2)[0])
    assert places.shape == (rows, 2)
    assert np.isfinite(places).all()


def test_equal_rows_are_no_reason_to_fail() -> None:
    assert np.isfinite(plane(np.ones((60, 8), np.float32))).all()


def test_the_nearest_others_are_those_that_all_pairs_say_and_never_the_row_itself() -> None:
    vectors, _ = planted(300, 5)
    found = nearest_others(vectors, 7)
    distances = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(np.sort(distances, axis=1)[:, :7], found.distances, atol=1e-3)
    assert not (found.rows == np.arange(300)[:, None]).any()
    twins = nearest_others(np.ones((20, 4), np.float32), 6)
    assert not (twins.rows == np.arange(20)[:, None]).any()
    assert (twins.distances == 0).all()


def test_an_inverted_file_finds_most_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = planted(3000, 30)
    exact = nearest_others(vectors, 10).rows
    monkeypatch.setattr("pipeline.search.graph.neighbours.EXACT_ROWS", 100)
    some = nearest_others(vectors, 10, seed=1).rows
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, some, strict=True)]) > 0.85
    assert (some == nearest_others(vectors, 10, seed=1).rows).all()
