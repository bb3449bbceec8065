import math
import subprocess
import sys

import numpy as np
import pytest

from pipeline.models.matrices import fast_sums, torch_or_numpy
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


@pytest.fixture
def by_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_or_numpy, "torch_pays", lambda values: False)


def test_numpy_sums_runs_of_rows_as_torch_does_empty_ones_too(by_numpy: None) -> None:
    values = np.round(rows(50) * 2**10).astype(np.float32)
    order, starts = np.random.default_rng(3).permutation(50)[:40], np.array([0, 0, 7, 7, 30, 40])
    assert np.array_equal(torch_or_numpy.bag_sums(values, order, starts), fast_sums.bag_sums(values, order, starts))
    nothing = torch_or_numpy.bag_sums(values, order[:0], np.array([0, 0]))
    assert nothing.tolist() == np.zeros((2, DIMENSION)).tolist()


def test_numpy_widens_and_multiplies_cells_as_torch_does(by_numpy: None) -> None:
    stored = rows(7).astype(np.float16)
    ours, theirs = np.empty(stored.shape, np.float32), np.empty(stored.shape, np.float32)
    torch_or_numpy.widen(stored, ours)
    fast_sums.widen(stored, theirs)
    assert np.array_equal(ours, theirs)
    x, centres = rows(20), rows(9, 1)
    members, near = np.array([[0, 3, 3], [7, 8, 19]]), np.array([[1, 2], [8, 0]])
    products = torch_or_numpy.cell_products(x, centres, members, near)
    assert np.allclose(products, cell_products(x, centres, members, near), atol=1e-6)


def test_torch_is_loaded_when_that_much_has_gone_without_it() -> None:
    program = """if True:
        import sys
        import numpy as np
        from pipeline.models.matrices.torch_or_numpy import LOADING, can_pair, torch_pays, widen
        out = np.empty((1, 4), np.float32)
        widen(np.ones((1, 4), np.float16), out)
        assert out.tolist() == [[1, 1, 1, 1]] and not can_pair(1) and "torch" not in sys.modules
        assert torch_pays(LOADING)
        widen(np.ones((1, 4), np.float16), out)
        assert torch_pays(1) and "torch" in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
