"""From stored columns to verdicts: the numbers behind relative rules, a verdict for every sample, and the account of the run.
What is computed is in `select/`; a file's existence means done.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Run, RunShard, ShardWork, consecutive, shard_ids_of
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
from pipeline.store.blocks.several import columns_of, write_tables
from pipeline.store.blocks.writing import Said
from pipeline.store.tables import read_many_facts, stored_shards
from pipeline.work import Facts, WorkTogether


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
class Select(WorkTogether[RunShard], ShardWork):
    """Writes the verdicts of a shard, or of several small ones at once."""

    source: RuleColumns
    rules: Rules
    reads: Mapping[str, tuple[str, ...]]
    """The rules' columns, by who writes them."""
    thresholds: Mapping[str, Threshold]
    folder: str
    before: str | None = None
    """Folder of verdicts that stand where they are not `kept`."""

    @contextmanager
    def open_together(self) -> Iterator[Callable[[Sequence[RunShard]], list[Facts]]]:
        yield lambda items: [facts for shards in consecutive(items) for facts in self._run(shards)]

    def _run(self, shards: Sequence[RunShard]) -> list[Facts]:
        table = self.source.table(shard_ids_of(shards), self.reads)
        verdict = self.judged(shards, table)
        words, ends = verdict.dictionary_encode(), np.cumsum([shard.rows for shard in shards])
        if {table.num_rows, len(verdict) - verdict.null_count} != {ends[-1]}:
            named = " to ".join(dict.fromkeys([str(shards[0]), str(shards[-1])]))
            raise ConservationError(
                f"shard {named}: {ends[-1]} samples, columns of {table.num_rows}, verdicts {verdict.value_counts().to_pylist()}")
        names, said = words.dictionary.to_pylist(), list[Said]()
        for (shard_id, _, rows), own in zip(shards, np.split(np.asarray(words.indices), ends[:-1]), strict=True):
            counts = Counter(names[word] for word in own.tolist())
            said.append(Said(shard_id, rows, {"shard_id": shard_id, "rows": rows, "verdicts": dict(sorted(counts.items()))}))
        written = pa.table({"uid": table.column("uid"), "verdict": verdict})
        write_tables(self.source.columns.store, self.folder, said, written)
        return [dict(shard.facts) for shard in said]

    def judged(self, shards: Sequence[RunShard], table: pa.Table) -> pa.Array:
        """string [n]: the verdicts of the rows of shards that follow each other in the run, given what the rules read."""
        verdict = verdicts(table, self.rules, self.thresholds, shards[0].first_row)
        if self.before is None:
            return verdict
        stored = columns_of(self.source.columns.store, self.before, shard_ids_of(shards), ["verdict"])
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
