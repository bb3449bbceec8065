"""AT-14 through the state machine, its samples, schedules and checkpoints."""

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError, RecipeError
from pipeline.reduce.kmeans.checkpoint import Checkpoint, State
from pipeline.reduce.kmeans.fit import RESUMED, Fit, Fitted
from pipeline.reduce.kmeans.fleet import AssignmentStep, CentresLost, StepResult
from pipeline.reduce.kmeans.in_memory import fit, scheduled
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.owner import Owner, slices
from pipeline.reduce.kmeans.partition import ArrayBlock, RowSample
from pipeline.reduce.kmeans.schedule import PRESETS, Schedule, schedule_for
from pipeline.reduce.kmeans.seeding import allotted_seeds, seeds
from pipeline.reduce.kmeans.sums import Sums, over_relaxed
from pipeline.search.nearest import nearest
from pipeline.store.store import Store
from pipeline.vectors import Floats, Matrix
from tests.reduce.planted import planted

FULL = Schedule(exact=3, tolerance=0)
CELLS = Schedule(coarse=1, exact=1, near=2, neighbours=8, cells=True, tolerance=-1, changed=-1, min_size=300, relaxation=0.5)


@pytest.fixture(scope="module")
def x() -> Matrix:
    return planted(0, noise=1.2)[0].astype(np.float16)


def blocks(x: Matrix, parts: int = 24) -> list[ArrayBlock]:
    return [ArrayBlock(some, f"part{i:02d}") for i, some in enumerate(np.array_split(x, parts))]


def everything(fleet: LocalFleet, found: Fitted[Floats]) -> tuple[bytes, bytes, float, State, bytes]:
    return (found.centres.tobytes(), found.sizes.tobytes(), found.objective, found.history, fleet.assignment().tobytes())


@pytest.mark.parametrize("schedule", [FULL, CELLS], ids=["full", "cells"])
def test_partitions_owners_and_threads_change_no_bit(x: Matrix, schedule: Schedule) -> None:
    fits = []
    for partitions, owners, threads in [(1, 1, 1), (2, 3, 2), (3, 8, 1), (8, 2, 1)]:
        fleet = LocalFleet.of(blocks(x), partitions=partitions, owners=owners, threads=threads)
        assert len(fleet.partitions) == partitions
        fits.append(everything(fleet, Fit(fleet, schedule, 50, 7).run()))
    assert fits[1:] == fits[:1] * 3


def test_rows_that_do_not_count_and_unequal_windows_change_no_bit(x: Matrix) -> None:
    """Blocks with a choice of rows, and windows that end inside of them, give the bits of the same rows alone."""
    keep = np.flatnonzero(np.random.default_rng(0).random(len(x)) < 0.4)
    alone, chosen = LocalFleet.of([ArrayBlock(x[keep])]), LocalFleet.of([Chosen(x, keep[:3000]), Chosen(x, keep[3000:])])
    for one in chosen.partitions:
        one.window_bytes = 4 * 64 * 700
    assert everything(alone, Fit(alone, CELLS, 50, 7).run()) == everything(chosen, Fit(chosen, CELLS, 50, 7).run())


@dataclass(frozen=True)
class Chosen:
    matrix: np.ndarray
    rows: np.ndarray
    name: str = "chosen"

    def open(self) -> tuple[np.ndarray, np.ndarray]:
        return self.matrix, self.rows


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_ends_with_an_exact_assignment_near_the_objective_of_exact_passes(x: Matrix, preset: str) -> None:
    schedule = replace(PRESETS[preset], sample_rows=64)
    found = scheduled(x, 50, schedule, seed=1)
    ids, values = nearest(x.astype(np.float32), found.centroids, 1)
    assert (ids[:, 0] == found.assignment).mean() > 0.9999   # the fit's rows have unit length, these almost
    assert found.objective[-1] == pytest.approx(float(values.mean()), abs=1e-3)
    assert found.objective[-1] >= 0.98 * fit(x, 50, seed=1).objective[-1]


def test_the_objective_of_passes_over_all_centres_never_falls_without_repairs(x: Matrix) -> None:
    found = scheduled(x, 50, Schedule(exact=8, cells=True, tolerance=-1), seed=3)
    repaired = np.array(found.refilled) > 0
    assert not repaired.any()
    assert len(found.objective) == 9
    assert (np.diff(found.objective) >= -1e-6).all()


def test_a_pass_that_changes_few_rows_is_the_last_of_its_kind(x: Matrix) -> None:
    history = Fit(LocalFleet.of([ArrayBlock(x)]), Schedule(exact=20, changed=0.005, tolerance=-1), 50, 1).run().history
    assert len(history.changed) < 20
    assert history.changed[-1] <= 0.005 < min(history.changed[:-1])


def test_every_pass_over_the_rows_is_told_of_once(x: Matrix) -> None:
    told: list[int] = []
    fleet = LocalFleet.of([ArrayBlock(x[:3000])])
    fit = Fit(fleet, Schedule(exact=4, tolerance=-1), 20, 1, told=lambda state: told.append(state.turns))
    assert told == list(range(1, len(fit.run().history.objective) + 1))


def test_small_clusters_are_dropped_and_their_rows_find_others(x: Matrix) -> None:
    few = x[:3000]
    whole, found = (scheduled(few, 60, Schedule(exact=3, min_size=least), seed=2) for least in (0, 30))
    assert whole.sizes.min() < 30 <= found.sizes.min()
    assert found.sizes.sum() == len(few)
    assert np.array_equal(found.sizes, np.bincount(found.assignment))
    assert "had fewer than 30 rows" in str(found.reason)
    left = whole.centroids[whole.sizes >= 30]
    assert np.array_equal(found.centroids, left)
    assert np.array_equal(found.assignment, nearest(few.astype(np.float32), left, 1)[0][:, 0])


def test_a_share_of_rows_is_seeded_and_grows() -> None:
    rows = np.arange(50_000)
    some, more = RowSample(1, 0.1).chosen(rows), RowSample(1, 0.2).chosen(rows)
    assert len(some) == pytest.approx(5000, rel=0.05)
    assert set(some) < set(more)
    assert np.array_equal(np.concatenate([RowSample(1, 0.1).chosen(part) for part in np.array_split(rows, 7)]), some)
    assert len(set(some) & set(RowSample(2, 0.1).chosen(rows))) == pytest.approx(500, rel=0.2)


def test_centres_that_overshoot_get_further_in_as_many_passes() -> None:
    """Rows without structure, where centres drift for long."""
    x = np.random.default_rng(0).standard_normal((4000, 32)).astype(np.float32)
    plain, relaxed = (
        scheduled(x, 40, Schedule(exact=8, tolerance=-1, changed=-1, relaxation=beyond), seed=1).objective for beyond in (0, 1)
    )
    assert relaxed[0] == plain[0]
    assert relaxed[-1] > plain[-1] + 0.002


def test_centres_that_are_kept_are_means(x: Matrix) -> None:
    """The last pass, and one that ends its phase, do not overshoot."""
    schedule = Schedule(exact=3, near=2, neighbours=8, tolerance=-1, changed=-1, relaxation=1)
    assert [schedule.beyond(at, stop=False) for at in range(5)] == [1, 1, 1, 1, 0]
    assert schedule.beyond(1, stop=True) == 0
    fleet = LocalFleet.of([ArrayBlock(x)])
    found = Fit(fleet, replace(schedule, closing=False), 50, 1).run()
    wide = x.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    means = np.stack([wide[fleet.assignment() == cluster].sum(axis=0) for cluster in range(50)])
    assert np.allclose(found.centres, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-5)


def test_overshooting_goes_on_in_the_same_direction() -> None:
    before, now = np.array([[1, 0], [0, 1]], np.float32), np.array([[0.8, 0.6], [0, 1]], np.float32)
    assert np.allclose(over_relaxed(now, before, 0.5), [[0.7 / np.hypot(0.7, 0.9), 0.9 / np.hypot(0.7, 0.9)], [0, 1]])
    assert over_relaxed(now, before, 0) is now


@pytest.mark.filterwarnings("error")
def test_stored_as_float16_the_same_values_give_the_same_bits(x: Matrix, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", x)
    stored = LocalFleet.of([ArrayBlock(np.load(tmp_path / "rows.npy", mmap_mode="r"))])
    wide = LocalFleet.of([ArrayBlock(x.astype(np.float32))])
    assert everything(stored, Fit(stored, CELLS, 50, 7).run()) == everything(wide, Fit(wide, CELLS, 50, 7).run())


def test_rows_too_close_for_the_draw_become_seeds_last() -> None:
    apart = np.eye(16, dtype=np.float32)[:4]
    close = apart[:1] + np.float32(1e-5) * np.arange(1, 6)[:, None] * apart[1:2]   # of one value on the grid of the draws
    rows = np.concatenate([apart, close, close, np.where(apart == 0, np.float32(-0.0), apart)])
    found = seeds(rows, 12, seed=0)
    assert len(found) == len(np.unique(found, axis=0)) == 9
    assert set(found[:4].argmax(axis=1)) == {0, 1, 2, 3}
    assert len(seeds(rows, 6, seed=0)) == 6


def test_seeds_are_allotted_in_proportion_and_never_more_than_rows() -> None:
    assert allotted_seeds(np.array([10, 20, 0, 70]), 10).tolist() == [1, 2, 0, 7]
    assert allotted_seeds(np.array([11, 19, 70]), 10).tolist() == [1, 2, 7]
    assert allotted_seeds(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]
    assert allotted_seeds(np.array([3, 1]), 9).tolist() == [3, 1]


def test_an_owner_adds_each_partition_once_and_only_in_its_pass() -> None:
    owner, sums = Owner(1, 3), Sums(np.array([4, 5]), np.array([[2**20, 0], [0, 2**20]]))
    owner.begin(6, np.eye(4, 2, dtype=np.float32))
    for turn, partition in [(6, 0), (6, 0), (5, 1), (6, 2)]:
        owner.add(turn, partition, sums)
    assert owner.counted(2)[0].tolist() == [8, 10]
    with pytest.raises(ValueError, match="sums of 2 partitions came, not of 3"):
        owner.counted(3)
    assert slices(10, 3) == [(0, 3), (3, 6), (6, 10)]
    assert slices(2, 8) == [(0, 1), (1, 2)]


def test_a_row_without_direction_is_named_by_its_block(x: Matrix) -> None:
    bad = x[:100].copy()
    bad[42] = 0
    with pytest.raises(InputError, match="row 42 of part1 is not"):
        Fit(LocalFleet.of([ArrayBlock(x[:9], "part0"), ArrayBlock(bad, "part1")]), Schedule(), 3, 1).run()
    with pytest.raises(InputError, match="part1 has rows of 8 values, the others have 64"):
        LocalFleet.of([ArrayBlock(x[:9], "part0"), ArrayBlock(bad[:, :8], "part1")])


def test_an_interrupted_fit_goes_on_to_the_same_bits(x: Matrix, tmp_path: Path) -> None:
    """Stopped in its third pass; then continued by another number of partitions."""
    whole = LocalFleet.of(blocks(x), partitions=2)
    expected = everything(whole, Fit(whole, CELLS, 50, 7).run())
    script = f"""
import os, signal, numpy as np
from pipeline.store.store import Store
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from tests.reduce.test_fitting import CELLS, blocks, planted
class Dying(LocalFleet):
    def updated(self, look, *how):
        if look.turn == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().updated(look, *how)
fleet = Dying.of(blocks(planted(0, noise=1.2)[0].astype(np.float16)), partitions=3, owners=2)
Fit(fleet, CELLS, 50, 7, checkpoint=Checkpoint(Store({str(tmp_path)!r}), "fit", {{"seed": 7}})).run()
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    checkpoint = Checkpoint(Store(str(tmp_path)), "fit", {"seed": 7})
    latest = checkpoint.latest()
    assert latest is not None
    assert latest.turns == 2
    assert checkpoint.store.folders("fit") == ["00002"]
    again = Counting.of(blocks(x), partitions=8)
    assert everything(again, Fit(again, CELLS, 50, 7, checkpoint=checkpoint).run()) == expected
    assert again.turns[0] == 2


class Counting(LocalFleet):
    def run_step(self, look: AssignmentStep[Any]) -> StepResult:
        self.turns = [*getattr(self, "turns", []), look.turn]
        return super().run_step(look)


class Forgetful(LocalFleet):
    """Its centres are lost at the end of the third pass, as often as told."""

    losses = 1

    def updated(self, look: AssignmentStep[Any], *how: Any) -> Any:
        if look.turn == 2 and self.losses:
            self.losses -= 1
            raise CentresLost("a node was lost")
        return super().updated(look, *how)


def test_a_fit_whose_centres_are_lost_goes_on_from_its_checkpoint_to_the_same_bits(x: Matrix, tmp_path: Path) -> None:
    whole, losing = LocalFleet.of(blocks(x)), Forgetful.of(blocks(x))
    checkpoint = Checkpoint(Store(str(tmp_path)), "fit")
    assert everything(losing, Fit(losing, CELLS, 50, 7, checkpoint).run()) == everything(whole, Fit(whole, CELLS, 50, 7).run())
    assert not losing.losses
    for losses, kept in ((1, None), (9, Checkpoint(Store(str(tmp_path)), "again"))):
        losing.losses = losses
        with pytest.raises(CentresLost):
            Fit(losing, FULL, 50, 7, kept).run()
    assert losing.losses == 9 - 1 - RESUMED


def test_a_checkpoint_of_another_identity_is_not_continued(x: Matrix, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Fit(LocalFleet.of([ArrayBlock(x[:2000])]), FULL, 20, 7, checkpoint=Checkpoint(store, "fit", {"seed": 7})).run()
    assert Checkpoint(store, "fit", {"seed": 8}).latest() is None
    fleet = Counting.of([ArrayBlock(x[:2000])])
    Fit(fleet, FULL, 20, 8, checkpoint=Checkpoint(store, "fit", {"seed": 8})).run()
    assert fleet.turns[0] == 0


@pytest.mark.parametrize(("n", "k", "gpus", "preset"), [
    (20_000, 50, 0, "full"), (1_000_000, 4096, 0, "fast"), (10**9, 10**6, 64, "sample"), (10**9, 10**6, 0, "two_level"),
])
def test_the_preset_suits_the_size_and_says_why(n: int, k: int, gpus: int, preset: str) -> None:
    chosen, why = schedule_for(n, k, 768, gpus)
    assert chosen == preset
    assert f"{n:,} rows x {k:,} classes" in why


def test_schedules_that_cannot_run_are_refused() -> None:
    with pytest.raises(RecipeError, match="pass counts of 0 or more"):
        Schedule(exact=-1)
    with pytest.raises(RecipeError, match="near passes need"):
        Schedule(exact=0, near=2)


def test_a_fit_without_its_closing_pass_ends_with_the_last_centres(x: Matrix) -> None:
    schedule = Schedule(exact=2, near=1, neighbours=8, tolerance=-1, changed=-1)
    closed = Fit(LocalFleet.of(blocks(x)), schedule, 50, 0).run()
    open_end = Fit(LocalFleet.of(blocks(x)), replace(schedule, closing=False), 50, 0).run()
    assert open_end.centres.tobytes() == closed.centres.tobytes()
    assert open_end.history.kinds == closed.history.kinds[:-1] == ("exact", "exact", "near")
    with pytest.raises(RecipeError, match="only after a closing pass"):
        Schedule(closing=False, min_size=2)
