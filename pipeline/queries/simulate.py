"""Questions to a finished root that need no pixels: why has this sample this verdict, and what would other rules keep."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Run
from pipeline.errors import RecipeError, RootError
from pipeline.export.class_table import class_names, has_class_table
from pipeline.passes.verdicts.thresholds import thresholds_of
from pipeline.plan import Plan
from pipeline.queries.naming import find_samples, names_of
from pipeline.recipe.lists.pinned import pin_lists
from pipeline.recipe.recipe import Recipe, validated
from pipeline.recipe.yaml_source import Source, apply
from pipeline.root.existing import gathered, open_root, readable
from pipeline.select.explain import explain
from pipeline.select.ledger import Ledger
from pipeline.select.stored import kept_rows, require_ledger, stored_thresholds
from pipeline.select.verdicts import KEPT, Selection, simulate, verdicts
from pipeline.store.tables import read_columns
from schemas.answers.samples import Explanation, Funnel, MovedSamples, SampleLabel, Simulation

SHORT = 12
"""Values of a list that are shown."""


def changed_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The stored recipe with other rules. Raises RecipeError for an override of anything else, which needs a run."""
    source = Source("run.json", recipe.model_dump(mode="json", exclude_none=True))
    apply(source, overrides)
    pin_lists(source, new=True)
    changed = validated(source, recipe.added)
    if changed.model_copy(update={"filters": recipe.filters}) != recipe:
        raise RecipeError("simulate changes filters.… only: another setting needs other columns, so run it")
    return changed


def simulate_rules(url: str, overrides: Sequence[str]) -> Simulation:
    """Counts samples by verdict under the stored rules and under changed ones (`overrides`, as `--set` takes them), from the
    stored columns alone. Raises RecipeError for a change that needs a run, RootError before there are verdicts."""
    plan = readable(open_root(url))
    recipe = changed_recipe(plan.recipe, overrides)
    require_ledger(plan.root, plan.verdicts)
    run = gathered(plan)
    changed = replace(plan, recipe=recipe)
    if changed.run_columns != plan.run_columns and recipe.read_by_rules().get("derived"):
        raise RecipeError("a changed rule reads a column over the whole run that this root does not have: run it instead")
    changed_rules = Selection(recipe.filters, thresholds_of(recipe, run))
    stored_rules = Selection(plan.recipe.filters, stored_thresholds(plan.root, plan.verdicts))
    names = _united(plan.recipe.read_by_rules(), recipe.read_by_rules())
    total, uncompared = None, 0
    for shard_id, first in zip(run.rows.shard_ids, run.rows.offsets, strict=False):
        table, let_in = as_no_duplicates(plan.rule_columns.table([shard_id], names), changed_rules, int(first))
        counts = simulate(table, stored_rules, changed_rules, int(first))
        total, uncompared = (counts if total is None else total + counts), uncompared + let_in
    if total is None:
        raise RootError(f"{url} has no readable shard")
    moved = tuple(MovedSamples(before=before, after=after, samples=count) for (before, after), count in total.moved.items())
    return Simulation(old=_funnel(total.old), new=_funnel(total.new), moved=moved, uncompared=uncompared)


def as_no_duplicates(table: pa.Table, selection: Selection, first_row: int) -> tuple[pa.Table, int]:
    """The table with samples that semantic duplicates were not looked for among taken for none, and how many of these the selection
    keeps: stored rules rejected them before, so no class has compared them."""
    if "semantic_duplicate" not in table.column_names and "semantic_similarity" not in table.column_names:
        return table, 0
    unknown = np.zeros(table.num_rows, bool)
    for name, value in (("semantic_duplicate", False), ("semantic_similarity", -1.0)):
        if name in table.column_names:
            column = table.column(name)
            unknown |= np.asarray(column.is_null())
            filled = pc.fill_null(column, pa.scalar(value, column.type))
            table = table.set_column(table.column_names.index(name), name, filled)
    kept = pc.equal(verdicts(table, selection.rules, selection.thresholds, first_row), KEPT)
    return table, int((np.asarray(kept) & unknown).sum())


def _united(old: dict[str, tuple[str, ...]], new: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {origin: tuple(dict.fromkeys([*old.get(origin, ()), *new.get(origin, ())])) for origin in {**old, **new}}


def _funnel(verdicts: Mapping[str, int]) -> Funnel:
    ledger = Ledger(sum(verdicts.values()), verdicts)
    return Funnel(read=ledger.read, kept=ledger.kept, rejected=ledger.rejected, failed=ledger.failed)


def explain_sample(url: str, name: str) -> tuple[Explanation, ...]:
    """For each row that has this name (`naming.find_samples`): its columns, every rule's value and bound, and its verdict. Raises
    InputError for a name that no sample has, RootError before there are verdicts."""
    plan = readable(open_root(url))
    require_ledger(plan.root, plan.verdicts)
    run = gathered(plan)
    return tuple(explained(plan, run, shard_id, row) for shard_id, row in find_samples(plan, name))


def explained(plan: Plan, run: Run, shard_id: str, row: int) -> Explanation:
    """The same of one row of a plan over the readable shards, whose columns are gathered."""
    thresholds, rules = stored_thresholds(plan.root, plan.verdicts), plan.recipe.filters
    store = plan.root
    columns: dict[str, Any] = {}
    for stage, folder in plan.columns.folders.items():
        values = read_columns(store, folder, shard_id).slice(row, 1).to_pylist()[0]
        columns[stage] = {name: _as_json(value) for name, value in values.items() if name != "uid"}
    position = int(run.rows.offsets[run.rows.shard_ids.index(shard_id)]) + row
    if plan.selected != plan.verdicts and not (kept_rows(store, plan.selected, shard_id) == row).any():
        rules = plan.recipe.filters_on_columns   # the others never saw it
    table = plan.rule_columns.table([shard_id], plan.recipe.read_by_rules()).slice(row, 1)
    checks = explain(table, rules, thresholds, position)
    verdict = read_columns(store, plan.verdicts, shard_id, ["verdict"]).column("verdict")[row].as_py()
    shard = next(s for s in plan.shards if s.shard_id == shard_id)
    return Explanation(
        **names_of(plan, [(shard_id, row)])[shard_id, row], shard_id=shard_id, row=row, url=shard.url, verdict=verdict,
        rules=tuple(checks), columns=columns, **_labels(plan, shard_id, row))


def _labels(plan: Plan, shard_id: str, row: int) -> dict[str, Any]:
    """`labels` of a row; nothing where the root has none."""
    if plan.labels is None:
        return {}
    try:
        labels = read_columns(plan.root, plan.labels, shard_id).slice(row, 1).to_pylist()[0]
    except FileNotFoundError:   # not yet
        return {}
    ids, folder = labels["labels"] or [], plan.classes
    named = folder is not None and has_class_table(plan.root, folder)
    names = class_names(plan.root, folder, filters=pc.field("class_id").isin(ids)) if folder is not None and named else {}
    pairs = zip(ids, labels["label_weights"] or [], strict=True)
    return {"labels": tuple(
        SampleLabel(class_id=class_id, name=names.get(class_id), weight=float(weight)) for class_id, weight in pairs)}


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value[:SHORT].hex() + ("…" if len(value) > SHORT else "")
    return value
