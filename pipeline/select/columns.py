"""Gathers from stored columns what the rules read, shard by shard or over the whole run. The rules themselves are `verdicts.py`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Columns, Run
from pipeline.draws import sampled
from pipeline.recipe.derived import derived_columns
from pipeline.recipe.recipe import Recipe
from pipeline.select.thresholds import relative
from pipeline.store.tables import read_columns

NULL_PAIRS = 100_000
"""Shuffled pairs are drawn from at most so many rows: the error of a quantile is then below 0.2 % of the ranks."""


@dataclass(frozen=True)
class RuleColumns:
    """Where the columns that rules read are: the stages' folders, and the folder of the columns over the whole run."""

    columns: Columns
    run_folder: str

    def table(self, shard_id: str, names: Mapping[str, tuple[str, ...]]) -> pa.Table:
        """A table of the n rows of a shard: uid, every stage's error in the order of the stages, and the named columns (by
        origin, as `rules.columns_read` gives them)."""
        store, folders = self.columns.store, self.columns.folders
        columns: dict[str, Any] = {}
        for stage in folders:
            stage_names = list(dict.fromkeys(["uid", *names.get(stage, ()), f"{stage}_error"]))
            table = read_columns(store, folders[stage], shard_id, stage_names)
            columns.update({name: table.column(name) for name in stage_names})
        wanted = names.get("derived", ())
        for derived in derived_columns(wanted, over_run=False):
            arguments = (read_columns(store, folders[stage], shard_id, [name]).column(name) for stage, name in derived.reads)
            columns.update(zip(derived.names, derived.values(*arguments), strict=True))
        of_run = {name for derived in derived_columns(wanted, over_run=True) for name in derived.names}
        over_run = [*names.get("duplicates", ()), *(name for name in wanted if name in of_run)]
        if over_run:
            table = read_columns(store, self.run_folder, shard_id, over_run)
            columns.update({name: table.column(name) for name in over_run})
        return pa.table(columns)


def run_columns(
    run: Run, exact: NDArray[np.bool_] | None, near: NDArray[np.bool_] | None, derived: Collection[str]
) -> pa.Table:
    """The columns that need the whole run, one row per row of the run: `exact` and `near` duplicates (bool [n]; None: not looked
    for, so null), and those of `recipe/derived.py` that `derived` names."""
    uid = run.table("samples", ["uid"]).column("uid")
    columns: dict[str, Any] = {"uid": uid, "exact_duplicate": _truths(exact, run), "near_duplicate": _truths(near, run)}
    for group in derived_columns(derived, over_run=True):
        arguments = (run.column(stage, name) for stage, name in group.reads)
        columns.update(zip(group.names, group.values(*arguments), strict=True))
    return pa.table(columns)


def _truths(mask: NDArray[np.bool_] | None, run: Run) -> pa.Array:
    return pa.nulls(run.rows.total, pa.bool_()) if mask is None else pa.array(mask)


def threshold_columns(run: Run, recipe: Recipe) -> pa.Table:
    """The columns that `thresholds.resolve` reads, over the whole run in row-id order: those of rules that keep a share, and every
    stage's error; none where no rule does."""
    columns: dict[str, Any] = {}
    names = {rule.column for rule in relative(recipe.filters).values() if rule.fraction is not None}
    if not names:
        return pa.table(columns)
    for stage in run.columns.folders:
        stage_names = {name for name in names if recipe.columns[name].origin == stage}
        table = run.table(stage, [*sorted(stage_names), f"{stage}_error"])
        columns.update({name: table.column(name) for name in table.column_names})
    return pa.table(columns)


def shuffled_similarities(run: Run, seed: int) -> NDArray[np.float32]:
    """float32 [pairs]: cosines of the run's own pairs after their captions changed places (a seeded cyclic shift of a shuffle,
    so that no caption stays), the null distribution of clip_similarity. At most NULL_PAIRS; empty with fewer than two
    embedded samples."""
    valid = np.asarray(run.table("clip", ["image_embedding_valid"]).column("image_embedding_valid"))
    rows = np.flatnonzero(valid)
    rng = np.random.default_rng([seed, 2])
    rows = sampled(rows, NULL_PAIRS, rng)
    if len(rows) < 2:
        return np.zeros(0, np.float32)
    order = rng.permutation(len(rows))
    images = run.vectors("image_embedding", rows).astype(np.float32)[order]
    texts = run.vectors("text_embedding", rows).astype(np.float32)[np.roll(order, 1)]
    return np.asarray(np.einsum("ij,ij->i", images, texts), np.float32)
