"""The fleet on Ray gives the bits of the fleet in one process, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from numpy.typing import NDArray

from pipeline.distributed.attempts import Patience
from pipeline.distributed.fleet import actors as holders
from pipeline.distributed.fleet import crew
from pipeline.distributed.fleet.actors import Seats
from pipeline.distributed.fleet.ray_fleet import RayFleet
from pipeline.errors import ShardmillError
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.fleet import AssignmentStep, CentresLost, FleetCentres
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.schedule import Schedule
from pipeline.store.store import Store
from pipeline.vectors import Matrix, unit
from tests.reduce.planted import planted

pytestmark = pytest.mark.usefixtures("at_three")

PLANS = {
    "full": Schedule(exact=3, tolerance=0),
    "two-level": Schedule(coarse=1, exact=1, near=2, cells=True, tolerance=0, min_size=20, neighbours=8, relaxation=0.5),
}


@dataclass(frozen=True)
class Mapped:
    """The rows of one .npy file that another names. `deaths` openings, from the fourth on, end the process: in the second
    pass."""

    folder: str
    name: str
    deaths: int = 0
    hangs: bool = False
    """It does not end the process but stops it there, once."""

    def open(self) -> tuple[Matrix, NDArray[np.int64]]:
        opened = Path(self.folder, f"{self.name}.opened")
        with opened.open("a") as file:
            file.write("x")
        if 4 <= opened.stat().st_size < 4 + self.deaths:
            Path(self.folder, f"{self.name}.killed.{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGSTOP if self.hangs else signal.SIGKILL)
        return np.load(f"{self.folder}/{self.name}.npy", mmap_mode="r"), np.load(f"{self.folder}/{self.name}.rows.npy")


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> list[Mapped]:
    """Five files of float16 rows, of which every third does not count."""
    folder = tmp_path_factory.mktemp("blocks")
    x = planted(1, n=4500, d=32)[0].astype(np.float16)
    for i, part in enumerate(np.array_split(x, [700, 1400, 3000, 3100])):
        np.save(folder / f"part{i}.npy", part)
        np.save(folder / f"part{i}.rows.npy", np.flatnonzero(np.arange(len(part)) % 3 < 2))
    return [Mapped(str(folder), f"part{i}") for i in range(5)]


@pytest.fixture(scope="module")
def alone(blocks: list[Mapped], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the fleet of one process and one partition says, by plan."""
    checkpoint = Checkpoint(Store(str(tmp_path_factory.mktemp("alone"))), "fit")
    return {plan: told(LocalFleet.of(blocks), checkpoint, plan, blocks) for plan in PLANS}


def told(fleet: LocalFleet | RayFleet, checkpoint: Checkpoint, plan: str, blocks: list[Mapped]) -> list[Any]:
    """Everything a fit says, and the files it leaves."""
    found = Fit(fleet, PLANS[plan], 60, 3, checkpoint=checkpoint).run()
    fleet.save(checkpoint, 99, FleetCentres(found.centres, len(found.sizes)))
    said = [found.sizes.tolist(), found.objective, found.history, found.dropped, checkpoint.centres(99).tobytes()]
    assignment = [checkpoint.read_assignment(99, block.name).tobytes() for block in blocks]
    checkpoint.clear()
    return [*said, *assignment]


class Losing(RayFleet):
    """Loses an owner of centres with all that it has added up."""

    lost = 0

    def updated(self, look: AssignmentStep[Any], *how: Any) -> Any:
        if look.turn in (0, 2):
            ray.kill(self._owners[look.turn // 2])
            self.lost += 1
        return super().updated(look, *how)


def test_a_partition_that_dies_in_a_pass_changes_no_bit(blocks: list[Mapped], alone: dict[str, list[Any]], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    dying = [replace(block, deaths=1) if block.name == "part3" else block for block in blocks]
    Path(blocks[3].folder, "part3.opened").unlink()
    with RayFleet(dying, store, "scratch", Seats(2)) as fleet:
        assert told(fleet, Checkpoint(store, "fit"), "full", blocks) == alone["full"]
    assert killed(dying[3]) == 1


def test_partitions_on_a_device_of_their_own_change_no_bit(
    blocks: list[Mapped], alone: dict[str, list[Any]], tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    with RayFleet(blocks, store, "scratch", Seats(2, device="cpu")) as fleet:
        assert told(fleet, Checkpoint(store, "fit"), "two-level", blocks) == alone["two-level"]
        actor: Any = fleet._crew.seats[0].actor
        start = np.random.default_rng(0).standard_normal((9, 32)).astype(np.float32)
        assert np.array_equal(fleet.value(fleet.placed(start).handle), unit(start)), "as in one process"
        assert ray.get(actor.__ray_call__.remote(lambda one: one._held.accelerator.device)) == "cpu"


def test_who_has_a_gpu_computes_on_it_and_who_has_none_leaves_all_alone() -> None:
    assert Seats(2, gpus=1).place == "cuda"
    assert Seats(2).place is None
    assert holders.PartitionActor([], 1)._held.accelerator is None


def test_a_partition_that_hangs_is_replaced_and_changes_no_bit(
    blocks: list[Mapped], alone: dict[str, list[Any]], tmp_path: Path,
) -> None:
    """Its process is stopped: it answers nobody and does not die."""
    store = Store(str(tmp_path))
    hanging = [replace(block, deaths=1, hangs=True) if block.name == "part1" else block for block in blocks]
    Path(blocks[1].folder, "part1.opened").unlink(missing_ok=True)
    with RayFleet(hanging, store, "scratch", Seats(2), Patience(stall=3)) as fleet:
        assert told(fleet, Checkpoint(store, "fit"), "full", blocks) == alone["full"]
    for left in Path(blocks[1].folder).glob("part1.killed.*"):
        with suppress(ProcessLookupError):   # Ray may have ended it
            os.kill(int(left.suffix[1:]), signal.SIGKILL)
    assert killed(hanging[1]) == 1


def test_an_owner_that_dies_changes_no_bit_of_a_two_level_fit(
    blocks: list[Mapped], alone: dict[str, list[Any]], tmp_path: Path,
) -> None:
    store = Store(str(tmp_path))
    with Losing(blocks, store, "scratch", Seats(2)) as fleet:
        assert told(fleet, Checkpoint(store, "fit"), "two-level", blocks) == alone["two-level"]
        assert fleet.lost == 2
    assert alone["two-level"][3] > 0    # clusters under 20 rows were dropped
    assert not store.names("scratch/seeds")


def test_a_driver_that_is_killed_leaves_what_another_goes_on_with(
    blocks: list[Mapped], alone: dict[str, list[Any]], tmp_path: Path,
) -> None:
    """Killed between two passes of a fit on the cluster; then a fleet of this process takes over."""
    script = f"""
import os, signal, ray
from pipeline.distributed.fleet.actors import Seats
from pipeline.distributed.fleet.ray_fleet import RayFleet
from pipeline.store.store import Store
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fit import Fit
from tests.distributed.test_partitions import PLANS, Mapped
class Dying(RayFleet):
    def updated(self, look, *how):
        if look.turn == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().updated(look, *how)
ray.init(address={ray.get_runtime_context().gcs_address!r}, log_to_driver=False)
store = Store({str(tmp_path)!r})
Fit(Dying({blocks!r}, store, "scratch", Seats(2)), PLANS["two-level"], 60, 3, checkpoint=Checkpoint(store, "fit")).run()
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    checkpoint = Checkpoint(Store(str(tmp_path)), "fit")
    latest = checkpoint.latest()
    assert latest is not None
    assert latest.turns == 2
    assert told(LocalFleet.of(blocks), checkpoint, "two-level", blocks) == alone["two-level"]


def test_a_partition_that_dies_again_and_again_is_named(
    blocks: list[Mapped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "ATTEMPTS", 0)
    Path(blocks[4].folder, "part4.opened").write_text("x")
    dying = replace(blocks[4], deaths=9)
    fleet = RayFleet([dying], Store(str(tmp_path)), "scratch", Seats(workers=1))
    with fleet, pytest.raises(ShardmillError, match="holds part4 to part4 died 1 times"):
        Fit(fleet, PLANS["full"], 5, 3).run()


@ray.remote(num_cpus=0)
class Holder:
    def centres(self) -> list[Any]:
        """A reference to what is not there yet and never will be without its owner, this actor."""
        return [ray.remote(num_cpus=0)(lambda: time.sleep(60)).remote()]

    def fail(self) -> None:
        raise ValueError("x")


def test_what_is_lost_with_its_holder_is_told_from_other_failures() -> None:
    actor: Any = Holder   # ray's decorator makes one
    holder = actor.remote()
    with pytest.raises(ray.exceptions.RayTaskError, match="x"):
        crew.answer(holder.fail.remote())
    (ref,) = crew.answer(holder.centres.remote())
    ray.kill(holder)
    with pytest.raises(CentresLost, match="a node was lost with centres that were nowhere else"):
        crew.answer(ref)


def killed(block: Mapped) -> int:
    """How often its file was opened by a process that then ended."""
    return len(list(Path(block.folder).glob(f"{block.name}.killed.*")))
