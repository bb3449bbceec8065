"""A handful of the kills of `make chaos`: the real command on a real cluster of four nodes, on this disk and behind an S3 API."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.machines import Machines, machines
from tests.chaos.trial import LONGEST_DELAY, Shot, Trial, damage, undisturbed, write_inputs

SHOTS = {
    "disk": (("annotate", "actor"), ("reduce", "node"), ("select", "driver"), ("export", "actor")),
    "s3": (("export", "driver"),),
}
WORKERS = {"disk": 2, "s3": 1}
SHARDS = {"disk": 10, "s3": 5}
"""Behind the S3 API a pass takes longer: fewer shards and one worker hold the moment to shoot at."""


@pytest.fixture
def inputs(tmp_path: Path, sample_folder: Path, where: str) -> list[Path]:
    return write_inputs(tmp_path / "in", sample_folder, shards=SHARDS[where])


@pytest.fixture
def reference(tmp_path: Path, inputs: list[Path]) -> Path:
    return undisturbed(tmp_path / "reference", inputs)


@pytest.fixture(scope="module")
def cluster(s3_server: str) -> Iterator[Machines]:   # first: nodes inherit the environment by which workers find the store
    with machines(nodes=2) as running:
        yield running


@pytest.mark.parametrize(("where", "seed"), [("disk", 0), ("s3", 1)])
def test_whatever_is_killed_in_whatever_pass_the_continued_run_writes_the_bytes_of_an_undisturbed_one(
    where: str, seed: int, cluster: Machines, inputs: list[Path], reference: Path, tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    root = str(tmp_path / "root")
    if where == "s3":
        root = f"s3://bucket/{tmp_path.name}"
    rng = random.Random(seed)
    trial = Trial(cluster, inputs, root, rng, WORKERS[where])
    try:
        kills = list(trial.run([Shot(moment, victim, rng.uniform(0, LONGEST_DELAY[moment])) for moment, victim in SHOTS[where]]))
    finally:
        trial.close()
    record_property("say", f"{len(kills)} kills, seed {seed}: {', '.join(f'{kill.victim} in {kill.moment}' for kill in kills)}")
    assert len(kills) == len(SHOTS[where])
    found = damage(reference, root)
    assert (found.lost, found.duplicated, found.differing, found.faults) == (0, 0, [], [])
