"""What became of the rows of a group of shards, as columns of each shard and as pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Rows, RunShard
from pipeline.errors import ConservationError
from pipeline.plan import Plan
from pipeline.shuffle.exchange import Exchange, Group, GroupWork
from pipeline.store.blocks.groups import each_written
from pipeline.store.tables import read_columns, stored_shards, write_shard_table, write_table
from pipeline.work import Facts
from schemas.tables import SEMANTIC_DUPLICATES


def written(plan: Plan, groups: Sequence[Group]) -> set[str]:
    """The groups of which all that is written is there, by name."""
    assert plan.semantic_columns is not None
    assert plan.semantic_pairs is not None
    stored, pairs = stored_shards(plan.root, [plan.semantic_columns]), set(plan.root.names(plan.semantic_pairs))
    return {str(group) for group in groups
            if f"{group}.parquet" in pairs and all(shard.shard_id in stored for shard in group.shards)}


@dataclass(frozen=True)
class Write(GroupWork):
    """Writes the columns of the shards of a group, then their pairs."""

    plan: Plan
    rows: Rows
    found: Exchange

    def run(self, item: Group) -> Facts:
        found = pa.concat_tables(self.found.answers(item)).sort_by("row")
        pairs = pa.concat_tables(each_written(
            item.shards, lambda shard: shard.share, lambda shards: [self._written(shard, found) for shard in shards]))
        facts = {"rows": found.num_rows, "removed": pairs.num_rows, "chained": pc.sum(found.column("chained")).as_py() or 0}
        write_table(self.plan.root, f"{self.plan.semantic_pairs}/{item}.parquet", pairs, facts)
        return {"rows": item.rows}

    def _written(self, shard: RunShard, found: pa.Table) -> pa.Table:
        """Writes the columns of a shard, and returns its pairs."""
        store, plan = self.plan.root, self.plan
        labels = read_columns(store, plan.fitted.labels, shard.shard_id, ["uid", "labels"])
        labelled = np.flatnonzero(np.asarray(labels.column("labels").is_valid()))
        row = np.asarray(found.column("row"), np.int64)
        first, last = np.searchsorted(row, [shard.first_row, shard.first_row + labels.num_rows])
        local, mine = row[first:last] - shard.first_row, found.slice(first, last - first)
        if not np.array_equal(local, labelled):
            raise ConservationError(f"shard {shard}: {len(labelled)} samples have a class, {len(local)} were compared within one")
        uid, goes = labels.column("uid").combine_chunks(), pc.greater_equal(mine.column("of"), 0)
        at = np.full(len(uid), -1)
        at[local] = np.arange(len(local))
        places = pa.array(at, mask=at < 0)   # of each row of the shard among those compared
        similarity = mine.column("similarity").take(places)
        columns = {"uid": uid, "semantic_duplicate": goes.take(places), "semantic_similarity": similarity}
        write_shard_table(store, f"{plan.semantic_columns}/{shard}.parquet", pa.table(columns), {"rows": len(uid)})
        return self._pairs(shard, uid, mine.filter(goes))

    def _pairs(self, shard: RunShard, uid: pa.Array, gone: pa.Table) -> pa.Table:
        local, nothing = np.asarray(gone.column("row"), np.int64) - shard.first_row, pa.nulls(gone.num_rows)
        of_shards, of_local = self.rows.ids(np.asarray(gone.column("of"), np.int64))
        return pa.Table.from_arrays([
            pa.array([shard.shard_id] * len(local), pa.string()), pa.array(local.astype(np.int32)), uid.take(pa.array(local)),
            pa.array(of_shards, pa.string()), pa.array(of_local), pa.array(["semantic"] * len(local), pa.string()),
            nothing.cast(pa.int32()), nothing.cast(pa.float32()), gone.column("similarity").combine_chunks(),
            pa.array([True] * len(local), pa.bool_()),
        ], schema=SEMANTIC_DUPLICATES)
