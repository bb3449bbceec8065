"""From stored columns to verdicts: the numbers behind relative rules, a verdict for every sample, and the account of the run.
What is computed is in `select/`; a file's existence means done.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Run, RunShard, ShardWork
from pipeline.driver import Driver
from pipeline.errors import ConservationError
from pipeline.passes.verdicts.subset import write_subset
from pipeline.passes.verdicts.thresholds import resolve_thresholds
from pipeline.plan import Plan
from pipeline.recipe.rules import Rules, Threshold, columns_read
from pipeline.select.columns import RuleColumns
from pipeline.select.ledger import Ledger, balanced, ignored_of
from pipeline.select.stored import LEDGER
from pipeline.select.verdicts import KEPT, verdicts
from pipeline.store.tables import read_columns, read_many_facts, stored_shards, write_shard_table
from pipeline.work import Facts, PlainWork


def select(plan: Plan, run: Run, driver: Driver, quarantined: Sequence[str]) -> Ledger:
    """Writes a verdict for every sample by the rules on columns, the account of the run and DataComp's subset file in
    `plan.selected`, and returns the account. `quarantined`: ids of the shards that could not be read. Raises ConservationError
    where the account does not add up."""
    rules, folder = plan.recipe.filters_on_columns, plan.selected
    thresholds = resolve_thresholds(plan, run, driver)
    work = Select(plan.rule_columns, rules, columns_read(rules, plan.recipe.columns), thresholds, folder)
    driver.complete("select", work, run.rows.shards, stored_shards(plan.root, [folder]))
    return settled(plan, run, driver, quarantined, folder)


def settled(plan: Plan, run: Run, driver: Driver, quarantined: Sequence[str], folder: str) -> Ledger:
    """Writes what goes with the verdicts in a folder once all are there: the account, which it returns, and the subset files."""
    ledger = account(plan, run, quarantined, folder)
    plan.root.write_json(f"{folder}/{LEDGER}", ledger.stored())
    write_subset(plan, run, driver, folder)
    return ledger


@dataclass(frozen=True)
class Select(PlainWork[RunShard], ShardWork):
    """Writes the verdicts of one shard."""

    source: RuleColumns
    rules: Rules
    reads: Mapping[str, tuple[str, ...]]
    """The rules' columns, by who writes them."""
    thresholds: Mapping[str, Threshold]
    folder: str
    before: str | None = None
    """Folder of verdicts that stand where they are not `kept`."""

    def run(self, item: RunShard) -> Facts:
        shard_id = item.shard_id
        table = self.source.table(shard_id, self.reads)
        verdict = self.judged(item, table)
        counts = {c["values"]: c["counts"] for c in verdict.value_counts().to_pylist()}
        if None in counts or sum(counts.values()) != table.num_rows:
            raise ConservationError(f"shard {shard_id}: {table.num_rows} samples, verdicts {counts}")
        facts = {"shard_id": shard_id, "rows": table.num_rows, "verdicts": dict(sorted(counts.items()))}
        written = pa.table({"uid": table.column("uid"), "verdict": verdict})
        write_shard_table(self.source.columns.store, f"{self.folder}/{shard_id}.parquet", written, facts)
        return facts

    def judged(self, shard: RunShard, table: pa.Table) -> pa.Array:
        """string [n]: the verdicts of the rows of a shard, given the columns that the rules read."""
        verdict = verdicts(table, self.rules, self.thresholds, shard.first_row)
        if self.before is None:
            return verdict
        stored = read_columns(self.source.columns.store, self.before, shard.shard_id, ["verdict"])
        earlier = stored.column("verdict").combine_chunks()
        return pc.if_else(pc.equal(earlier, KEPT), verdict, earlier)


def account(plan: Plan, run: Run, quarantined: Sequence[str], folder: str) -> Ledger:
    """The ledger of a run, from the footers of the verdicts in a folder and of its `samples`. Raises ConservationError where these
    differ."""
    samples = plan.columns.folders["samples"]
    shard_ids, gaps, ignored, ignored_in = run.rows.shard_ids, [], Counter[str](), list[dict[str, Any]]()
    judged = read_many_facts(plan.root, [f"{folder}/{shard_id}.parquet" for shard_id in shard_ids])
    counts = {shard_id: facts["verdicts"] for shard_id, facts in zip(shard_ids, judged, strict=True)}
    read = read_many_facts(plan.root, [f"{samples}/{shard_id}.parquet" for shard_id in shard_ids])
    for shard_id, facts in zip(shard_ids, read, strict=True):
        gaps += [{"shard_id": shard_id, **gap} for gap in facts["gaps"]]
        ignored.update(facts["ignored"])
        ignored_in += ignored_of(facts)
    return balanced(dict(zip(shard_ids, run.rows.counts, strict=True)), counts, (gaps, ignored), quarantined, ignored_in)
