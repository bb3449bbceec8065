
import numpy as np
import pytest

from pipeline.search import kernels
from pipeline.search.fastest import FastestCentres
from pipeline.search.kernels import FlatCentres, Heaps, PackedCentres, SearchResult, agrees, kernel, leaders, tolerance
from pipeline.vectors import Floats


def rows(n: int, d: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d), np.float32)


@pytest.mark.parametrize(("n", "k", "d"), [(300, 700, 96), (1, 20_000, 8), (257, 11, 33)])
def test_the_packed_kernel_proposes_what_faiss_proposes(n: int, k: int, d: int) -> None:
    x, centres = rows(n, d), rows(k, d, seed=1)
    packed, flat = PackedCentres(centres).candidates(x, 11), FlatCentres(centres).candidates(x, 11)
    assert np.abs(packed[1] - flat[1]).max() <= tolerance(x, centres)
    named = (x[:, None].astype(np.float64) * centres[packed[0]]).sum(axis=2)
    assert np.abs(packed[1] - named).max() <= tolerance(x, centres)
    assert (np.diff(packed[1], axis=1) <= 0).all()


def test_what_a_row_gets_from_the_packed_kernel_does_not_depend_on_the_others() -> None:
    x, centres = rows(700, 64), PackedCentres(rows(500, 64, seed=1))
    whole = centres.candidates(x, 5)
    for part in (slice(3, 4), slice(100, 356), slice(650, 700)):
        assert np.array_equal(centres.candidates(x[part], 5)[1], whole[1][part])


def test_a_kernel_of_half_precision_or_that_misses_or_misnames_centres_is_not_taken() -> None:
    class Half(FlatCentres):
        def candidates(self, x: Floats, m: int) -> SearchResult:
            return FlatCentres(self.vectors.astype(np.float16).astype(np.float32)).candidates(x, m)

    class Misnumbered(FlatCentres):
        def candidates(self, x: Floats, m: int) -> SearchResult:
            ids, values = super().candidates(x, m)
            return (ids + 1) % len(self.vectors), values

    class Overlooking(FlatCentres):
        def candidates(self, x: Floats, m: int) -> SearchResult:
            ids, values = super().candidates(x, m + 1)
            return ids[:, 1:], values[:, 1:]

    assert agrees(FlatCentres)
    assert not agrees(Overlooking)
    assert not agrees(Half)
    assert not agrees(Misnumbered)


def test_on_a_cpu_the_kernel_is_chosen_when_it_is_used() -> None:
    assert kernel() in (FastestCentres, kernels.GpuCentres)


def test_heaps_keep_the_largest_of_all_that_they_saw() -> None:
    values = rows(40, 900)
    heaps = Heaps.of(40, 6)
    for at in range(0, 900, 300):
        heaps.add(np.ascontiguousarray(values[:10, at : at + 300]), at)
        heaps.add(np.ascontiguousarray(values[10:, at : at + 300]), at, 10)
    ids, best = heaps.best()
    assert np.array_equal(ids, np.argsort(-values, axis=1)[:, :6])
    assert np.array_equal(best, np.take_along_axis(values, ids, 1))


def test_heaps_say_where_they_saw_too_few() -> None:
    heaps = Heaps.of(1, 3)
    heaps.add(np.ones((1, 2), np.float32))
    assert sorted(heaps.best()[0][0].tolist()) == [-1, 0, 1]


@pytest.mark.parametrize(("n", "k", "d"), [(300, 700, 96), (5, 40_000, 8), (257, 2, 33), (3, 1, 4)])
def test_leaders_are_the_first_two_candidates_of_the_same_kernel(n: int, k: int, d: int) -> None:
    x, centres = rows(n, d), PackedCentres(rows(k, d, seed=1))
    ids, lead = leaders(centres, x)
    found, values = centres.candidates(x, min(2, k))
    assert np.array_equal(ids, found[:, 0])
    assert np.array_equal(lead, values[:, 0] - values[:, 1] if k > 1 else np.full(n, np.inf, np.float32))
    flat, behind = leaders(FlatCentres(centres.vectors), x)
    assert np.array_equal(flat, ids)
    assert np.allclose(behind, lead, atol=tolerance(x, centres.vectors))


def test_of_equal_centres_none_leads() -> None:
    x = rows(20, 16)
    centres = np.repeat(rows(4, 16, seed=1), 2, axis=0)
    assert leaders(PackedCentres(centres), x)[1].tolist() == [0] * 20
