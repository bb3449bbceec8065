"""Spherical k-means against FAISS's: one exact iteration, whole fits, sums, memory of an actor, and how the cost grows."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import ray
import torch

from pipeline.distributed.fleet.actors import PartitionActor, Seats
from pipeline.distributed.fleet.ray_fleet import RayFleet
from pipeline.distributed.worker import WATCH
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.fleet import AssignmentStep, assign
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import ArrayBlock, Partition, RowSample, exact
from pipeline.reduce.kmeans.schedule import EXACT, PRESETS, Schedule
from pipeline.reduce.kmeans.sums import Sums
from pipeline.search.nearest import assigned, kernel, nearest
from pipeline.store.store import Store
from pipeline.vectors import Floats, unit
from tests.benchmarks import embeddings
from tests.benchmarks.figures import Figure, interleaved, isa, median, ratio, ratios, spent

THREADS = 2
FAISS_ITERATIONS = 10
LOSS = 0.001   # of the objective, at most


@dataclass(frozen=True)
class Case:
    """Rows to cluster and what the fit must reach."""

    name: str
    rows: Callable[[], Floats]
    k: int
    bound: float | None = None
    """Times as fast as FAISS's ten iterations."""


def planted(n: int, k: int, bound: float | None) -> Case:
    return Case(f"planted, {n:,} x 256, k = {k:,}", lambda: embeddings.planted(n, 256, 0), k, bound)


def theirs(x: Floats, k: int, iterations: int, start: Floats | None = None, seed: int = 1) -> Any:
    """FAISS's k-means over all rows."""
    found = faiss.Kmeans(x.shape[1], k, niter=iterations, spherical=True, max_points_per_centroid=len(x), seed=seed)
    found.train(x, init_centroids=start)
    return found


def objective(x: Floats, centres: Floats) -> float:
    """Mean cosine to the nearest centre, exact."""
    ready = kernel()(unit(centres))
    return sum(float(nearest(x[at : at + 8192], ready, 1)[1].sum(dtype=np.float64)) for at in range(0, len(x), 8192)) / len(x)


def fits(case: Case, rounds: int) -> list[Figure]:
    """The `fast` preset as it is shipped, seeding and the closing exact pass included, beside ten iterations of FAISS, each round
    with another seed. Ours ends with every row's exact centre; FAISS's ends with centres. And the same without that pass."""
    x = np.ascontiguousarray(case.rows(), np.float32)
    unclosed = replace(PRESETS["fast"], closing=False)
    ours: list[Floats] = []
    others: list[Floats] = []

    def fitted(schedule: Schedule, seed: int) -> Floats:
        fleet = LocalFleet.of([ArrayBlock(part) for part in np.array_split(x, THREADS)], partitions=THREADS, threads=THREADS)
        return Fit(fleet, schedule, case.k, seed).run().centres

    def fit() -> None:
        ours.append(fitted(PRESETS["fast"], len(ours)))

    def faiss_fit() -> None:
        others.append(theirs(x, case.k, FAISS_ITERATIONS, seed=len(others) + 1).centroids)

    fit()   # seed 0: the first one loads libraries
    times = spent({"ours": fit, "faiss": faiss_fit, "unclosed": lambda: fitted(unclosed, len(ours) - 1)}, rounds)
    mine, other = (float(np.mean([objective(x, centres) for centres in found])) for found in (ours[1:], others))
    return [
        *ratios(f"fit as shipped, {case.name}, x FAISS", times, "faiss", "ours", case.bound),
        ratio("  without its closing pass", times.wall["faiss"], times.wall["unclosed"], None),
        Figure("  seconds", median(times.wall["ours"]), "s", rounds=tuple(times.wall["ours"])),
        Figure("  objective above FAISS's, mean", 100 * (mine / other - 1), "%", -100 * LOSS),
        Figure("  classes", len(ours[-1]), ""),
    ]


def iteration(n: int, k: int, rounds: int) -> list[Figure]:
    """One exact iteration from the same centres, and what its sums cost beside its assignment. Ours is a later one of a fit: the
    first also measures the rows' lengths."""
    x = embeddings.planted(n, 256, 0)
    start = unit(x[np.random.default_rng(0).choice(n, k, replace=False)])
    fleet = LocalFleet.of([ArrayBlock(part) for part in np.array_split(x, THREADS)], partitions=THREADS, threads=THREADS)

    def ours() -> None:
        look = AssignmentStep(0, EXACT, start, k, RowSample(0))
        fleet.run_step(look)
        fleet.updated(look, np.empty(0, np.int64), None)

    ours()
    times = spent({"ours": ours, "faiss": lambda: theirs(x, k, 1, start)}, rounds)
    index = faiss.IndexFlatIP(256)
    index.add(start)
    same = (index.search(x[:50_000], 1)[1][:, 0] == fleet.assignment()[:50_000]).mean()
    return [
        *ratios(f"one exact iteration, {n:,} x 256, k = {k:,}, x FAISS", times, "faiss", "ours", isa(1.4, 1.0)),
        Figure("  labels as FAISS's (near ties differ by rounding)", float(same), "", 0.9999),
        *sums_beside_assignment(x[:98_304], start, rounds),
    ]


def sums_beside_assignment(x: Floats, centres: Floats, rounds: int) -> list[Figure]:
    ready, k = kernel()(centres), len(centres)
    labels = assigned(x, ready)
    sums = Sums.zero(k, x.shape[1])
    scratch = x.copy()   # sums round their rows in place
    seconds = interleaved({"sums": lambda: sums.add_rows(scratch, labels), "assign": lambda: assigned(x, ready)}, rounds)
    share = median(seconds["sums"]) / median(seconds["assign"])
    return [Figure("  sums, of the assignment's time", share, "", 0.20, at_most=True)]


def growth(rounds: int, sizes: tuple[tuple[int, int], ...]) -> list[Figure]:
    """Seconds of an exact pass against 2 n k d / R, with R of the first size."""
    figures, rate = [], 0.0
    for n, k in sizes:
        x = embeddings.planted(n, 256, 0)
        centres = unit(x[:k])
        one = Partition([ArrayBlock(x)])
        assigner = exact(kernel()(centres))
        taken = median(interleaved({"pass": lambda: one.assign(assigner, k, RowSample(0))}, rounds)["pass"])   # noqa: B023
        work = 2.0 * n * k * 256
        rate = rate or work / taken
        figures.append(Figure(f"exact pass, {n:,} x 256, k = {k:,}: measured / predicted", taken * rate / work, "x"))
    return [Figure("rate of the first, one process", rate / 1e9, "GFLOP/s"), *figures]


class Weighed(PartitionActor):
    """Knows how much memory is its own, and the most it was."""

    def level(self) -> int:
        self._process = psutil.Process()
        kernel()
        self._level = self._own()
        return self._level

    def _own(self) -> int:
        """Resident bytes that map neither a file nor the object store."""
        now = self._process.memory_info()
        return int(now.rss - now.shared)

    def most(self, look: AssignmentStep[None], centres: Floats, bounds: list[tuple[int, int]]) -> int:
        """Bytes above the level, at most, while it makes a pass; asked a hundred times a second."""
        import threading

        found, over = [0], threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                found[0] = max(found[0], self._own() - self._level)

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.do(assign, look, centres, None, bounds)
        over.set()
        watcher.join()
        return found[0]


def memory(n: int, k: int, d: int) -> list[Figure]:
    """Of one actor in an exact pass over mapped rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, embeddings.planted(n, d, 0, np.float16))
        remote: Any = ray.remote   # its types know no concurrency groups
        actor = remote(num_cpus=1, concurrency_groups={WATCH: 1})(Weighed).remote([File(str(path))], 1)
        ray.get(actor.level.remote())
        centres = ray.put(unit(np.random.default_rng(0).standard_normal((k, d))))
        most = ray.get(actor.most.remote(AssignmentStep(0, EXACT, None, k, RowSample(0)), centres, [(0, k)]))
        ray.kill(actor)
    allowed = (3 * k * d * 4 + 300e6) / 1e6
    return [Figure(f"an actor's own memory, k = {k:,}, d = {d}", most / 1e6, "MB", allowed, at_most=True)]


@dataclass(frozen=True)
class File:
    """A mapped .npy file of rows."""

    path: str

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def open(self) -> tuple[Any, None]:
        return np.load(self.path, mmap_mode="r"), None


def actors(n: int, k: int, rounds: int) -> list[Figure]:
    """Two actors of one thread each against two threads of one process: the same fit."""
    with tempfile.TemporaryDirectory() as folder:
        x = embeddings.planted(n, 256, 0, np.float16)
        files = []
        for i, part in enumerate(np.array_split(x, THREADS)):
            np.save(f"{folder}/part{i}.npy", part)
            files.append(File(f"{folder}/part{i}.npy"))
        schedule = Schedule(exact=3, near=0, cells=True, tolerance=-1, changed=-1)
        with RayFleet(files, Store(folder), "scratch", Seats(THREADS)) as fleet:
            seconds = interleaved({
                "ray": lambda: Fit(fleet, schedule, k, 1).run(),
                "local": lambda: Fit(LocalFleet.of(files, partitions=THREADS, threads=THREADS), schedule, k, 1).run(),
            }, rounds)
    return [ratio(f"fit on 2 Ray actors, {n:,} x 256, k = {k:,}, x in process", seconds["local"], seconds["ray"], None)]


def measure(quick: bool, rounds: int) -> list[Figure]:
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    if quick:
        return [*iteration(5_000, 64, 1), *fits(planted(5_000, 64, 0), 1), *growth(1, ((2_000, 32), (4_000, 32)))]
    return [
        *iteration(250_000, 1024, rounds),
        *iteration(250_000, 4096, rounds),
        *fits(planted(250_000, 1024, isa(4, 3)), rounds),
        *fits(planted(1_000_000, 4096, isa(6, 3)), 1),
        *fits(Case("glosses, 82,115 x 256, k = 1,024", embeddings.glosses, 1024, isa(4, 3)), rounds),
        *fits(Case("crops, 250,192 x 256, k = 1,024", embeddings.crops, 1024, isa(4, 3)), rounds),
        *growth(rounds, ((100_000, 1024), (200_000, 2048), (200_000, 4096))),
    ]


def on_actors(quick: bool, rounds: int) -> list[Figure]:
    """What needs Ray, whose processes disturb the rest."""
    if quick:
        return [*memory(4_000, 64, 64), *actors(4_000, 32, 1)]
    return [*memory(200_000, 65_536, 256), *memory(100_000, 16_384, 768), *actors(250_000, 1024, rounds)]
