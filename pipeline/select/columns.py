"""Gathers from stored columns what the rules read. The rules themselves are `verdicts.py`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Columns, matrix_of
from pipeline.recipe.derived import derived_columns
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rule_columns import COLUMNS, SEMANTIC
from pipeline.store.blocks.several import columns_of


@dataclass(frozen=True)
class RuleColumns:
    """Where the columns that rules read are: the stages' folders, the folder of the columns over the whole run, and that of those
    which are known after the clustering, None where there are none."""

    columns: Columns
    run_folder: str
    semantic_folder: str | None = None

    def table(self, shard_ids: Sequence[str], names: Mapping[str, tuple[str, ...]]) -> pa.Table:
        """A table of the n rows of some shards, one after another: uid, every stage's error in the order of the stages, and the
        named columns (by origin, as `rules.columns_read` gives them)."""
        store, folders = self.columns.store, self.columns.folders
        columns: dict[str, Any] = {}
        for stage in folders:
            stage_names = list(dict.fromkeys(["uid", *names.get(stage, ()), f"{stage}_error"]))
            table = columns_of(store, folders[stage], shard_ids, stage_names)
            columns.update({name: table.column(name) for name in stage_names})
        wanted = names.get("derived", ())
        for derived in derived_columns(wanted, over_run=False):
            arguments = (columns_of(store, folders[stage], shard_ids, [name]).column(name) for stage, name in derived.reads)
            columns.update(zip(derived.names, derived.values(*arguments), strict=True))
        of_run = {name for derived in derived_columns(wanted, over_run=True) for name in derived.names}
        over_run = [*names.get("duplicates", ()), *(name for name in wanted if name in of_run)]
        if over_run:
            table = columns_of(store, self.run_folder, shard_ids, over_run)
            columns.update({name: table.column(name) for name in over_run})
        after = names.get(SEMANTIC, ())
        if after and self.semantic_folder is not None:
            table = columns_of(store, self.semantic_folder, shard_ids, after)
            columns.update({name: table.column(name) for name in after})
        elif after:
            columns.update({name: pa.nulls(len(columns["uid"]), COLUMNS[name].type) for name in after})
        return pa.table(columns)


def threshold_table(columns: Columns, recipe: Recipe, names: Collection[str], shard_ids: Sequence[str]) -> pa.Table:
    """What `thresholds.readable_values` reads of some shards: these columns, and every stage's error."""
    parts: dict[str, Any] = {}
    for stage, folder in columns.folders.items():
        stage_names = sorted(name for name in names if recipe.columns[name].origin == stage)
        table = columns_of(columns.store, folder, shard_ids, [*stage_names, f"{stage}_error"])
        parts.update({name: table.column(name) for name in table.column_names})
    return pa.table(parts)


def shuffled_similarities(pairs: pa.Table | None, rng: np.random.Generator) -> NDArray[np.float32]:
    """float32 [pairs]: cosines of pairs (`image_embedding`, `text_embedding`) after their captions changed places (a seeded cyclic
    shift of a shuffle, so that no caption stays), the null distribution of clip_similarity; empty with fewer than two."""
    if pairs is None or pairs.num_rows < 2:
        return np.zeros(0, np.float32)
    images, texts = (matrix_of(pairs.column(name)).astype(np.float32) for name in ("image_embedding", "text_embedding"))
    order = rng.permutation(len(images))
    return np.asarray(np.einsum("ij,ij->i", images[order], texts[np.roll(order, 1)]), np.float32)
