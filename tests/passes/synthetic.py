"""Columns of a run that no stage has made: as the stages would have written them, of any values, without pixels."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.api.engines import wish
from pipeline.columns import Rows, Run
from pipeline.input.discovery import Shard
from pipeline.models.machine import local_route
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.store.store import Store
from pipeline.store.tables import write_table


def planned(root: Store, counts: Sequence[int], overrides: Sequence[str] = ()) -> tuple[Plan, Run]:
    """A plan of the sample recipe over shards with so many rows, and its run."""
    recipe = load("sample", overrides)
    shards = tuple(Shard(f"shard{i}", f"file:///none/{i:05d}.tar", f"{i:05d}.tar", 1, "1", "tar") for i in range(len(counts)))
    plan = Plan.of(root, recipe, shards, Settled(local_route(wish(recipe))))
    return plan, Run(plan.columns, Rows(tuple(shard.shard_id for shard in shards), tuple(counts)))


def write_stage(run: Run, stage: str, columns: Mapping[str, pa.Array]) -> None:
    """Writes columns [rows of the run] of one stage, shard by shard."""
    table = pa.table(dict(columns))
    for shard, count in zip(run.rows.shards, run.rows.counts, strict=True):
        path = f"{run.columns.folders[stage]}/{shard.shard_id}.parquet"
        write_table(run.columns.store, path, table.slice(shard.first_row, count), {"rows": count})
