"""A device must give the bits of the CPU's kernels; here torch's CPU is the device."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.models.matrices import device_centres
from pipeline.models.matrices.device_ranking import norm_bounds
from pipeline.models.matrices.device_rows import DeviceRows
from pipeline.reduce.kmeans.device import Accelerator
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import ArrayBlock, Assigner, Block, Partition, RowSample, exact, near, remaining
from pipeline.search.device_centres import DeviceCentres
from pipeline.search.fastest import FastestCentres
from pipeline.search.kernels import FlatCentres, Kernel, agrees, kernel, use_device
from pipeline.search.nearest import assigned, assigned_near, nearest
from pipeline.vectors import Ints, Matrix
from tests.reduce.hard_rows import CASES, rows
from tests.reduce.test_fitting import CELLS, blocks, everything


def on_cpu(centres: np.ndarray) -> DeviceCentres:
    return DeviceCentres(centres, "cpu")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("n", "d", "k"), [(700, 96, 2000), (150, 33, 40), (10, 5, 1)])
def test_a_device_finds_the_bits_of_the_flat_search(case: str, n: int, d: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_centres, "TILE", 640)   # several tiles, the last one narrow
    monkeypatch.setattr("pipeline.search.device_centres.SENT_BYTES", 4 * d * 64)   # and several parts of the rows
    x, centres = CASES[case](n, d, k)
    flat, l = FlatCentres(centres), min(8, k)  # noqa: E741
    expected, found = nearest(x, flat, l), nearest(x, on_cpu(centres), l)
    assert found[0].dtype == np.int32
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert np.array_equal(assigned(x, on_cpu(centres)), expected[0][:, 0])
    lists = nearest(centres, flat, min(9, k))[0]
    previous = np.random.default_rng(3).integers(0, k, n).astype(np.int32)
    assert np.array_equal(assigned_near(x, on_cpu(centres), lists, previous), assigned_near(x, flat, lists, previous))


@pytest.mark.parametrize("case", CASES)
def test_half_precision_errs_by_less_than_its_bound(case: str) -> None:
    x, centres = CASES[case](300, 200, 500)
    matrix = on_cpu(centres).matrix
    halves = matrix.half_rows(torch.from_numpy(x))
    products = matrix.products(halves.half, 0)[:, : len(centres)].double().numpy()
    length = np.asarray(device_centres.powers(norm_bounds(torch.from_numpy(x))), np.float64)
    true = x.astype(np.float64) @ centres.T.astype(np.float64) * length[:, None] * matrix.scale
    reach = halves.margin_for(torch.from_numpy(np.abs(products).max(1))).numpy()
    off = 2 * np.abs(products - true).max(1)
    assert (off <= reach).all()
    assert off.max() > reach.min() / 50, "the bound says nothing"


def test_a_device_gives_exact_values_as_candidates_and_agrees() -> None:
    assert agrees(partial(DeviceCentres, device="cpu"))


def test_without_a_wider_search_half_precision_would_have_hidden_winners(monkeypatch: pytest.MonkeyPatch) -> None:
    x, centres = CASES["near ties"](200, 64, 600)
    monkeypatch.setattr(device_centres, "SPARE", 0)
    monkeypatch.setattr(device_centres.HalfRows, "margin_for", lambda halves, value: 0 * value - 1)
    assert not np.array_equal(nearest(x, on_cpu(centres), 4)[0], nearest(x, FlatCentres(centres), 4)[0])


def test_values_do_not_depend_on_the_order_of_a_sum_on_a_device() -> None:
    x = np.array([1, 2.0**-12] + [2.0**-27] * 8 + [0] * 22, np.float32)
    for seed in range(40):
        row = np.random.default_rng(seed).permutation(x)
        assert nearest(row[None], on_cpu(row[None]), 1)[1][0, 0] == np.nextafter(np.float32(1), np.float32(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_and_centres_that_are_not_finite_are_refused(bad: float) -> None:
    x, centres = rows(5, 4), rows(3, 4)
    x[3, 2] = bad
    with pytest.raises(ValueError, match="finite"):
        nearest(x, on_cpu(centres), 1)
    with pytest.raises(ValueError, match="finite"):
        assigned(centres, on_cpu(x))


def test_no_rows_give_no_ids() -> None:
    ids, values = nearest(np.empty((0, 4), np.float32), on_cpu(rows(3, 4)), 2)
    assert ids.shape == values.shape == (0, 2)
    assert len(assigned(np.empty((0, 4), np.float32), on_cpu(rows(3, 4)))) == 0


def stored(kind: type[np.floating], n: int = 900, d: int = 40) -> list[Block]:
    """Blocks of both kinds of float, of which one has a choice of rows."""
    x = np.random.default_rng(5).standard_normal((n, d)) * 3
    parts = [ArrayBlock(some.astype(kind if i != 1 else np.float32), f"part{i}") for i, some in enumerate(np.array_split(x, 5))]
    return [*parts, Chosen(x[:200].astype(kind), np.arange(0, 200, 3))]


class Chosen:
    name = "chosen"

    def __init__(self, matrix: np.ndarray, chosen: Ints) -> None:
        self.matrix, self.chosen = matrix, chosen

    def open(self) -> tuple[np.ndarray, Ints]:
        return self.matrix, self.chosen


@pytest.mark.parametrize("share", [RowSample(0), RowSample(4, 0.3)], ids=["all", "some"])
@pytest.mark.parametrize("kept_bytes", [0, 20_000, 1 << 30])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_pass_on_a_device_gives_the_bits_of_a_pass_on_the_cpu(share: RowSample, kept_bytes: int, kind: type[np.floating]) -> None:
    centres = rows(300, 40, seed=1)
    lists, keep = nearest(centres, FlatCentres(centres), 12)[0], np.arange(300) % 7 > 0
    there = Partition(stored(kind), first_row=50, accelerator=Accelerator("cpu", kept_bytes, window_bytes=4 * 40 * 70))
    here = Partition(stored(kind), first_row=50)
    fewer = centres[keep]
    steps: list[Callable[[Kernel], Assigner]] = [
        lambda kind: exact(kind(centres)), lambda kind: exact(kind(centres)), lambda kind: near(kind(centres), lists),
        lambda kind: remaining(kind(fewer), keep),
    ]
    for step in steps:
        found, expected = there.assign(step(on_cpu), 300, share), here.assign(step(FlatCentres), 300, share)
        assert found[1:] == expected[1:]
        assert there.assignment is not None
        assert here.assignment is not None
        assert np.array_equal(there.assignment, here.assignment)
        assert np.array_equal(found[0].counts, expected[0].counts)
        assert np.array_equal(found[0].vectors, expected[0].vectors)
        assert np.array_equal(there.reciprocal, here.reciprocal)
    if kept_bytes and share.part == 1:
        assert there.accelerator is not None
        assert 0 < sum(int(sent.bytes) for _, sent in there.accelerator._kept) <= kept_bytes


def test_a_pass_over_some_rows_keeps_none_for_a_pass_over_all() -> None:
    centres = on_cpu(rows(30, 40, seed=1))
    there = Partition(stored(np.float16), accelerator=Accelerator("cpu", 1 << 30, window_bytes=4 * 40 * 70))
    here = Partition(stored(np.float16))
    for share in (RowSample(4, 0.3), RowSample(0), RowSample(5, 0.3), RowSample(0)):
        found, expected = there.assign(exact(centres), 30, share)[0], here.assign(exact(FlatCentres(centres.vectors)), 30, share)[0]
        assert np.array_equal(found.counts, expected.counts)
        assert np.array_equal(found.vectors, expected.vectors)
        assert there.assignment is not None
        assert here.assignment is not None
        assert np.array_equal(there.assignment, here.assignment)


def test_kept_rows_are_not_read_again() -> None:
    class Once(ArrayBlock):
        def open(self) -> tuple[Matrix, Ints | None]:
            opened.append(1)
            return super().open()

    opened: list[int] = []
    one = Partition([Once(rows(300, 16))], accelerator=Accelerator("cpu", 1 << 20, window_bytes=4 * 16 * 100))
    first = one.assign(exact(on_cpu(rows(9, 16, seed=1))), 9, RowSample(0))[0]
    seen = len(opened)
    again = one.assign(exact(on_cpu(rows(9, 16, seed=1))), 9, RowSample(0))[0]
    assert len(opened) == seen
    assert np.array_equal(first.vectors, again.vectors)


@pytest.mark.parametrize("bad", [0, np.nan])
def test_a_row_without_a_direction_is_named(bad: float) -> None:
    x = rows(300, 16)
    x[217] = bad
    one = Partition([ArrayBlock(x[:200], "a"), ArrayBlock(x[200:], "b")], accelerator=Accelerator("cpu"))
    with pytest.raises(InputError, match="row 17 of b"):
        one.assign(exact(on_cpu(rows(9, 16, seed=1))), 9, RowSample(0))


def test_a_doubtful_reciprocal_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound so wide that every row is doubtful, all come from the CPU; without one they would be what the device says."""
    monkeypatch.setattr("pipeline.models.matrices.device_rows.ULP64", 1.0)
    one = Partition([ArrayBlock(rows(300, 16))], accelerator=Accelerator("cpu"))
    monkeypatch.setattr(one, "reciprocal_lengths", lambda some, where: np.full(len(some), 0.5, np.float32))
    assert one.accelerator is not None
    list(one.accelerator.windows(one, RowSample(0)))
    assert (one.reciprocal == 0.5).all()


@pytest.fixture
def given() -> Iterator[None]:
    assert use_device("cpu")
    yield
    assert not use_device(None)


def test_a_whole_fit_on_a_device_gives_the_same_bits(given: None) -> None:
    x = (np.random.default_rng(2).standard_normal((4000, 24)) + 2 * np.repeat(np.eye(8, 24), 500, axis=0)).astype(np.float16)
    schedule = replace(CELLS, min_size=60)
    fleet = LocalFleet.of(blocks(x), partitions=2)
    for one in fleet.partitions:
        one.accelerator = Accelerator("cpu", 1 << 17, window_bytes=4 * 24 * 300)
    found = everything(fleet, Fit(fleet, schedule, 30, 7).run())
    use_device(None)
    plain = LocalFleet.of(blocks(x), partitions=2)
    assert found == everything(plain, Fit(plain, schedule, 30, 7).run())
    use_device("cpu")


def test_a_process_searches_on_a_device_only_when_it_was_given_one(given: None) -> None:
    made = kernel()
    assert isinstance(made, partial)
    assert made.keywords == {"device": "cpu"}
    assert isinstance(kernel()(rows(3, 4)), DeviceCentres)
    use_device(None)
    assert kernel() is FastestCentres
    assert not use_device("cuda:99"), "there is no such device"
    use_device("cpu")


def test_a_device_that_finds_other_centres_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.models.matrices.device_centres.ranked", lambda x, vectors, candidates, wanted, reach, l: (   # noqa: E741
        candidates[:, :l].int(), candidates[:, :l].float()))
    assert not use_device("cpu")
    monkeypatch.undo()
    use_device(None)


def test_rows_on_a_device_are_an_array_to_the_cpu() -> None:
    x = rows(10, 4)
    assert np.array_equal(np.asarray(DeviceRows.of(x, "cpu")[np.array([3, 1])]), x[[3, 1]])
