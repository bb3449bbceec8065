import math

import numpy as np
import pytest

from pipeline.models.matrices.pairs import can_pair, cell_products, pair_products
from pipeline.search import nearest as module
from pipeline.search.kernels import tolerance
from pipeline.search.largest import Shortlist
from pipeline.search.nearest import ExactProducts
from pipeline.vectors import Floats, unit

ROWS, CENTRES, DIMENSION = 300, 70, 96


def rows(n: int, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((n, DIMENSION)))


def pairs() -> Shortlist:
    """Some centres of each row, of some rows none."""
    mask = np.random.default_rng(2).random((ROWS, CENTRES)) < 0.2
    mask[::7] = False
    return Shortlist.where(mask)


def test_products_are_those_of_the_pairs_asked_for() -> None:
    assert can_pair()
    x, centres, left = rows(ROWS).astype(float), rows(CENTRES, 1).astype(float), pairs()
    found = pair_products(x, centres, left.starts, left.columns)
    assert np.abs(found - np.vecdot(x[left.rows], centres[left.columns])).max() < 1e-15


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("by_torch", [True, False])
def test_a_measured_product_is_the_exact_one_rounded(by_torch: bool, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 0 if by_torch else 1 << 30)
    monkeypatch.setattr(module, "CACHED_ROWS", 64)
    x, centres, left = rows(ROWS), rows(CENTRES, 1), pairs()
    x[3] = 0
    made = ExactProducts(x, centres, tolerance(x, centres), centres.astype(np.float64) if wide else None)
    products = x[left.rows].astype(np.float64) * centres[left.columns]
    assert made.measured(left).tolist() == [float(np.float32(math.fsum(row))) for row in products]


def test_cells_multiply_their_own_rows_with_their_own_centres() -> None:
    x, centres = rows(20), rows(9, 1)
    members, near = np.array([[0, 3, 3], [7, 8, 19]]), np.array([[1, 2], [8, 0]])
    expected = np.einsum("crd,cmd->crm", x[members], centres[near])
    assert np.allclose(cell_products(x, centres, members, near), expected, atol=1e-6)
