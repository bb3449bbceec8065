from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.search.fastest import FastestCentres
from pipeline.search.kernels import FlatCentres, Kernel, PackedCentres, SearchResult
from pipeline.search.nearest import assigned, assigned_near, nearest
from pipeline.search.products import BlasCentres
from pipeline.search.quantised import QuantisedCentres
from pipeline.vectors import Floats, unit

NEAR_TIES = 60


def rows(n: int, d: int, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def exactly(x: Floats, centres: Floats) -> Floats:
    """Every inner product in float64, rounded once."""
    return (x.astype(np.float64) @ centres.astype(np.float64).T).astype(np.float32)


@dataclass(frozen=True)
class RoughCentres:
    """A kernel that rounds as badly as float32 may."""

    vectors: Floats
    error: float = 1e-6

    def candidates(self, x: Floats, m: int) -> SearchResult:
        values = x @ self.vectors.T
        values += np.random.default_rng(2).uniform(-self.error, self.error, values.shape).astype(np.float32)
        ids = np.argsort(-values, axis=1)[:, :m]
        return ids, np.take_along_axis(values, ids, 1)


def ties() -> tuple[Floats, Floats]:
    """Rows, and centres of which twelve at a time differ by less than float32's rounding can tell."""
    centres = np.tile(rows(5, 64, seed=1), (NEAR_TIES // 5, 1))
    centres[NEAR_TIES // 2:, 0] += np.float32(3e-8)
    return rows(1000, 64), centres


@pytest.mark.parametrize(("n", "d", "k", "l"), [(500, 64, 50, 8), (300, 256, 400, 1), (7, 3, 5, 5), (40, 16, 1, 1)])
def test_equals_a_float64_search_of_every_centre(n: int, d: int, k: int, l: int) -> None:  # noqa: E741
    x, centres = rows(n, d), rows(k, d, seed=1)
    every = exactly(x, centres)
    expected = np.argsort(-every, axis=1, kind="stable")[:, :l]
    ids, values = nearest(x, centres, l)
    assert ids.dtype == np.int32
    assert values.dtype == np.float32
    assert np.array_equal(ids, expected)
    assert np.allclose(values, np.take_along_axis(every, expected, 1), atol=1e-7)


@pytest.mark.parametrize("block", [1, 7, 20, 333, 1999])
def test_block_size_changes_no_bit(block: int) -> None:
    x, centres = rows(2000, 256), rows(300, 256, seed=1)
    whole = nearest(x, centres, 8)
    parts = [nearest(x[at : at + block], centres, 8) for at in range(0, len(x), block)]
    assert np.array_equal(np.concatenate([ids for ids, _ in parts]), whole[0])
    assert np.array_equal(np.concatenate([values for _, values in parts]), whole[1])


@pytest.mark.parametrize("kernel", [FlatCentres, PackedCentres, BlasCentres, QuantisedCentres, FastestCentres, RoughCentres])
def test_rounding_of_the_kernel_changes_no_bit(kernel: Kernel) -> None:
    x, centres = ties()
    every = exactly(x, centres)
    expected = np.argsort(-every, axis=1, kind="stable")[:, :4]
    ids, values = nearest(x, kernel(centres), 4)
    assert np.array_equal(ids, expected)
    assert np.array_equal(values, np.take_along_axis(every, expected, 1))
    assert np.array_equal(assigned(x, kernel(centres)), expected[:, 0])
    assert not np.array_equal(kernel(centres).candidates(x, 4)[0], expected), "the kernel alone would have done"


@pytest.mark.parametrize("kernel", [FlatCentres, PackedCentres, BlasCentres, QuantisedCentres, FastestCentres, RoughCentres])
@pytest.mark.parametrize(("n", "d", "k"), [(3000, 64, 900), (5, 256, 2), (40, 16, 1)])
def test_assignment_is_the_first_of_the_nearest(kernel: Kernel, n: int, d: int, k: int) -> None:
    x, centres = rows(n, d), kernel(rows(k, d, seed=1))
    assert np.array_equal(assigned(x, centres), nearest(x, centres, 1)[0][:, 0])
    assert len(assigned(x[:0], centres)) == 0


@pytest.mark.parametrize("m", [1, 7, 60])
def test_a_look_at_the_neighbours_finds_the_nearest_of_them(m: int) -> None:
    x, centres = ties()
    every, previous = exactly(x, centres), np.random.default_rng(3).integers(0, 40, len(x)).astype(np.int32)
    near = nearest(centres, FlatCentres(centres), m)[0]
    found = assigned_near(x, FlatCentres(centres), near, previous)
    values = np.full(every.shape, -np.inf, np.float32)
    np.put_along_axis(values, near[previous], np.take_along_axis(every, near[previous], 1), 1)
    assert found.dtype == np.int32
    assert np.array_equal(found, values.argmax(axis=1))
    assert np.array_equal(found[100:103], assigned_near(x[100:103], FlatCentres(centres), near, previous[100:103]))
    assert len(assigned_near(x[:0], FlatCentres(centres), near, previous[:0])) == 0


def test_values_do_not_depend_on_the_order_of_a_sum() -> None:
    """1 + 2^-24 is halfway between two float32; 2^-51 more, in terms that float64 may lose one by one, decide it."""
    x = np.array([1, 2.0**-12] + [2.0**-27] * 8 + [0] * 22, np.float32)
    shuffled = np.stack([np.random.default_rng(seed).permutation(x) for seed in range(100)])
    for row in shuffled:
        assert nearest(row[None], row[None], 1)[1][0, 0] == np.nextafter(np.float32(1), np.float32(2))


def test_equal_centres_rank_by_the_lower_id() -> None:
    x = rows(30, 32)
    ids, _ = nearest(x, np.repeat(rows(1, 32, seed=1), 60, axis=0), 8)
    assert (ids == np.arange(8)).all()


def test_no_rows_give_no_ids() -> None:
    ids, values = nearest(np.empty((0, 4), np.float32), rows(3, 4), 2)
    assert ids.shape == values.shape == (0, 2)


@pytest.mark.parametrize("l", [0, 4])
def test_more_labels_than_centres_is_refused(l: int) -> None:  # noqa: E741
    with pytest.raises(ValueError, match="nearest of 3 centres"):
        nearest(rows(5, 4), rows(3, 4), l)


def test_rows_that_are_not_finite_are_refused() -> None:
    x = rows(5, 4)
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        nearest(x, rows(3, 4), 1)


def test_stored_float16_rows_get_unit_length_again_and_zero_rows_stay_zero() -> None:
    stored = np.vstack([rows(100, 256), np.zeros((1, 256))]).astype(np.float16)
    length = np.linalg.norm(unit(stored), axis=1)
    assert np.abs(length[:-1] - 1).max() < 1e-6
    assert length[-1] == 0
