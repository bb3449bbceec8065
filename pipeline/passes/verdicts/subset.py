"""DataComp's subset files of the kept samples: workers put the uids in order, a range of them at a time, and the driver appends one
range to another."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.columns import Columns, Run, bundles, shard_ids_of
from pipeline.driver import Driver
from pipeline.plan import Plan
from pipeline.select.stored import kept_rows
from pipeline.select.subset import SUBSET, UIDS, brought, file_names, halves
from pipeline.shuffle.answers import KEY, Ordered
from pipeline.shuffle.exchange import Exchange, Group, Scattered, groups_of, partitions_of, through
from pipeline.shuffle.keys import hex_keys, keys_of, partition_of, table_of
from pipeline.store.blocks.several import columns_of
from pipeline.store.tables import npy_file


def write_subset(plan: Plan, run: Run, driver: Driver, verdicts: str) -> None:
    """Writes DataComp's subset files of the kept samples in the folder of their verdicts; which there are,
    `select.subset.file_names` says."""
    partitions = partitions_of(run.rows)
    exchange = Exchange(plan.root, f"{verdicts}-subset", groups_of(run.rows), 2 * partitions)
    if not plan.root.exists(f"{verdicts}/{SUBSET}"):
        through(driver, "subset", exchange, KeptUids(plan.columns, verdicts, partitions), Ordered())
        ours, theirs = range(partitions), range(partitions, 2 * partitions)
        counts = [sum(table.num_rows for table in exchange.results(kind)) for kind in (ours, theirs)]
        for name, are_theirs in file_names(*counts):
            with npy_file(plan.root, f"{verdicts}/{name}", UIDS, counts[are_theirs]) as add:
                for keys in _keys(exchange, theirs if are_theirs else ours):
                    add(halves(keys))
    exchange.remove()


def _keys(exchange: Exchange, partitions: range) -> Iterator[np.ndarray]:
    return (keys_of(table, KEY) for table in exchange.results(partitions))


@dataclass(frozen=True)
class KeptUids:
    """The uids of a group's kept samples, and after those partitions the uids that they brought."""

    columns: Columns
    verdicts: str
    partitions: int

    def __call__(self, group: Group) -> Scattered:
        store, folder = self.columns.store, self.columns.folders["samples"]
        kept = []
        for shard_ids in map(shard_ids_of, bundles(group.shards)):
            rows = pa.array(kept_rows(store, self.verdicts, *shard_ids))
            kept.append(columns_of(store, folder, shard_ids, ["uid", "source_uid"]).take(rows))
        table = pa.concat_tables(kept)
        ours, theirs = hex_keys(table.column("uid")), hex_keys(brought(table.column("source_uid")))
        partition = np.concatenate([partition_of(ours, self.partitions), self.partitions + partition_of(theirs, self.partitions)])
        return pa.table(table_of(np.concatenate([ours, theirs]), KEY)), partition
