"""From what the samples say of the classes to the table of classes and what is known of their quality."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns import Run, shard_ids_of
from pipeline.driver import Driver
from pipeline.export.class_table import QUALITY, class_table_path, has_class_table, stored_class_table
from pipeline.passes.embeddings import fitted_blocks, sampled_embeddings
from pipeline.passes.entities import vocabulary
from pipeline.passes.labels import SEARCH, counting, first_labels, search_of
from pipeline.passes.reference_values import reference_values
from pipeline.plan import Plan
from pipeline.reduce import RowIds
from pipeline.reduce.classes import taxonomy
from pipeline.reduce.describe import quality, tallies
from pipeline.reduce.describe.agreement import MAX_ROWS, Agreement, Stability, agreement, reseeded
from pipeline.reduce.describe.lift import NamingRule
from pipeline.reduce.describe.members import Ranked
from pipeline.reduce.describe.names import Level, MemberColumns, Names, class_table, named, positions
from pipeline.reduce.describe.presence import Counts
from pipeline.root.other_roots import place
from pipeline.select.stored import stored_ledger
from pipeline.shuffle.exchange import Group, GroupWork, groups_of
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import stored_shards, write_table
from pipeline.work import Facts


def name_classes(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes `quality.json`, then `classes.parquet`; nothing when the recipe asks for no classes."""
    folder = plan.classes
    if folder is None or plan.tallies is None:
        return
    groups, scratch = groups_of(run.rows), f"{PARTIAL}/{folder.rpartition('/')[2]}-tallies"
    if has_class_table(plan.root, folder):
        plan.root.remove(scratch)
        return
    levels = taxonomy.read_levels(plan.root, plan.fitted.centroids)
    merge = MergeTallies(plan.root, plan.tallies, counting(plan), scratch)
    driver.complete("tallies", merge, groups, stored_shards(plan.root, [scratch]), alone=len(groups) == 1)
    tally, counts = tallies.merged_tallies(plan.root, scratch, list(map(str, groups)), merge.counting)
    plan.root.write_json(f"{folder}/{QUALITY}", measured_quality(plan, run, tally, levels[0]))
    classes = pa.concat_tables(_tables(plan, levels, counts, members(tally, run.rows)))
    write_table(plan.root, class_table_path(folder), classes, {"k": len(levels[0].ids), "levels": len(levels)})
    plan.root.remove(scratch)


@dataclass(frozen=True)
class MergeTallies(GroupWork):
    """Adds up the tallies of a group of shards, and writes the sum."""

    store: Store
    tallies: str
    counting: quality.Counting
    folder: str

    def run(self, item: Group) -> Facts:
        merged = tallies.merged_tallies(self.store, self.tallies, shard_ids_of(item.shards), self.counting)
        tallies.write_tallies(self.store, self.folder, {str(item): merged})
        return {"rows": item.rows}


def members(tally: quality.Tally, ids: RowIds) -> MemberColumns:
    """Mean cosine (float32 [k]) and the nearest and farthest samples of each class, as rows of their shards."""
    means, k = np.nan_to_num(quality.class_means(tally)).astype(np.float32), tally.counting.k
    return MemberColumns(means, _rows(tally.members.nearest, k, ids), _rows(tally.members.farthest, k, ids))


def _rows(ranked: Ranked, k: int, ids: RowIds) -> list[list[dict[str, Any]]]:
    shard_ids, local = ids.ids(ranked.rows)
    rows = [
        {"shard_id": shard_id, "row": row, "similarity": similarity}
        for shard_id, row, similarity in zip(shard_ids, local.tolist(), ranked.similarity.tolist(), strict=True)
    ]
    return [rows[part] for part in tallies.member_slices(ranked, k)]


def _tables(plan: Plan, levels: Sequence[Level], counts: Counts, lowest: MemberColumns) -> list[pa.Table]:
    """The classes of every level. Names come from the run's own entities, or with the classes from another root."""
    borrowed = _borrowed_names(plan)
    rule = replace(NamingRule(), text_weight=plan.recipe.classes.text_weight)
    words = None if borrowed else vocabulary(plan)
    tables = []
    for level, above in zip(levels, [*levels[1:], None], strict=True):
        names = _same_names(level, borrowed) if words is None else named(counts, level, words, rule)
        tables.append(class_table(level, names, counts.sizes, lowest if level.number == 0 else None))
        if above is not None and level.parents is not None:
            counts = counts.grouped(positions(level.parents, above.ids), len(above.ids))
    return tables


def _borrowed_names(plan: Plan) -> dict[tuple[int, int], dict[str, Any]]:
    """By (level, class id) the classes of the root whose classes these are; empty where they are this run's own."""
    if "fit_on" not in plan.others:
        return {}
    other = place(plan.root, plan.recipe, "fit_on")
    columns = ["class_id", "level", "name", "named", "confidence", "entities"]
    rows = stored_class_table(other, plan.others["names"], columns).to_pylist()
    return {(row["level"], row["class_id"]): row for row in rows}


def _same_names(level: Level, borrowed: dict[tuple[int, int], dict[str, Any]]) -> Names:
    rows = [borrowed[level.number, id] for id in level.ids.tolist()]
    return Names(*([row[key] for row in rows] for key in ("name", "named", "confidence", "entities")))


def measured_quality(plan: Plan, run: Run, tally: quality.Tally, level: Level) -> dict[str, Any]:
    """What `quality.json` holds: what the tallies say, agreement with the reference column, stability, recall; by class ids."""
    if not len(level.ids):
        return {"rows": 0, "classes": 0}
    search = search_of(plan)
    facts = quality.Measured(_agreement(plan, run), _stability(plan, run, len(level.ids)), search.recall)
    record = quality.record(tally, level.centroids, facts)
    for pair in record["confusable"]["pairs"]:
        pair["classes"] = [int(level.ids[position]) for position in pair["classes"]]
    weights = plan.root.read_json(f"{plan.labels}/{SEARCH}")["weights"]
    return {**record, "search": search.record(), "weights": weights, "reference_column": plan.recipe.classes.reference_column}


def _stability(plan: Plan, run: Run, k: int) -> Stability:
    return reseeded(sampled_embeddings(fitted_blocks(plan, run), MAX_ROWS, plan.recipe.seed), k, plan.recipe.seed)


def _agreement(plan: Plan, run: Run) -> Agreement | None:
    """Of the first labels of a sample of the kept rows with the reference column."""
    column = plan.recipe.classes.reference_column
    if column is None:
        return None
    share = min(1.0, MAX_ROWS / max(1, stored_ledger(plan.root, plan.selected).kept))
    assignment: list[int] = []
    values: list[str | None] = []
    for shard in plan.shards:
        labels = first_labels(plan, shard.shard_id, share)
        assignment += labels.column("label").to_pylist()
        values += reference_values(plan, column, shard, labels.column("row").to_pylist())
    return agreement(np.array(assignment, np.int32), values, plan.recipe.seed)
