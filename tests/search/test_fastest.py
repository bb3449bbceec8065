import time
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.models.matrices.quantised import QuantisedMatrix, can_quantise
from pipeline.search import fastest, quantised
from pipeline.search.fastest import GAIN, FastestCentres
from pipeline.search.kernels import LEADERS, TOP, Centres, FlatCentres, Kernel, PackedCentres, SearchResult, agrees, tolerance
from pipeline.search.nearest import assigned, nearest
from pipeline.search.products import BlasCentres
from pipeline.search.quantised import QuantisedCentres
from pipeline.vectors import Floats, unit

KERNELS = [BlasCentres, PackedCentres, QuantisedCentres]


def rows(n: int, d: int, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def stretched(n: int, d: int, seed: int) -> Floats:
    """Rows whose lengths span orders of magnitude."""
    random = np.random.default_rng(seed)
    return (rows(n, d, seed) * np.exp(3 * random.standard_normal((n, 1)))).astype(np.float32)


def outlying(n: int, d: int, seed: int) -> Floats:
    """Rows of which one value is most, as in CLIP's: 8 bits leave little of the others."""
    found = rows(n, d, seed)
    found[:, 7] = 3
    return unit(found)


DATA: dict[str, Callable[[], tuple[Floats, Floats]]] = {
    "random": lambda: (rows(2500, 128), rows(900, 128, 1)),
    "few values": lambda: (rows(600, 3), rows(700, 3, 1)),
    "many centres": lambda: (rows(200, 8), rows(20_000, 8, 1)),
    "all equal": lambda: (rows(1300, 64), np.repeat(rows(1, 64, 1), 60, axis=0)),
    "zero rows": lambda: (np.zeros((1100, 32), np.float32), rows(50, 32)),
    "all negative": lambda: (-np.abs(rows(1100, 32)), np.abs(rows(70, 32, 1))),
    "of any length": lambda: (stretched(200, 96, 0), stretched(90, 96, 1)),
    "one large value": lambda: (outlying(1500, 96, 0), outlying(900, 96, 1)),
}


@pytest.mark.parametrize("data", list(DATA))
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_finds_the_same_bits(kernel: Kernel, data: str) -> None:
    x, centres = DATA[data]()
    expected, found = nearest(x, FlatCentres(centres), 8), nearest(x, kernel(centres), 8)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(assigned(x, kernel(centres)), expected[0][:, 0])


@pytest.mark.skipif(not can_quantise(), reason="this machine has no products of 8-bit integers")
@pytest.mark.parametrize("data", ["random", "few values", "of any length", "one large value", "zero rows"])
def test_a_score_is_off_by_no_more_than_it_says(data: str) -> None:
    x, centres = DATA[data]()
    x = x[:1000]
    found = QuantisedMatrix.of(centres).scored(x)
    true = x.astype(np.float64) @ centres.T.astype(np.float64)
    told = found.scores * found.step[:, None]
    assert (true <= told + found.off[:, None])[found.scores < 255].all()
    assert (true >= told - found.off[:, None])[found.scores > 0].all()
    assert found.scores.max() > 40 or not x.any(), "the steps are too coarse to tell anything"


@pytest.mark.skipif(not can_quantise(), reason="this machine has no products of 8-bit integers")
@pytest.mark.parametrize("look", [0, 0.3, 1.15])
@pytest.mark.parametrize("data", ["random", "few values", "of any length", "one large value"])
def test_a_list_names_every_centre_that_may_win_or_none(data: str, look: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "LOOK", look)
    x, centres = DATA[data]()
    every = x.astype(np.float64) @ centres.T.astype(np.float64)
    allowed = tolerance(x, centres)
    for sure in (1, 8):
        left = QuantisedCentres(centres).listed(x, sure, allowed)
        named = np.zeros(every.shape, bool)
        named[left.rows, left.columns] = True
        least = np.partition(every, -sure, axis=1)[:, -sure:][:, :1]
        wanted = every.astype(np.float32) >= least.astype(np.float32)
        assert (named | ~wanted)[left.counts > 0].all()
        assert np.array_equal(nearest(x, QuantisedCentres(centres), sure)[0], nearest(x, FlatCentres(centres), sure)[0])


@pytest.mark.parametrize(("use", "k", "d"), [(LEADERS, 1024, 256), (TOP, 1024, 256), (TOP, 64, 1024)])
def test_a_trial_takes_no_longer_than_it_may(use: str, k: int, d: int) -> None:
    """By processor time, which other work on the machine lengthens a little."""
    fastest.trial(use, 64, 64)   # loads libraries
    before = time.process_time()
    seconds = fastest.trial(use, *fastest.shape(k, d))
    assert time.process_time() - before < 2 * fastest.SECONDS
    assert set(seconds) == set(fastest.trusted())


def test_a_trial_stops_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setitem(fastest.USES, LEADERS, lambda rows, centres: calls.append(type(centres)))
    ticks = iter(range(1000))
    fastest.trial(LEADERS, 32, 16, clock=lambda: fastest.SECONDS * next(ticks))
    assert len(calls) == len(fastest.trusted()), "each once, and no further round"


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernel_that_was_fastest_is_used(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "trial", lambda use, k, d: {FlatCentres: 1.0, kernel: GAIN - 0.01})
    fastest._fastest.cache_clear()
    assert fastest.fastest(LEADERS, 64, 64) is kernel
    monkeypatch.setattr(fastest, "SMALL", 0)
    centres = FastestCentres(rows(64, 64))
    centres.candidates(rows(200, 64), 3)
    assert list(centres._ready) == [kernel]
    fastest._fastest.cache_clear()


def test_a_kernel_that_gains_next_to_nothing_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "trial", lambda use, k, d: {FlatCentres: 1.0, BlasCentres: GAIN + 0.01})
    fastest._fastest.cache_clear()
    assert fastest.fastest(TOP, 64, 64) is FlatCentres
    fastest._fastest.cache_clear()


def test_each_use_has_the_kernel_that_is_fastest_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    best = {LEADERS: BlasCentres, TOP: PackedCentres}
    monkeypatch.setattr(fastest, "trial", lambda use, k, d: {FlatCentres: 1.0, best[use]: 0.5})
    monkeypatch.setattr(fastest, "SMALL", 0)
    fastest._fastest.cache_clear()
    centres = FastestCentres(rows(64, 64))
    centres.leaders(rows(20, 64))
    centres.candidates(rows(20, 64), 3)
    assert list(centres._ready) == [BlasCentres, PackedCentres]
    fastest._fastest.cache_clear()


def test_a_trial_is_of_powers_of_two_and_never_more_than_it_has_time_for() -> None:
    assert fastest.shape(300, 500) == (512, 512)
    assert fastest.shape(1, 1) == (16, 16)
    for k, d in ((10**6, 768), (10**6, 64), (100_000, 5000)):
        size, width = fastest.shape(k, d)
        assert size * width * fastest.ROWS <= fastest.PRODUCTS


def test_of_the_rounds_of_a_trial_the_least_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {FlatCentres: [3.0, 0.5, 2.0], BlasCentres: [9.0, 1.0, 5.0]}
    expected, now = {FlatCentres: 0.5, BlasCentres: 1.0}, [0.0]
    monkeypatch.setattr(fastest, "SECONDS", 1e9)
    monkeypatch.setattr(fastest, "HOPELESS", 1e9)
    monkeypatch.setattr(fastest, "ROUNDS", 2)

    def use(rows: Floats, centres: Centres) -> None:
        now[0] += took[type(centres)].pop(0)

    monkeypatch.setattr(fastest, "trusted", lambda: tuple(expected))
    monkeypatch.setattr(fastest, "USES", {LEADERS: use})
    assert fastest.trial(LEADERS, 32, 16, lambda: now[0]) == pytest.approx(expected)
    assert took == {FlatCentres: [], BlasCentres: []}


def test_a_kernel_that_is_wrong_is_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(BlasCentres):
        def candidates(self, x: Floats, m: int) -> SearchResult:
            ids, values = super().candidates(x, m)
            return ids[:, ::-1].copy(), values

    class WrongFirst(BlasCentres):
        def leaders(self, x: Floats) -> SearchResult:
            ids, lead = super().leaders(x)
            return (ids + 1) % len(self.vectors), lead

    assert agrees(BlasCentres)
    assert not agrees(WrongFirst)
    monkeypatch.setattr(fastest, "BlasCentres", Wrong)
    fastest.trusted.cache_clear()
    assert Wrong not in fastest.trusted()
    assert set(fastest.trial(LEADERS, 32, 16)) == set(fastest.trusted())
    fastest.trusted.cache_clear()


def test_without_the_operators_faiss_and_numpy_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    fastest.trusted.cache_clear()
    assert fastest.trusted() == (FlatCentres, BlasCentres)
    fastest.trusted.cache_clear()


def test_a_small_search_makes_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "trial", lambda *_: pytest.fail("a trial"))
    fastest._fastest.cache_clear()
    x, centres = rows(50, 16), rows(30, 16, 1)
    assert np.array_equal(nearest(x, FastestCentres(centres), 4)[0], nearest(x, FlatCentres(centres), 4)[0])
