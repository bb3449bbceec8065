"""The rules that read what is known after the clustering: they judge what the others keep, before the export."""

import pyarrow as pa

from pipeline.columns import Run, RunShard
from pipeline.driver import Driver
from pipeline.passes.verdicts.select import Select, settled
from pipeline.plan import Plan
from pipeline.recipe.rules import columns_read
from pipeline.select.ledger import Ledger
from pipeline.select.stored import THRESHOLDS
from pipeline.store.tables import stored_shards


def select_on_classes(plan: Plan, run: Run, driver: Driver, ledger: Ledger) -> Ledger:
    """Writes in `plan.verdicts` what `select` wrote in `plan.selected`, with these rules too, and returns the new account. Where
    the recipe has no such rule, that of `select` (`ledger`) stands."""
    folder = plan.verdicts
    if not plan.recipe.filters_on_classes:
        return ledger
    if not plan.root.exists(f"{folder}/{THRESHOLDS}"):
        plan.root.write(f"{folder}/{THRESHOLDS}", plan.root.read(f"{plan.selected}/{THRESHOLDS}"))
    driver.complete("select on classes", on_classes(plan), run.rows.shards, stored_shards(plan.root, [folder]))
    return settled(plan, run, driver, ledger.quarantined, folder)


def on_classes(plan: Plan) -> Select:
    """The work on these rules. None of them is relative to the run."""
    rules = plan.recipe.filters_on_classes
    return Select(plan.rule_columns, rules, columns_read(rules, plan.recipe.columns), {}, plan.verdicts, plan.selected)


def judged_on_classes(plan: Plan, shard_id: str) -> pa.Array:
    """string [n]: the verdicts of a shard that these rules make of the stored ones of the others."""
    work = on_classes(plan)
    return work.judged([RunShard(shard_id, 0)], work.source.table([shard_id], work.reads))
