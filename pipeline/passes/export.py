"""Kept samples to output shards, and what is published of them. What an output shard holds is in `export/`."""

from typing import Any

from pipeline.columns import Run
from pipeline.driver import Driver
from pipeline.export.plan import plan_export
from pipeline.export.shards import Export
from pipeline.export.side_files import side_files
from pipeline.outputs import OUTPUTS
from pipeline.passes.balance import taken_counts
from pipeline.plan import Plan
from pipeline.select.ledger import Ledger
from pipeline.store.store import Store

ENDS = (".tar", ".parquet", "_stats.json")
"""Of the files of an output shard."""


def export(plan: Plan, run: Run, driver: Driver, ledger: Ledger) -> None:
    """Writes the output shards, then the side files, then points `shards` and current.json at them. Raises ShardmillError for a
    shard that it cannot do, RootError when the root is another run's by now."""
    root, settings = plan.root, plan.recipe.export
    seed = plan.recipe.seed if settings.shuffle else None
    kept, balance = {shard_id: counts.get("kept", 0) for shard_id, counts in ledger.shards.items()}, dict[str, int]()
    if plan.balance is not None:
        kept, balance = taken_counts(plan, run)
    shards = plan_export(plan.shards, kept, size=settings.shard_size, group=settings.group, seed=seed)
    digits = max(4, len(str(settings.shard_size - 1)))
    driver.complete("export", Export(plan.exported, plan.export, seed, digits, plan.balance), shards, written(root, plan.export))
    side_files(root, plan.export, shards, {**export_facts(plan, ledger), **balance}, plan.exported.added_fields)
    driver.fence()
    root.link("shards", plan.export)
    root.write_json("current.json", {output.name: plan.folders[output.name] for output in OUTPUTS if output.published})


def written(root: Store, folder: str) -> set[str]:
    """Names of the output shards whose files are all in this folder."""
    names = root.names(folder)
    return set.intersection(*({name.removesuffix(end) for name in names if name.endswith(end)} for end in ENDS))


def export_facts(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    """For meta.json: the recipe, and what the export was made from."""
    return {
        "recipe": plan.recipe.name, "processed_count": ledger.read, "seed": plan.recipe.seed,
        "shuffle": plan.recipe.export.shuffle, "columns": dict(plan.columns.folders),
        "verdicts": plan.verdicts, "labels": plan.labels,
    }
