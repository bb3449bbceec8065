"""A run from its request to its result, on Ray or in this process: what `run`, `label` and `plan` do, and `shardmill.curate`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.signals import handler_kept, stop_on_sigterm
from pipeline.curation import Choices, Result, curate, finished, refuse_foreign, succeed
from pipeline.driver import Driver, Reporter
from pipeline.errors import InputError
from pipeline.input.discovery import Shard, discover
from pipeline.plan import Plan
from pipeline.recipe.further_stages import requested_stages
from pipeline.recipe.recipe import Recipe, load, validated
from pipeline.recipe.sections import BUNDLED
from pipeline.recipe.yaml_source import Source
from pipeline.root.existing import open_root
from pipeline.root.lock import held
from pipeline.root.log import EventLog
from pipeline.root.other_roots import named_folders
from pipeline.store.store import Store, absolute
from schemas.answers.plans import RunEstimate

if TYPE_CHECKING:
    from pipeline.distributed.executor import Executor
    from pipeline.models.route import RouteWish
    from pipeline.stages.precision import MeasuredRoute

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLED = 8
"""Input shards that the precision is settled on, at most; the first pairs are enough."""


@dataclass(frozen=True)
class Request:
    """One call of `shardmill run`."""

    recipe: str
    inputs: Sequence[str]
    output: str
    overrides: Sequence[str] = ()
    workers: int | None = None
    choices: Choices = field(default_factory=Choices)
    address: str | None = None
    stall: float | None = None
    """Seconds without progress after which a try counts as hung; None: the executor's own."""
    actors_per_gpu: int | None = None
    """None: as many as there are CPUs for."""
    stages: Sequence[str] = ()
    """The operator's own stages, as `package.module:Class`."""
    local: bool = False
    """In this process, without Ray; the four settings of Ray above then have to be None."""

    def __post_init__(self) -> None:
        settings = {"workers": self.workers, "address": self.address, "stall-timeout": self.stall,
                    "actors-per-gpu": self.actors_per_gpu}
        given = [name for name, value in settings.items() if value is not None]
        if self.local and given:
            raise InputError(f"--local runs in this process alone: leave out --{given[0]}, or --local")


def shards_of(recipe: Recipe, inputs: Sequence[str]) -> tuple[Shard, ...]:
    """The input shards: those of the command line, else the recipe's own. `bundled:sample` is the sample in the package."""
    patterns = list(inputs) or list(recipe.inputs)
    if not patterns:
        raise InputError(f"recipe {recipe.name} names no inputs: give a folder, glob, brace pattern or URL on the command line")
    return tuple(discover([str(ASSETS / p.removeprefix(BUNDLED)) if p.startswith(BUNDLED) else p for p in patterns]))


def wish(recipe: Recipe) -> "RouteWish":
    from pipeline.models.route import RouteWish

    return RouteWish(recipe.model.precision, recipe.model.device, recipe.model.compile)


def run_curation(request: Request, tell: Reporter) -> tuple[Result, float]:
    """Runs or continues a curation; returns its result and the seconds it took. A finished one starts no Ray."""
    recipe = load(request.recipe, request.overrides, request.stages)
    return _curated(request, recipe, shards_of(recipe, request.inputs), tell)


def label_by(request: Request, other: str, tell: Reporter) -> tuple[Result, float]:
    """Runs the recipe of the root `request.output` again over its inputs, with the classes that the root `other` has
    published: same ids, same names, nothing fitted. Raises RootError for what is no root."""
    found = open_root(request.output)
    classes = found.recipe.classes.model_dump(mode="json") | {"fit_on": absolute(other), "ids_from": None}
    source = Source(f"{request.output}/run.json", found.recipe.model_dump(mode="json") | {"classes": classes})
    changed = validated(source, requested_stages(source, request.stages))   # by name: a root names no code
    return _curated(request, changed, found.shards, tell)


def _curated(request: Request, recipe: Recipe, shards: tuple[Shard, ...], tell: Reporter) -> tuple[Result, float]:
    started = time.monotonic()
    for condition in recipe.conditions:
        tell.note(f"not checked here: {condition}")
    root = Store(absolute(request.output))
    if root.url.startswith("memory:"):
        raise InputError("--output memory://… is one process's memory, which workers do not see: give a folder or a shared store")
    plan = Plan(root, recipe, shards, "", others=named_folders(root, recipe, shards))
    plan = stored(plan)
    result = finished(plan, retry=request.choices.retry_quarantined) if plan.route else None
    if result is None:
        refuse_foreign(root)   # before a lock is written there, and before anybody is asked
        with handler_kept():
            result = (_in_this_process if request.local else _on_ray)(request, plan, tell, started)
    return result, time.monotonic() - started


def _on_ray(request: Request, plan: Plan, tell: Reporter, started: float) -> Result:
    """The run on a Ray cluster, which is joined or started for it and left as it was, by the route that its workers agree on: the
    plan's, if they can."""
    # Slow to import: a wrong recipe or input is said before.
    from pipeline.distributed import ray_executor as ray_shards
    from pipeline.stages.precision import PrecisionQuestion

    ours = ray_shards.connect(request.address, request.workers)
    stop_on_sigterm()
    try:
        with ray_shards.gpus_hidden():
            terms = ray_shards.settle(wish(plan.recipe), preferred=plan.route, note=tell.note)
            if terms.route != plan.route:
                answer = ray_shards.settled_precision(PrecisionQuestion(plan.recipe, plan.shards[:SAMPLED]), terms)
                terms, plan = replace(terms, route=answer.route), by_answer(plan, answer, tell)
            patience = ray_shards.Patience() if request.stall is None else ray_shards.Patience(stall=request.stall)
            executor = ray_shards.RayExecutor(
                request.workers, terms=terms, actors_per_gpu=request.actors_per_gpu, patience=patience)
            try:
                return _under_lock(request, plan, executor, tell, started)
            finally:
                executor.close()   # a connection that is not ours stays, and its CPUs are wanted
    finally:
        if ours:
            ray_shards.disconnect()


def _in_this_process(request: Request, plan: Plan, tell: Reporter, started: float) -> Result:
    """The run without Ray, by the route of the plan if this machine has it, else by its own."""
    from pipeline.distributed.local import LocalExecutor
    from pipeline.models import machine
    from pipeline.models.process import threads_kept
    from pipeline.models.route import RouteQuestion
    from pipeline.stages.precision import PrecisionQuestion, settled

    stop_on_sigterm()
    with threads_kept():
        try:
            if plan.route:
                machine.provides(plan.route)
        except InputError as error:
            tell.note(f"the route {plan.route} of this root is not to be had: {error}")
            plan = replace(plan, route="")
        if not plan.route:
            machine.offered_route(RouteQuestion(wish(plan.recipe)))   # an unusable GPU is an error, not a slow run
            plan = by_answer(plan, settled(PrecisionQuestion(plan.recipe, plan.shards[:SAMPLED])), tell)
        return _under_lock(request, plan, LocalExecutor(gives_up=True), tell, started)


def by_answer(plan: Plan, answer: "MeasuredRoute", tell: Reporter) -> Plan:
    """The plan by the route that was settled, with the measurements behind it."""
    for distance in answer.distances:
        tell.note(str(distance))
    return replace(plan, route=answer.route, distances=tuple(distance.record() for distance in answer.distances))


def _under_lock(request: Request, plan: Plan, executor: "Executor", tell: Reporter, started: float) -> Result:
    """What is missing of the plan, while nobody else works in its root."""
    from pipeline.report.build import write_report

    result = finished(plan, retry=request.choices.retry_quarantined)
    if result is not None:
        return result
    root = plan.root
    with held(root) as lock:
        driver = Driver(root, executor, tell, EventLog(root), lock.check)
        result = curate(plan, driver, request.choices)
        driver.events.add({"run": "finished", "seconds": time.monotonic() - started, "workers": executor.workers})
        driver.events.flush()
        write_report(result.plan)
        succeed(result, driver)
    return result


def stored(plan: Plan) -> Plan:
    """The plan by the numeric route that the root's embeddings were made by, if it means the same embeddings: so that what goes on
    elsewhere, or is only looked at, need not be computed again. Without a route where there are none."""
    from pipeline.models.route import satisfies

    try:
        before = plan.root.read_json("run.json")
        settled = before.get("settled", {}).get("ner")
        plan = replace(plan, ner=settled if isinstance(settled, bool) else None)
        route, folder = str(before["outputs"]["route"]), before["outputs"]["columns"]["clip"]
        possible = satisfies(route, wish(plan.recipe))
        found = replace(plan, route=route, distances=tuple(before.get("precision", ())))
    except (FileNotFoundError, ValueError, KeyError, TypeError, InputError):   # none there, or damaged: the run makes it anew
        return plan
    return found if possible and f"columns/clip@{found.fingerprints['clip']}" == folder else plan


def planned(request: Request, workers: int, nodes: int) -> RunEstimate:
    """What a run would need, estimated on this machine."""
    recipe = load(request.recipe, request.overrides, request.stages)
    shards = shards_of(recipe, request.inputs)
    from pipeline.queries.estimate import estimate
    from pipeline.stages.precision import PrecisionQuestion, settled  # slow to import: a wrong recipe or input is said before

    answer = settled(PrecisionQuestion(recipe, shards[:SAMPLED]))
    return estimate(Plan(Store("memory://unused"), recipe, shards, answer.route), workers, nodes, answer.distances)
