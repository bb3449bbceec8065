"""Curations in this process whose errors come through, without the lock and the report of `shardmill run --local`."""

from functools import partial
from pathlib import Path

from pipeline.api.engines import wish
from pipeline.api.progress import Silent
from pipeline.api.run import shards_of
from pipeline.curation import curate
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.models.machine import local_route
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.root.lifecycle import Result, claim, finished, refuse_foreign, succeed
from pipeline.root.log import EventLog
from pipeline.root.other_roots import named_folders
from pipeline.store.store import Store


def curated(root: Path, inputs: list[Path], overrides: tuple[str, ...] = (), recipe: str = "sample") -> Result:
    """Runs a recipe over these inputs into `root`."""
    chosen = load(recipe, overrides)
    store = Store(str(root))
    shards = shards_of(chosen, [str(path) for path in inputs])
    plan = Plan.of(store, chosen, shards, Settled(local_route(wish(chosen)), others=named_folders(store, chosen, shards)))
    driver = Driver(store, LocalExecutor(), Silent(), EventLog(store))
    return finished(plan) or made(plan, driver)


def made(plan: Plan, driver: Driver) -> Result:
    """Claims a root that is nobody else's, and makes what is missing of the plan."""
    refuse_foreign(plan.root)
    claim(plan)
    result = curate(plan, driver)
    succeed(result, driver.fence, partial(driver.must, "manifest"))
    return result
