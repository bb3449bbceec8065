"""Curations in this process whose errors come through, without the lock and the report of `shardmill run --local`."""

from pathlib import Path

from pipeline.api.progress import Silent
from pipeline.api.run import shards_of, wish
from pipeline.curation import Result, curate, succeed
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.models.machine import local_route
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.root.log import EventLog
from pipeline.root.other_roots import named_folders
from pipeline.store.store import Store


def curated(root: Path, inputs: list[Path], overrides: tuple[str, ...] = (), recipe: str = "sample") -> Result:
    """Runs a recipe over these inputs into `root`."""
    chosen = load(recipe, overrides)
    store = Store(str(root))
    shards = shards_of(chosen, [str(path) for path in inputs])
    plan = Plan(store, chosen, shards, local_route(wish(chosen)), others=named_folders(store, chosen, shards))
    driver = Driver(store, LocalExecutor(), Silent(), EventLog(store))
    result = curate(plan, driver)
    if not result.finished_before:
        succeed(result, driver)
    return result
