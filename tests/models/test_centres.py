import numpy as np
import pytest

from pipeline.models.matrices import packed_matrix as centres
from pipeline.models.matrices.packed_matrix import ROWS, PackedMatrix, can_multiply
from pipeline.vectors import Floats

pytestmark = pytest.mark.skipif(not can_multiply(), reason="this machine has no packed operators")


def rows(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d), np.float32)


@pytest.mark.parametrize(("k", "d"), [(1, 4), (700, 96), (1000, 257)])
def test_products_are_those_of_float32(k: int, d: int) -> None:
    x, vectors = rows(ROWS, d), rows(k, d, seed=1)
    found = PackedMatrix.of(vectors).products(x, 0)
    assert found.dtype == np.float32
    bound = d * 2.0**-24 * np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    assert (np.abs(found - x.astype(np.float64) @ vectors.T.astype(np.float64)) <= bound).all()


def test_centres_are_multiplied_a_tile_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centres, "WIDTH", 300)
    x, vectors = rows(ROWS, 32), rows(700, 32, seed=1)
    matrix = PackedMatrix.of(vectors)
    parts = [matrix.products(x, part) for part in range(len(matrix.parts))]
    assert [part.shape for part in parts] == [(ROWS, 300), (ROWS, 300), (ROWS, 100)]
    assert np.allclose(np.concatenate(parts, axis=1), x @ vectors.T, atol=1e-4)


def test_read_only_vectors_can_be_packed() -> None:
    vectors = rows(10, 8)
    vectors.setflags(write=False)
    assert np.allclose(PackedMatrix.of(vectors).products(rows(ROWS, 8), 0), rows(ROWS, 8) @ vectors.T, atol=1e-5)
