"""Who computes a run, on Ray or in this process, and by which numeric route: the one that the root was begun with, if it can still
be had, else one that is settled with whoever computes.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.api.signals import stop_on_sigterm
from pipeline.errors import InputError
from pipeline.input.discovery import Shard
from pipeline.plan import Plan
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.settled import Settled
from pipeline.root.other_roots import named_folders
from pipeline.store.store import Store
from pipeline.timing.progress import Reporter, phase

if TYPE_CHECKING:
    from pipeline.distributed.executor import Executor
    from pipeline.models.route import RouteWish
    from pipeline.stages.precision import MeasuredRoute, PrecisionQuestion

SAMPLED = 8
"""Input shards that the precision is settled on, at most; the first pairs are enough."""


@dataclass(frozen=True)
class Execution:
    """Where and how a run computes. None of it changes a byte of a sample that can be read."""

    threads: int = 1
    """Batches that a worker has in work at once."""
    retry_quarantined: bool = False
    """Shards in quarantine are tried again."""
    workers: int | None = None
    address: str | None = None
    stall: float | None = None
    """Seconds without progress after which a try counts as hung; None: the executor's own."""
    actors_per_gpu: int | None = None
    """None: as many as there are CPUs for."""
    local: bool = False
    """In this process, without Ray; the four settings of Ray above then have to be None."""

    def __post_init__(self) -> None:
        settings = {"workers": self.workers, "address": self.address, "stall-timeout": self.stall,
                    "actors-per-gpu": self.actors_per_gpu}
        set_for_ray = [name for name, value in settings.items() if value is not None]
        if self.local and set_for_ray:
            raise InputError(f"--local runs in this process alone: leave out --{set_for_ray[0]}, or --local")

    @property
    def here(self) -> bool:
        """Whether the workers are certain to be on this machine: no cluster is named, and this process is connected to none."""
        return self.local or not (self.address or os.environ.get("RAY_ADDRESS") or "ray" in sys.modules)


RAY = Execution()
Engine = tuple["Executor", Settled]
"""Who runs the work, and what is settled now that the workers were asked."""


def settled_before(root: Store, recipe: Recipe, shards: Sequence[Shard]) -> Settled:
    """What an earlier run of the root settled, by its run.json: so that what goes on elsewhere, or is only looked at, need not be
    computed again. The route only if the recipe means the same embeddings by it. Raises RecipeError where another root that the
    recipe names has published no classes."""
    others = named_folders(root, recipe, shards)
    try:
        record = root.read_json("run.json")
        settled, folder = replace(Settled.recorded(record), others=others), record["outputs"]["columns"]["clip"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):   # none there, or damaged: the run makes it anew
        return Settled(others=others)
    continues = may_go_on(settled.route, recipe) and Plan.of(root, recipe, shards, settled).columns.folders["clip"] == folder
    return settled if continues else Settled(ner=settled.ner, others=others)


def may_go_on(route: str, recipe: Recipe) -> bool:
    """Whether the recipe may mean this route, on some machine."""
    from pipeline.models.route import satisfies

    try:
        return satisfies(route, wish(recipe))
    except InputError:   # a route of another version
        return False


def wish(recipe: Recipe) -> "RouteWish":
    """What the recipe says of the numeric route."""
    from pipeline.models.route import RouteWish

    return RouteWish(recipe.model.precision, recipe.model.device, recipe.model.compile)


def precision_question(recipe: Recipe, shards: Sequence[Shard]) -> "PrecisionQuestion":
    """For whoever settles the route: the recipe, and the shards whose pairs are the sample."""
    from pipeline.stages.precision import PrecisionQuestion

    return PrecisionQuestion(recipe, tuple(shards[:SAMPLED]))


def engine(
    execution: Execution, recipe: Recipe, shards: Sequence[Shard], settled: Settled, tell: Reporter
) -> AbstractContextManager[Engine]:
    """What runs the work while the block lasts. Raises InputError where a machine cannot provide the route, or has a GPU that it
    cannot use."""
    return (in_this_process if execution.local else on_ray)(execution, recipe, shards, settled, tell)


@contextmanager
def on_ray(
    execution: Execution, recipe: Recipe, shards: Sequence[Shard], settled: Settled, tell: Reporter
) -> Iterator[Engine]:
    """A Ray cluster, which is joined or started for the run and left as it was, by the route that its workers agree on: the one
    that was settled before, if they can."""
    # Slow to import: a wrong recipe or input is said before.
    from pipeline.distributed.ray_executor import (
        Patience,
        RayExecutor,
        ask_with,
        connected,
        first_actor,
        gpus_hidden,
        settle,
        settled_precision,
    )

    patience = Patience() if execution.stall is None else Patience(stall=execution.stall)

    with ExitStack() as stack:
        with phase(tell, "starting Ray" if not execution.address else f"joining the Ray cluster at {execution.address}"):
            started = stack.enter_context(connected(execution.address, execution.workers))
        stop_on_sigterm()
        with gpus_hidden(), first_actor(patience, alone=started) as first:
            with phase(tell, "workers agree on the arithmetic"):
                terms = settle(wish(recipe), preferred=settled.route, note=tell.note, machine=ask_with(first))
                if terms.route != settled.route:
                    answer = settled_precision(precision_question(recipe, shards), terms)
                    terms, settled = replace(terms, route=answer.route), by_answer(settled, answer, tell)
            executor = RayExecutor(
                execution.workers, terms=terms, actors_per_gpu=execution.actors_per_gpu, patience=patience)
            if first is not None:
                executor.adopt(first)
            try:
                yield executor, settled
            finally:
                executor.close()   # a connection that is not ours stays, and its CPUs are wanted


@contextmanager
def in_this_process(
    execution: Execution, recipe: Recipe, shards: Sequence[Shard], settled: Settled, tell: Reporter
) -> Iterator[Engine]:
    """This process without Ray, by the route that was settled before if this machine has it, else by its own."""
    from pipeline.distributed.local import LocalExecutor
    from pipeline.models.machine import offered_route, provides
    from pipeline.models.process import threads_kept
    from pipeline.models.route import RouteQuestion
    from pipeline.stages.precision import settled as settled_here

    stop_on_sigterm()
    with threads_kept():
        try:
            if settled.route:
                provides(settled.route)
        except InputError as error:
            tell.note(f"the route {settled.route} of this root is not to be had: {error}")
            settled = replace(settled, route="")
        if not settled.route:
            with phase(tell, "choosing the arithmetic"):
                offered_route(RouteQuestion(wish(recipe)))   # a GPU that cannot be used is an error, not a slow run
                settled = by_answer(settled, settled_here(precision_question(recipe, shards)), tell)
        yield LocalExecutor(gives_up=True), settled


def by_answer(settled: Settled, answer: "MeasuredRoute", tell: Reporter) -> Settled:
    """With the route of an answer, and the measurements behind it."""
    for distance in answer.distances:
        tell.note(str(distance))
    return replace(settled, route=answer.route, distances=tuple(distance.record() for distance in answer.distances))
