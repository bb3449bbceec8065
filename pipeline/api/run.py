"""A run from its request to its result: what `run`, `label` and `plan` do, and `shardmill.curate`.

The life of a run is `run`, from top to bottom: the root is opened, what was settled before is read, a finished run is told of and
another's folder refused, an engine starts, the root is locked and claimed, the passes do what is missing, the report is written,
and `_SUCCESS` last.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pipeline.api.engines import RAY, Execution, engine, precision_question, settled_before
from pipeline.api.signals import handler_kept
from pipeline.curation import curate
from pipeline.driver import Driver
from pipeline.errors import InputError
from pipeline.input.discovery import Shard, discover
from pipeline.input.roots import refuse_nested, refuse_overlap
from pipeline.passes.classes import refuse_what_cannot_fit
from pipeline.plan import Plan
from pipeline.recipe.anywhere import BUNDLED
from pipeline.recipe.further_stages import requested_stages
from pipeline.recipe.recipe import Recipe, load, validated
from pipeline.recipe.settled import Settled
from pipeline.recipe.yaml_source import Source
from pipeline.root.before import check_address_space, check_device, check_first, check_model, check_place
from pipeline.root.existing import open_root
from pipeline.root.lifecycle import Result, claim, finished, succeed
from pipeline.root.lock import held
from pipeline.root.log import EventLog
from pipeline.root.other_roots import as_labelled, before_label
from pipeline.root.quarantine import how_to_retry
from pipeline.store.reach import refuse_unreachable
from pipeline.store.store import Store, absolute
from pipeline.timing.progress import Reporter, phase
from schemas.answers.plans import RunEstimate
from schemas.answers.runs import RunResult

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class Request:
    """What is to be curated, as the command line has it."""

    recipe: str
    """A preset's name or a file."""
    inputs: Sequence[str] = ()
    """Folders, globs, brace patterns, URLs; none: the recipe's own."""
    overrides: Sequence[str] = ()
    """`key=value`."""
    stages: Sequence[str] = ()
    """The operator's own stages, as `package.module:Class`."""

    def resolved(self, note: Callable[[str], None] = lambda text: None) -> tuple[Recipe, tuple[Shard, ...]]:
        """The recipe with its overrides, and the input shards. `note` gets sentences on what of the inputs is left aside. Raises
        RecipeError or InputError."""
        recipe = load(self.recipe, self.overrides, self.stages)
        return recipe, shards_of(recipe, self.inputs, note)


def shards_of(recipe: Recipe, inputs: Sequence[str], note: Callable[[str], None] = lambda text: None) -> tuple[Shard, ...]:
    """The input shards: those of the command line, else the recipe's own. `bundled:sample` is the sample in the package. `note`
    gets sentences on what is left aside. Raises InputError where neither names one."""
    patterns = _patterns(recipe, inputs)
    for pattern in patterns:
        for part in pattern.split("::"):
            refuse_unreachable(part)
    return tuple(discover(patterns, note))


def _patterns(recipe: Recipe, inputs: Sequence[str]) -> list[str]:
    patterns = list(inputs) or list(recipe.inputs)
    if not patterns:
        raise InputError(f"recipe {recipe.name} names no inputs: give a folder, glob, brace pattern or URL on the command line")
    return [str(ASSETS / p.removeprefix(BUNDLED)) if p.startswith(BUNDLED) else p for p in patterns]


def run_curation(request: Request, output: str, tell: Reporter, execution: Execution = RAY) -> tuple[Result, float]:
    """Runs or continues a curation; returns its result and the seconds it took. A finished one starts no Ray."""
    with phase(tell, "inputs"):
        recipe, shards = request.resolved(tell.note)
        root = output_root(output)
        refuse_nested(root.url)
        refuse_overlap(root.url, _patterns(recipe, request.inputs), (shard.url for shard in shards))
    recipe, labelled = as_labelled(root, recipe, request.overrides)
    if labelled:
        kept_to = f"classes: those of {recipe.classes.fit_on}, by which this root was labelled"
        tell.note(f"{kept_to}; --set classes.fit_on={labelled['fit_on']} goes back")
    return run(root, Wanted(recipe, shards, labelled), tell, execution)


def label_by(
    url: str, other: str, tell: Reporter, execution: Execution = RAY, stages: Sequence[str] = ()
) -> tuple[Result, float]:
    """Runs the recipe of the root `url` again over its inputs, with the classes that the root `other` has published: same ids, same
    names, nothing fitted; later runs of the root keep to them. Raises RootError for what is no root."""
    labelled = open_root(url)
    classes = labelled.recipe.classes.model_dump(mode="json") | {"fit_on": absolute(other), "ids_from": None}
    source = Source(f"{url}/run.json", labelled.recipe.model_dump(mode="json") | {"classes": classes})
    recipe = validated(source, requested_stages(source, stages))   # by name: a root names no code
    root = output_root(url)
    return run(root, Wanted(recipe, labelled.shards, before_label(root, labelled.recipe)), tell, execution)


def output_root(url: str) -> Store:
    """Raises InputError for what workers cannot see, and for a server that is not there; RootError for what can be no folder."""
    root = Store(absolute(url))
    if root.url.startswith("memory:"):
        raise InputError("--output memory://… is one process's memory, which workers do not see: give a folder or a shared store")
    refuse_unreachable(root.url)
    check_place(root)
    return root


class Wanted(NamedTuple):
    """What a run is to make."""

    recipe: Recipe
    shards: tuple[Shard, ...]
    labelled: Mapping[str, Any] = MappingProxyType({})
    """As in `Settled`."""


def run(root: Store, wanted: Wanted, tell: Reporter, execution: Execution) -> tuple[Result, float]:
    """The life of a run, from top to bottom. Raises RootError for a root that is somebody else's or in use."""
    recipe, shards, labelled = wanted
    started = time.monotonic()
    for condition in recipe.conditions:
        tell.note(f"not checked here: {condition}")
    settled = replace(settled_before(root, recipe, shards), labelled=labelled)
    result = finished(Plan.of(root, recipe, shards, settled), retry=execution.retry_quarantined) if settled.route else None
    if result is None:
        # Before a lock is written there, and before anybody is asked.
        check_first(root, recipe, here=execution.here, local=execution.local)
        from pipeline.report.build import write_report  # slow to import: what can be wrong is said before

        with handler_kept(), engine(execution, recipe, shards, settled, tell) as (executor, settled), held(root) as lock:
            plan = Plan.of(root, recipe, shards, settled)
            driver = Driver(root, executor, tell, EventLog(root), lock.check)
            refuse_what_cannot_fit(plan, driver)   # before hours of reading
            driver.fence()
            claim(plan)
            result = curate(plan, driver, threads=execution.threads, retry_quarantined=execution.retry_quarantined)
            driver.events.add({"run": "finished", "seconds": time.monotonic() - started, "workers": executor.workers})
            driver.events.flush()
            with phase(tell, "report"):
                write_report(result.plan)
            succeed(result, driver.fence, partial(driver.must, "manifest"))
    return result, time.monotonic() - started


def answer_of(result: Result, root: str, seconds: float) -> RunResult:
    """What a run came to, as `run` and `label` tell it; `root` as it was given."""
    from pipeline.queries.nothing_kept import failed_shards, nothing_kept
    from pipeline.queries.places import former_exports
    from pipeline.queries.thin_classes import thin_classes

    plan, ledger = result.plan, result.ledger
    return RunResult(
        root=root, seconds=seconds, **ledger.as_dict(), retry=how_to_retry(len(ledger.quarantined)),
        published=f"{plan.root.url.rstrip('/')}/{plan.export}",
        former_exports=former_exports(plan), nothing_kept=nothing_kept(plan, ledger),
        warnings=tuple(filter(None, [failed_shards(plan, ledger), thin_classes(plan, ledger)])))


def planned(request: Request, workers: int, nodes: int, rows: int | None = None) -> RunEstimate:
    """What a run would need with so many actors on so many machines like this one; with `rows`, if the inputs had so many samples.
    Nothing is written."""
    notes: list[str] = []
    recipe, shards = request.resolved(notes.append)
    check_model(recipe, weights=True)
    check_device(recipe)
    check_address_space(local=True)
    # Slow to import: a wrong recipe or input is said before.
    from pipeline.queries.plans.estimate import Scale, estimate
    from pipeline.stages.precision import settled

    answer = settled(precision_question(recipe, shards))
    plan = Plan.of(Store("memory://unused"), recipe, shards, Settled(answer.route))
    return estimate(plan, Scale(workers, nodes, rows), answer.distances, notes)
