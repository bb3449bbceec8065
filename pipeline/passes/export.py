"""Kept samples to output shards, and what is published of them. What an output shard holds is in `export/`."""

from collections.abc import Sequence
from typing import Any

from pipeline.columns import Run
from pipeline.driver import Driver, cannot_be_done
from pipeline.export.plan import OutputShard, plan_export
from pipeline.export.shards import Export, ReadAgain
from pipeline.export.side_files import side_files
from pipeline.input.witnesses import witnesses
from pipeline.outputs import OUTPUTS
from pipeline.passes.balance import taken_counts
from pipeline.plan import Plan
from pipeline.root.quarantine import EXPORT, quarantine
from pipeline.select.ledger import Ledger
from pipeline.store.store import Store
from pipeline.work import Outcome

ENDS = (".tar", ".parquet", "_stats.json")
"""Of the files of an output shard."""


def export(plan: Plan, run: Run, driver: Driver, ledger: Ledger) -> bool:
    """Writes the output shards, then the side files, then points `shards` and current.json at them. False where input shards could
    not be read again: nothing is published, they are in quarantine, and the passes have to go on without them. Raises
    ShardmillError for an output shard that cannot be made though its inputs can be read, RootError when the root is another run's
    by now."""
    root, settings = plan.root, plan.recipe.export
    seed = plan.recipe.seed if settings.shuffle else None
    kept, balance = {shard_id: counts.get("kept", 0) for shard_id, counts in ledger.shards.items()}, dict[str, int]()
    if plan.balance is not None:
        kept, balance = taken_counts(plan, run)
    shards = plan_export(plan.shards, kept, size=settings.shard_size, group=settings.group, seed=seed)
    digits = max(4, len(str(settings.shard_size - 1)))
    work = Export(plan.exported, plan.export, seed, digits, plan.balance, settings.pictures, witnesses(plan.shards))
    there = written(root, plan.export)
    missing = [shard for shard in shards if shard.name not in there]
    given_up = driver.run("export", work, missing, done=len(shards) - len(missing))
    if given_up:
        quarantine_unreadable(plan, driver, work, given_up)
        return False
    side_files(root, plan.export, shards, {**export_facts(plan, ledger), **balance}, plan.exported.added_fields)
    driver.fence()
    root.link("shards", plan.export)
    published = [output.name for output in OUTPUTS if output.published and output.name in plan.folders]
    root.write_json("current.json", {name: plan.folders[name] for name in published})
    return True


def quarantine_unreadable(plan: Plan, driver: Driver, work: Export, given_up: Sequence[Outcome[OutputShard]]) -> None:
    """Reads the input shards of these output shards once more, each by itself, and gives up those that cannot be read: that they
    could be when they were annotated does not help an export. Raises ShardmillError where all of them can."""
    inputs = {shard.shard_id: shard for outcome in given_up for part in outcome.item.parts for shard in part.shards}
    blamed = driver.run("export: which inputs cannot be read", ReadAgain(work), list(inputs.values()))
    if not blamed:
        raise cannot_be_done("export", work, given_up[0])
    for outcome in blamed:
        quarantine(plan.root, outcome.item, outcome, EXPORT)


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
