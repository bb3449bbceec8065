"""The passes of a synthetic run by the product's own code: `curation.curate` as it is, with a watch around every pass that it
calls."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

from pipeline import curation
from pipeline.api.engines import Execution, engine, wish
from pipeline.api.progress import Silent
from pipeline.audit.verify import verify
from pipeline.driver import Driver
from pipeline.input.discovery import Shard
from pipeline.models.machine import local_route
from pipeline.plan import Plan
from pipeline.queries.status import status
from pipeline.recipe.recipe import Recipe, load
from pipeline.recipe.settled import Settled
from pipeline.report.build import write_report
from pipeline.root.lifecycle import claim, succeed
from pipeline.root.log import EventLog
from pipeline.store.store import Store
from tests.scale.sizes import CLASSES, WORKERS, Size
from tests.scale.watch import Watch

ROOM = "pipeline.passes."
RECIPE = """
name: scale
model: {{name: "local-dir:{model}", compile: false}}
filters:
  tiny: {{column: longest_side, above: 210}}
  extreme_aspect: {{column: aspect_ratio, max: 1.9}}
  largest: {{column: pixels, fraction: 0.95}}
  exact_duplicate: {{equals: false}}
  near_duplicate: {{equals: false}}
  pair_duplicate: {{equals: false}}
  image_captions: {{max: 1000}}
  caption_images: {{max: 100000}}
  caption_too_short: {{column: caption_characters, min: 3}}
  language: {{any_of: [en], unless: {{known_words: {{min: 0.5}}}}}}
  clip_similarity: {{null_quantile: 0.55}}
classes: {{k: {k}, levels: [8]}}
export: {{balance: {exported}, shard_size: 10000}}
"""
"""Every kind of pass, every kind of count over the run."""


class Enough(Exception):
    """The pass that was asked for is over."""


def recipe_of(size: Size, folder: Path) -> Recipe:
    """The recipe of a size; `folder` holds its model."""
    path = folder / f"{size.name}.yaml"
    path.write_text(RECIPE.format(model=folder / "model", k=CLASSES, exported=size.exported))
    return load(str(path), [])


def plan_of(root: Path, recipe: Recipe, shards: list[Shard]) -> Plan:
    """The plan of the whole run."""
    return Plan.of(Store(str(root)), recipe, shards, Settled(local_route(wish(recipe))))


def names() -> list[str]:
    """The passes of `curation`, by the names of their functions, and what comes behind them."""
    found = [name for name, value in vars(curation).items() if is_pass(value)]
    return [*found, "report", "manifest", "verify", "status"]


def is_pass(value: object) -> bool:
    """Whether it is a function that `curation` calls for a pass."""
    return inspect.isfunction(value) and (value.__module__.startswith(ROOM) or value.__name__ == "gathered")


@contextmanager
def observed(watch: Watch, only: str | None) -> Iterator[None]:
    """Every pass that `curation` calls is watched; with `only` the passes whose name has this word, and behind the last of them
    nothing more is done."""
    chosen = [name for name in names() if wanted(name, only)]
    before = {name: value for name, value in vars(curation).items() if is_pass(value)}
    for name, value in before.items():
        setattr(curation, name, around(value, watch, name in chosen, only is not None and name == chosen[-1]))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(curation, name, value)


def wanted(name: str, only: str | None) -> bool:
    """Whether a pass is one that was asked for."""
    return only is None or only in name


def around(value: Callable[..., Any], watch: Watch, is_watched: bool, is_last: bool) -> Callable[..., Any]:
    """The function with a watch around it."""
    @wraps(value)
    def passed(*arguments: Any, **named: Any) -> Any:
        if not is_watched:
            return value(*arguments, **named)
        with watch.passing(value.__name__):
            result = value(*arguments, **named)
        if is_last:
            raise Enough
        return result

    return passed


def run(size: Size, plan: Plan, watch: Watch, only: str | None, workers: int = WORKERS) -> None:
    """All passes, or those that were asked for and what has to be there before them."""
    execution = Execution(local=True) if size.local else Execution(workers=workers)
    settled = plan.settled
    with ExitStack() as stack:
        executor, settled = stack.enter_context(engine(execution, plan.recipe, plan.shards, settled, Silent()))
        if settled.route != plan.route:
            raise SystemExit(f"the workers' route {settled.route} is not the driver's {plan.route}")
        driver = Driver(plan.root, executor, Silent(), EventLog(plan.root))
        claim(plan)
        watch.before(local=size.local)
        try:
            with observed(watch, only):
                result = curation.curate(plan, driver)
        except Enough:
            return
        driver.events.flush()
        finish = partial(succeed, result, driver.fence, partial(driver.must, "manifest"))
        after: list[tuple[str, Callable[[], Any]]] = [
            ("report", lambda: write_report(result.plan)), ("manifest", finish),
            ("verify", lambda: refuse_faults(plan)), ("status", lambda: status(plan.root.url)),
        ]
        for name, action in after:
            if wanted(name, only):
                with watch.passing(name):
                    action()


def refuse_faults(plan: Plan) -> None:
    """Raises where `verify` finds a fault."""
    found = verify(plan.root.url)
    if found.faults:
        raise SystemExit(f"verify: {found.faults[:3]}")
