"""From embeddings to the folder of centroids: fitted on this run's samples, or taken from another root."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.columns import Run
from pipeline.driver import Driver
from pipeline.errors import InputError, RecipeError
from pipeline.passes.embeddings import COPIES, Embeddings, fitted_blocks, sampled_embeddings
from pipeline.plan import Plan
from pipeline.recipe.sections import FITTED_HERE
from pipeline.reduce.classes import taxonomy
from pipeline.reduce.classes.identity import StableClasses
from pipeline.reduce.classes.overlap import Overlap
from pipeline.reduce.classes.taxonomy import FIT, LevelSettings
from pipeline.reduce.kmeans.checkpoint import Checkpoint, State
from pipeline.reduce.kmeans.costs import Costs, Machines
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.schedule import PRESETS, Schedule, schedule_for
from pipeline.root.other_roots import place
from pipeline.search.nearest import kernel, nearest
from pipeline.select.stored import stored_ledger
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.timing.progress import Reporter, Scope, Step
from pipeline.vectors import Floats
from pipeline.work import Facts, PlainWork, Units

FITTING = "fitting"
"""Folder of checkpoints and seeds, gone after the fit."""
ALONE = 5e7
"""Rows times classes that the driver's process fits faster than actors start; SHARDMILL_FIT_ALONE in its environment overrides it.
No part of a recipe: who fits changes no bit."""
OVERLAP_ROWS = 50_000
"""Samples by which old and new classes are matched, about."""


def fit_classes(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes the folder `plan.centroids`; nothing when the recipe asks for no classes. Raises InputError where a node has not the
    memory for the fit, RecipeError where classes of another root are of another model."""
    folder = plan.centroids
    if folder is None or plan.root.exists(f"{folder}/{FIT}"):
        return
    if plan.recipe.classes.fit_on not in FITTED_HERE:
        _borrow(plan, folder)
        return
    refuse_what_cannot_fit(plan, driver, run.rows.total)
    blocks = fitted_blocks(plan, run)
    facts = _fitted(plan, blocks, driver, folder)
    driver.must("class levels", Arrange(plan.without_inputs(), tuple(blocks), facts), ["levels"])


def refuse_what_cannot_fit(plan: Plan, driver: Driver, rows: int = 0) -> None:
    """Raises InputError, with what would fit, where a node has not the memory for the classes of this recipe. A run asks before it
    reads anything (`rows` 0: the centroids alone), and again when it knows how many rows there are."""
    settings = plan.recipe.classes
    if plan.centroids is not None and settings.k is not None and settings.fit_on in FITTED_HERE:
        nodes, memory = driver.executor.machines()
        Costs((), settings.k, plan.clip.description.dimension, rows, Machines(nodes, driver.executor.workers, 1.0, memory)).check()


def fits_alone(rows: int, k: int) -> bool:
    """Whether the driver's process fits by itself. Raises InputError for a bound that is no number."""
    bound = os.environ.get("SHARDMILL_FIT_ALONE", str(ALONE))
    try:
        return rows * k <= float(bound)
    except ValueError:
        raise InputError(f"SHARDMILL_FIT_ALONE={bound}: give a number of rows times classes, e.g. 0") from None


def _fitted(plan: Plan, blocks: Sequence[Embeddings], driver: Driver, folder: str) -> dict[str, Any]:
    """Fits and writes `centroids.npy`; returns the facts for `fit.json`."""
    settings, seed = plan.recipe.classes, plan.recipe.seed
    assert settings.k is not None
    alone = fits_alone(stored_ledger(plan.root, plan.selected).read, settings.k)
    with ExitStack() as stack:
        stack.callback(COPIES.clear)
        with driver.phase("clustering starts"):
            fleet = stack.enter_context(driver.executor.fleet(blocks, plan.root, f"{folder}/{FITTING}", alone=alone))
        if not fleet.rows:   # an empty export is a result, not an error
            plan.root.write(taxonomy.centroids_path(folder, 0), npy_bytes(np.zeros((0, 0), np.float32)))
            return {"k": 0, "rows": 0, "reason": "no sample was kept"}
        schedule, why = chosen_schedule(plan, fleet.rows, fleet.dimension)
        start = _known_start(plan, settings.k, fleet.dimension)
        checkpoint = Checkpoint(plan.root, f"{folder}/{FITTING}", {"folder": folder})
        with driver.phase("clustering", Scope(len(schedule.kinds), units=Units("pass"), at_most=True)):
            fit = Fit(fleet, schedule, settings.k, seed, checkpoint, start, passes_told(driver.reporter)).run()
        fleet.write(fit.centres, plan.root, taxonomy.centroids_path(folder, 0))
        checkpoint.clear()
    return {
        "k": len(fit.sizes), "rows": fleet.rows, "schedule": schedule.describe(), "why": why,
        "started_from_known": start is not None,
        "objective": list(fit.history.objective), "final_objective": fit.objective, "passes": list(fit.history.kinds),
        "refilled": list(fit.history.refilled), "dropped": fit.dropped, "converged": fit.converged, "reason": fit.reason,
    }


def passes_told(tell: Reporter) -> Callable[[State], None]:
    """Tells of every pass of a fit once; one that goes on from a checkpoint has done some before."""
    seen, last = 0, time.monotonic()

    def told(state: State) -> None:
        nonlocal seen, last
        now = time.monotonic()
        for _ in range(seen, state.turns):
            tell.advance(Step(seconds=now - last))
        seen, last = max(seen, state.turns), now

    return told


def chosen_schedule(plan: Plan, rows: int, dimension: int) -> tuple[Schedule, str]:
    """The recipe's preset, or the one that suits so many rows of `dimension` values and the device of the plan's route; and why."""
    settings = plan.recipe.classes
    preset: str = settings.preset
    reason = "the recipe says so"
    if preset == "auto":
        preset, reason = schedule_for(rows, settings.k or 1, dimension, int(plan.route.startswith("cuda")))
    schedule = replace(PRESETS[preset], min_size=settings.min_size)
    return replace(schedule, exact=settings.iterations) if preset == "full" else schedule, f"{preset}: {reason}"


def _known_start(plan: Plan, k: int, dimension: int) -> Floats | None:
    """float32 [k, dimension]: the centroids whose ids are kept, where the fit can start from them: only so do samples keep their
    labels (a fresh start finds other classes). More classes than before start as copies of the last, which the repair of empty ones
    moves."""
    levels = _kept_classes(plan)
    if not levels or len(levels[0].centroids) > k or not len(levels[0].centroids):
        return None
    old = levels[0].centroids
    if old.shape[1] != dimension:
        raise RecipeError(
            f"classes.ids_from: {plan.recipe.classes.ids_from} has embeddings of {old.shape[1]} values, this run of {dimension}: "
            "ids can only be kept within one model")
    return np.concatenate([old, np.repeat(old[-1:], k - len(old), axis=0)])


def _kept_classes(plan: Plan) -> list[StableClasses]:
    """The classes whose ids are kept, by level; empty where there are none."""
    folder = plan.others.get("ids_from")
    return [] if folder is None else taxonomy.read_all_classes(place(plan.root, plan.recipe, "ids_from"), folder)


def _borrow(plan: Plan, folder: str) -> None:
    """Copies the classes of another root, if its embeddings are of the same model by the same route."""
    url, other = plan.recipe.classes.fit_on, place(plan.root, plan.recipe, "fit_on")
    clip = other.read_json("run.json")["outputs"]["columns"]["clip"]
    if clip != plan.columns.folders["clip"]:
        raise RecipeError(f"classes.fit_on: {url} has embeddings of another model or numeric route ({clip})")
    source = plan.others["fit_on"]
    names = sorted(other.names(source), key=lambda name: name == FIT)   # the last says that all are there
    for name in names:
        plan.root.write(f"{folder}/{name}", other.read(f"{source}/{name}"))


@dataclass(frozen=True)
class Arrange(PlainWork[str]):
    """Writes the levels above the classes, and ids. One item, on a worker: the driver holds no centroids."""

    plan: Plan
    blocks: tuple[Embeddings, ...]
    facts: dict[str, Any]

    @property
    def units(self) -> Units:
        return Units()

    def run(self, item: str) -> Facts:
        plan, folder = self.plan, self.plan.fitted.centroids
        centroids = np.asarray(read_npy(plan.root, taxonomy.centroids_path(folder, 0)))
        settings = plan.recipe.classes
        kept = _kept_classes(plan)
        overlap = sampled_overlap(self.blocks, kept[0].centroids, centroids, plan.recipe.seed) if kept else None
        levels = LevelSettings(settings.levels, settings.resampling, plan.recipe.seed)
        taxonomy.write_levels(plan.root, folder, taxonomy.arranged(centroids, levels, kept, overlap), self.facts)
        return {}


def sampled_overlap(blocks: Sequence[Embeddings], old: Floats, new: Floats, seed: int) -> Overlap | None:
    """About OVERLAP_ROWS samples by their nearest old and new class; `old` and `new` are centroids, float32 [classes, d]. None
    where there is nothing to compare."""
    if not len(old) or not len(new) or old.shape[1] != new.shape[1]:
        return None
    rows = sampled_embeddings(blocks, OVERLAP_ROWS, seed)
    if not len(rows):
        return None
    return Overlap.of(*(nearest(rows, kernel()(centroids), 1)[0][:, 0] for centroids in (old, new)))
