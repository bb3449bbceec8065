"""Curations in this process, by the same code as `shardmill run` but for Ray."""

from pathlib import Path

from pipeline.command import shards_of, wish
from pipeline.curation import Result, curate, succeed
from pipeline.distributed.local import LocalExecutor
from pipeline.io.store import Store
from pipeline.models.route import local_route
from pipeline.others import named_folders
from pipeline.passes import Driver, EventLog
from pipeline.plan import Plan
from pipeline.progress import Silent
from pipeline.recipe import load


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
