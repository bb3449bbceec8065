"""One root under fire: the real command as a process of its own joins the cluster, parts of it are killed, it is continued until
it is done, and then the root is held against that of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import psutil
import pyarrow.parquet as pq

from pipeline.audit.verify import verify
from pipeline.input.tar import write_tar
from pipeline.store.store import Store
from tests.chaos.machines import Machines
from tests.chaos.moments import current_pass, gone_by
from tests.curations import curated
from tests.damage import clean_pairs
from tests.roots import hashes

SHARDS = 18
PAIRS = 6
SETTINGS = ("model.compile=false", "classes.k=4", "export.shard_size=6", "filters.clip_similarity.null_quantile=0.2")
ON_ACTORS = {"SHARDMILL_FIT_ALONE": "0"}
"""Classes are fitted by the cluster's actors, as at scale; the undisturbed run fits them in one process."""
LONGEST_DELAY = {"start": 6.0, "annotate": 0.5, "reduce": 1.2, "select": 0.15, "export": 0.4}
"""Seconds after a pass is first seen within which the shot falls; about as long as the pass takes."""
PATIENCE = 240
RESTARTS = 12


@dataclass(frozen=True)
class Shot:
    """What is to be killed, in which pass, how long after the pass was first seen."""

    moment: str
    victim: str
    delay: float


@dataclass(frozen=True)
class Kill:
    """A shot that hit. `moment`: the pass the root showed then."""

    victim: str
    moment: str
    wanted: str


@dataclass
class Damage:
    """What differs from the undisturbed run; all zero is the promise."""

    lost: int = 0
    duplicated: int = 0
    differing: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def write_inputs(folder: Path, sample: Path, shards: int = SHARDS) -> list[Path]:
    """Small shards of clean pairs, so that every pass has many items."""
    folder.mkdir(parents=True)
    pairs = list(clean_pairs(sample).items())
    for number in range(shards):
        with (folder / f"{number:02d}.tar").open("wb") as file:
            some = pairs[PAIRS * number : PAIRS * (number + 1)]
            write_tar(file, ((key, "jpg", image, caption, b'{"n": 1}') for key, (image, caption) in some))
    return [folder]


def undisturbed(root: Path, inputs: list[Path]) -> Path:
    curated(root, inputs, SETTINGS)
    return root


class Trial:
    """Shoots at one root until it is done."""

    def __init__(self, machines: Machines, inputs: list[Path], root: str, rng: random.Random, workers: int = 2) -> None:
        self._machines, self._inputs, self._root, self._rng = machines, inputs, root, rng
        self._store, self._workers = Store(root), workers
        self._shards = len(list(inputs[0].glob("*.tar")))
        self._output = tempfile.TemporaryFile()   # noqa: SIM115 - closed by close()
        self._driver = self._start()
        self._starts = 1

    def run(self, shots: list[Shot]) -> Iterator[Kill]:
        """Yields every kill. Raises AssertionError when the run cannot be continued to its end."""
        waiting = list(shots)
        while waiting and (kill := self._shoot(waiting.pop(0))) is not None:
            yield kill
        self._finish()
        self._machines.settle()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipeline.cli.main", "run", "sample", *map(str, self._inputs), "--output", self._root,
                   "--address", self._machines.address, "--workers", str(self._workers),
                   *[word for setting in SETTINGS for word in ("--set", setting)]]
        environment = {**os.environ, **ON_ACTORS, "NO_COLOR": "1"}
        return subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT, env=environment)

    def _shoot(self, shot: Shot) -> Kill | None:
        """Waits for the pass and the delay, then kills. None: the run was done before."""
        deadline = time.monotonic() + PATIENCE
        actors: list[tuple[int, psutil.Process]] = []
        looked = 0.0
        while True:
            now = current_pass(self._store, self._shards)
            if now == "done":
                return None
            if now == shot.moment or gone_by(self._store, self._shards, shot.moment):
                break
            if shot.victim != "driver" and time.monotonic() - looked > 1:   # slow: a short pass could go by meanwhile
                actors, looked = self._machines.actors(), time.monotonic()
            assert time.monotonic() < deadline, f"no progress in {now}:\n{self.said()}"
            self._continue()
            time.sleep(0.01 if self._store.local else 0.3)   # each look is several requests to an object store
        time.sleep(shot.delay)
        now = current_pass(self._store, self._shards)
        if now == "done":
            return None
        return Kill(self._kill(shot.victim, actors or self._machines.actors()), now, shot.moment)

    def _kill(self, victim: str, actors: list[tuple[int, psutil.Process]]) -> str:
        if victim == "actor":
            return self._machines.kill_actor(self._rng, actors)
        if victim == "node":
            return self._machines.kill_node(self._rng, actors)
        self._driver.send_signal(signal.SIGKILL)
        self._driver.wait()
        return "driver"

    def _continue(self) -> None:
        """Starts the same command again when the driver is gone; only a kill may have ended it."""
        code = self._driver.poll()
        if code is None:
            return
        assert self._starts < RESTARTS, f"started {RESTARTS} times:\n{self.said()}"
        assert code != 3, f"a shard was quarantined, which no kill from outside may cause:\n{self.said()}"
        self._driver = self._start()
        self._starts += 1

    def _finish(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._driver.poll() != 0:
            assert time.monotonic() < deadline, f"not finished after {PATIENCE} s:\n{self.said()}"
            self._continue()
            time.sleep(0.05)

    def said(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        if self._driver.poll() is None:
            self._driver.kill()
            self._driver.wait()
        self._output.close()


def damage(reference: Path, root: str) -> Damage:
    """What a root lacks, has twice, or has otherwise."""
    with tempfile.TemporaryDirectory() as scratch:
        here = fetched(root, Path(scratch) / "copy")
        ours, theirs = hashes(here), hashes(reference)
        wanted, found = written(reference), written(here)
    paths = (path for path in ours.keys() | theirs.keys() if not path.startswith("shards/"))
    differing = sorted(path for path in paths if ours.get(path) != theirs.get(path))
    return Damage((wanted - found).total(), (found - wanted).total(), differing, list(verify(root).faults))


def fetched(root: str, folder: Path) -> Path:
    """A local copy of a remote root."""
    if "://" not in root:
        return Path(root)
    fs, path = fsspec.url_to_fs(root, use_listings_cache=False)
    fs.get(path, str(folder), recursive=True)
    return folder


def written(root: Path) -> Counter[tuple[str, str, int]]:
    """Every exported sample: uid and row id, as often as it was written."""
    names = ["uid", "source_shard_id", "source_row"]
    found: Counter[tuple[str, str, int]] = Counter()
    for path in sorted(root.glob("exports/*/*.parquet")):
        found.update(zip(*(pq.read_table(path).column(name).to_pylist() for name in names), strict=True))
    return found
