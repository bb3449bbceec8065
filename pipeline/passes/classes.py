"""From embeddings to the folder of centroids: fitted on this run's samples, or taken from another root."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.driver import Driver
from pipeline.errors import InputError, RecipeError
from pipeline.plan import Plan
from pipeline.recipe.sections import FITTED_HERE
from pipeline.reduce.classes import stored as taxonomy
from pipeline.reduce.classes.identity import StableClasses
from pipeline.reduce.classes.overlap import Overlap
from pipeline.reduce.classes.stored import FIT, LevelSettings
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.costs import Costs, Machines
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.partition import Block, RowSample
from pipeline.reduce.kmeans.schedule import PRESETS, Schedule, schedule_for
from pipeline.root.other_roots import place
from pipeline.search.nearest import kernel, nearest
from pipeline.select.stored import kept_rows
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_columns, read_npy, read_vectors
from pipeline.vectors import Floats, Matrix, unit
from pipeline.work import Facts, Work

FITTING = "fitting"
"""Folder of checkpoints and seeds, gone after the fit."""
ALONE = 5e7
"""Rows times classes that the driver's process fits faster than actors start; SHARDMILL_FIT_ALONE in its environment overrides it.
No part of a recipe: who fits changes no bit."""
OVERLAP_ROWS = 50_000
"""Samples by which old and new classes are matched, about."""


@dataclass(frozen=True)
class Embeddings:
    """The image embeddings of one shard as a block: of the kept samples, or of all that have one (`verdicts` None)."""

    store: Store
    folder: str
    shard_id: str
    verdicts: str | None

    @property
    def name(self) -> str:
        return self.shard_id

    def open(self) -> tuple[Matrix, NDArray[np.int64] | None]:
        if self.verdicts is not None:
            return self._matrix(), kept_rows(self.store, self.verdicts, self.shard_id).astype(np.int64)
        valid = read_columns(self.store, self.folder, self.shard_id, ["image_embedding_valid"]).column("image_embedding_valid")
        return self._matrix(), np.flatnonzero(np.asarray(valid))

    def _matrix(self) -> Matrix:
        if self.store.local is not None:
            return read_vectors(self.store, self.folder, self.shard_id, "image_embedding")
        return _spooled(self.store, self.folder, self.shard_id)


@cache
def _spooled(store: Store, folder: str, shard_id: str) -> Matrix:
    """The vectors of a remote store in an unnamed local file, mapped: a fit reads them many times. Gone with the process."""
    array = read_vectors(store, folder, shard_id, "image_embedding")
    if not array.size:
        return array
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes())
        file.flush()
        return np.memmap(file, array.dtype, "r", shape=array.shape)


def blocks(plan: Plan, run: Run) -> list[Embeddings]:
    """What the centroids are fitted on, in row-id order."""
    verdicts = None if plan.recipe.classes.fit_on == "all" else plan.verdicts
    folder = plan.columns.folders["clip"]
    return [Embeddings(plan.root, folder, shard_id, verdicts) for shard_id in run.rows.shard_ids]


def fit(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes the folder `plan.centroids`; nothing when the recipe asks for no classes."""
    folder = plan.centroids
    if folder is None or plan.root.exists(f"{folder}/{FIT}"):
        return
    if plan.recipe.classes.fit_on not in FITTED_HERE:
        _borrow(plan, folder)
        return
    refuse_what_cannot_fit(plan, driver, run.rows.total)
    facts = _fitted(plan, blocks(plan, run), driver, folder)
    driver.must("class levels", Arrange(plan, tuple(blocks(plan, run)), facts), ["levels"])


def refuse_what_cannot_fit(plan: Plan, driver: Driver, rows: int = 0) -> None:
    """Raises InputError, with what would fit, where a node has not the memory for the classes of this recipe."""
    settings = plan.recipe.classes
    if plan.centroids is not None and settings.k is not None and settings.fit_on in FITTED_HERE:
        nodes, memory = driver.executor.machines()
        Costs((), settings.k, plan.clip.description.dimension, rows, Machines(nodes, driver.executor.workers, 1.0, memory)).check()


def alone(rows: int, k: int) -> bool:
    """Whether the driver's process fits by itself. Raises InputError for a bound that is no number."""
    bound = os.environ.get("SHARDMILL_FIT_ALONE", str(ALONE))
    try:
        return rows * k <= float(bound)
    except ValueError:
        raise InputError(f"SHARDMILL_FIT_ALONE={bound}: give a number of rows times classes, e.g. 0") from None


def _fitted(plan: Plan, rows: Sequence[Embeddings], driver: Driver, folder: str) -> dict[str, Any]:
    """Fits and writes `centroids.npy`; what there is to say about it."""
    settings, seed = plan.recipe.classes, plan.recipe.seed
    assert settings.k is not None
    read = plan.root.read_json(f"{plan.verdicts}/ledger.json")["read"]
    with driver.executor.fleet(rows, plan.root, f"{folder}/{FITTING}", alone=alone(read, settings.k)) as fleet:
        if not fleet.rows:   # an empty export is a result, not an error
            plan.root.write(taxonomy.centroids_path(folder, 0), npy_bytes(np.zeros((0, 0), np.float32)))
            return {"k": 0, "rows": 0, "reason": "no sample was kept"}
        schedule, why = chosen_schedule(plan, fleet.rows, fleet.dimension)
        start = _known_start(plan, settings.k, fleet.dimension)
        checkpoint = Checkpoint(plan.root, f"{folder}/{FITTING}", {"folder": folder})
        found = Fit(fleet, schedule, settings.k, seed, checkpoint, start).run()
        fleet.write(found.centres, plan.root, taxonomy.centroids_path(folder, 0))
        checkpoint.clear()
    return {
        "k": len(found.sizes), "rows": fleet.rows, "schedule": schedule.describe(), "why": why,
        "started_from_known": start is not None,
        "objective": list(found.history.objective), "final_objective": found.objective, "passes": list(found.history.kinds),
        "refilled": list(found.history.refilled), "dropped": found.dropped, "converged": found.converged, "reason": found.reason,
    }


def chosen_schedule(plan: Plan, rows: int, dimension: int) -> tuple[Schedule, str]:
    """The recipe's preset, or the one that suits these rows and the device of the plan's route, and why."""
    settings = plan.recipe.classes
    preset: str = settings.preset
    why = "the recipe says so"
    if preset == "auto":
        preset, why = schedule_for(rows, settings.k or 1, dimension, int(plan.route.startswith("cuda")))
    schedule = replace(PRESETS[preset], min_size=settings.min_size)
    return replace(schedule, exact=settings.iterations) if preset == "full" else schedule, f"{preset}: {why}"


def _known_start(plan: Plan, k: int, dimension: int) -> Floats | None:
    """The centroids whose ids are kept, where the fit can start from them: only so do samples keep their labels (a fresh start
    finds other classes). More classes than before start as copies of the last, which the repair of empty ones moves."""
    before = _before(plan)
    if not before or len(before[0].centroids) > k or not len(before[0].centroids):
        return None
    old = before[0].centroids
    if old.shape[1] != dimension:
        raise RecipeError(
            f"classes.ids_from: {plan.recipe.classes.ids_from} has embeddings of {old.shape[1]} values, this run of {dimension}: "
            "ids can only be kept within one model")
    return np.concatenate([old, np.repeat(old[-1:], k - len(old), axis=0)])


def _before(plan: Plan) -> list[StableClasses]:
    """The classes whose ids are kept, by level; empty where there are none."""
    folder = plan.others.get("ids_from")
    return [] if folder is None else taxonomy.read_all_classes(place(plan.root, plan.recipe, "ids_from"), folder)


def _borrow(plan: Plan, folder: str) -> None:
    """Copies the classes of another root, if its embeddings are of the same model by the same route."""
    url, other = plan.recipe.classes.fit_on, place(plan.root, plan.recipe, "fit_on")
    theirs = other.read_json("run.json")["outputs"]["columns"]["clip"]
    if theirs != plan.columns.folders["clip"]:
        raise RecipeError(f"classes.fit_on: {url} has embeddings of another model or numeric route ({theirs})")
    source = plan.others["fit_on"]
    names = sorted(other.names(source), key=lambda name: name == FIT)   # the last says that all are there
    for name in names:
        plan.root.write(f"{folder}/{name}", other.read(f"{source}/{name}"))


@dataclass(frozen=True)
class Arrange(Work[str]):
    """Levels above the classes, and ids. One item, on a worker: the driver holds no centroids."""

    plan: Plan
    blocks: tuple[Embeddings, ...]
    facts: dict[str, Any]

    def name(self, item: str) -> str:
        return item

    @contextmanager
    def open(self) -> Iterator[Callable[[str], Facts]]:
        yield self._run

    def _run(self, _: str) -> Facts:
        plan, folder = self.plan, self.plan.centroids
        assert folder is not None
        centroids = np.asarray(read_npy(plan.root, taxonomy.centroids_path(folder, 0)))
        settings = plan.recipe.classes
        before = _before(plan)
        overlap = sampled_overlap(self.blocks, before[0].centroids, centroids, plan.recipe.seed) if before else None
        levels = LevelSettings(settings.levels, settings.resampling, plan.recipe.seed)
        taxonomy.write_levels(plan.root, folder, taxonomy.arranged(centroids, levels, before, overlap), self.facts)
        return {}


def sampled_overlap(rows: Sequence[Block], old: Floats, new: Floats, seed: int) -> Overlap | None:
    """Samples by their nearest old and new class; None where there is nothing to compare."""
    if not len(old) or not len(new) or old.shape[1] != new.shape[1]:
        return None
    found = sample(rows, OVERLAP_ROWS, seed)
    if not len(found):
        return None
    before, after = (nearest(found, kernel()(centres), 1)[0][:, 0] for centres in (old, new))
    return Overlap.of(before, after)


def sample(rows: Sequence[Block], most: int, seed: int) -> Floats:
    """About so many unit rows, seeded by their numbers."""
    opened = [block.open() for block in rows]
    sizes = [len(matrix) if chosen is None else len(chosen) for matrix, chosen in opened]
    share, start, parts = RowSample(seed, min(1.0, most / max(1, sum(sizes)))), 0, []
    for (matrix, chosen), size in zip(opened, sizes, strict=True):
        some = share.chosen(np.arange(start, start + size)) - start
        parts.append(np.asarray(matrix[some if chosen is None else chosen[some]]))
        start += size
    return unit(np.concatenate(parts)) if parts else np.zeros((0, 0), np.float32)
