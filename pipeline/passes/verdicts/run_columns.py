"""The columns that need the whole run and that rules may read: which rows are duplicates, and what `recipe/derived.py` takes by
key. Workers write them, a group of shards at a time; the driver goes through the table of pairs once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Columns, Rows, Run, RunShard, bundles, shard_ids_of
from pipeline.driver import Driver
from pipeline.errors import ContractViolation
from pipeline.plan import Plan
from pipeline.recipe.derived import ByKey, Origin, derived_columns
from pipeline.shuffle.answers import DistinctOthers, Repeats, key_rows
from pipeline.shuffle.exchange import Exchange, Group, GroupWork, Scattered, groups_of, partitions_of, through
from pipeline.shuffle.keys import Keys, hash_keys, partition_of, text_keys
from pipeline.shuffle.parts import parts_file, read_part
from pipeline.store.blocks.groups import each_written
from pipeline.store.blocks.several import columns_of, write_tables
from pipeline.store.blocks.writing import Said
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import stored_shards, table_batches
from pipeline.vectors import Bools, Ints
from pipeline.work import Facts

HASHES = (("samples", "uid"), ("hashes", "sha256"))
REMOVED = pa.schema([pa.field("row", pa.int32()), pa.field("near", pa.bool_())])
"""A row of a group that a pair of duplicates removes."""


def write_run_columns(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes `<shard_id>.parquet` in `plan.run_columns`, where it is not yet."""
    groups, stored = groups_of(run.rows), stored_shards(plan.root, [plan.run_columns])
    done = {str(group) for group in groups if {shard.shard_id for shard in group.shards} <= stored}
    partial = f"{PARTIAL}/{plan.run_columns.rpartition('/')[2]}"
    removed = f"{partial}-removed-{len(groups)}"
    wanted = derived_columns(plan.recipe.read_by_rules().get("derived", ()), over_run=True)
    named = [(f.name, f.type, by_key) for derived in wanted for f, by_key in zip(derived.fields, derived.by_key, strict=True)]
    columns = tuple(KeyedColumn(name, type, by_key, Exchange(plan.root, f"{partial}-{name}", groups, partitions_of(run.rows)))
                    for name, type, by_key in named)
    if len(done) < len(groups):
        for column in columns:
            column.compute(driver, plan.columns)
        write_removed(plan, run.rows, groups, f"{removed}/pairs.arrow")
        sought = tuple(name not in plan.recipe.duplicates.not_found for name in ("exact_duplicate", "near_duplicate"))
        work = RunColumns(plan.columns, plan.run_columns, f"{removed}/pairs.arrow", sought, columns)
        driver.complete("columns over the run", work, groups, done, alone=len(groups) == 1)
    for folder in (removed, *(column.exchange.folder for column in columns)):
        plan.root.remove(folder)


@dataclass(frozen=True)
class KeyedColumn:
    """A column whose values the partitions of its keys know."""

    name: str
    type: pa.DataType
    by_key: ByKey
    exchange: Exchange

    def compute(self, driver: Driver, columns: Columns) -> None:
        """Asks the partitions of the keys."""
        rows = KeyRows(columns, self.by_key, self.exchange.partitions)
        through(driver, self.name.replace("_", " "), self.exchange, rows, DistinctOthers() if self.by_key.other else Repeats())

    def values(self, group: Group) -> pa.Array:
        """The column's values in the rows of a group."""
        counting = self.by_key.other is not None
        values, known = np.zeros(group.rows, np.int32 if counting else bool), np.full(group.rows, not counting)
        for answer in self.exchange.answers(group):
            rows = np.asarray(answer.column("row"))
            known[rows] = True
            values[rows] = np.asarray(answer.column("count")) if counting else True
        return pa.array(values, self.type, mask=~known)


@dataclass(frozen=True)
class KeyRows:
    """The rows of a group that have the key, and the other if one is counted."""

    columns: Columns
    by_key: ByKey
    partitions: int

    def __call__(self, group: Group) -> Scattered:
        key, others = self._column(group, self.by_key.key), None
        there = pc.is_valid(key)
        if self.by_key.other is not None:
            other = self._column(group, self.by_key.other)
            there = pc.and_(there, pc.is_valid(other))
            others = keys_by(self.by_key.other, other.filter(there))
        keys = keys_by(self.by_key.key, key.filter(there))
        return key_rows(np.flatnonzero(np.asarray(there)), keys, others), partition_of(keys, self.partitions)

    def _column(self, group: Group, origin: Origin) -> pa.ChunkedArray:
        stage, name = origin
        store, folder = self.columns.store, self.columns.folders[stage]
        tables = [columns_of(store, folder, shard_ids_of(shards), [name]) for shards in bundles(group.shards)]
        return pa.concat_tables(tables).column(name)


def keys_by(origin: Origin, values: pa.ChunkedArray) -> Keys:
    """The keys of values of a column: what is a hash already is not hashed again."""
    return hash_keys(values) if origin in HASHES else text_keys(values)


def write_removed(plan: Plan, rows: Rows, groups: tuple[Group, ...], path: str) -> None:
    """Writes the rows that pairs of duplicates remove, a part for each group. The table of pairs is in row-id order, so one pass
    over it is enough, and a group's pairs are held at a time."""
    if plan.root.exists(path):
        return
    with parts_file(plan.root, path, REMOVED) as add:
        written, held = 0, [REMOVED.empty_table()]
        for number, table in removed_rows(plan.root, f"{plan.duplicates}/duplicates.parquet", rows, groups):
            while written < number:
                add(pa.concat_tables(held))
                written, held = written + 1, [REMOVED.empty_table()]
            held.append(table)
        while written < len(groups):
            add(pa.concat_tables(held))
            written, held = written + 1, [REMOVED.empty_table()]


def removed_rows(store: Store, path: str, rows: Rows, groups: tuple[Group, ...]) -> Iterator[tuple[int, pa.Table]]:
    """(number of the group, REMOVED) for some rows after others, in row-id order."""
    shard_ids, offsets = pa.array(rows.shard_ids, pa.string()), rows.offsets
    starts, last = np.array([group.first_row for group in groups]), -1
    for pairs in table_batches(store, path, ["shard_id", "row", "kind", "removed"]):
        pairs = pairs.filter(pairs.column("removed"))
        shard = np.asarray(pc.index_in(pairs.column("shard_id"), value_set=shard_ids).fill_null(-1), np.int64)
        numbers = offsets[shard] + np.asarray(pairs.column("row"), np.int64)
        if (shard < 0).any() or (np.diff(numbers, prepend=last) < 0).any():
            raise ContractViolation(f"{store.url}/{path}: its rows are not those of the run, in their order")
        near = np.asarray(pc.equal(pairs.column("kind"), "near"))
        of_group: Ints = np.searchsorted(starts, numbers, side="right") - 1
        for number in np.unique(of_group).tolist():
            part = of_group == number
            local = numbers[part] - starts[number]
            yield number, pa.table([pa.array(local, pa.int32()), pa.array(near[part])], schema=REMOVED)
        last = int(numbers[-1]) if len(numbers) else last


@dataclass(frozen=True)
class RunColumns(GroupWork):
    """Writes the columns of the shards of one group."""

    columns: Columns
    folder: str
    removed: str
    sought: tuple[bool, ...]
    """Whether exact, and whether near duplicates were looked for: where not, nobody knows."""
    keyed: tuple[KeyedColumn, ...]

    def run(self, item: Group) -> Facts:
        removed, store = read_part(self.columns.store, self.removed, item.number), self.columns.store
        values: dict[str, Any] = {
            name: pa.array(_mask(removed, near, item.rows)) if sought else pa.nulls(item.rows, pa.bool_())
            for near, (name, sought) in enumerate(zip(("exact_duplicate", "near_duplicate"), self.sought, strict=True))}
        table = pa.table({**values, **{column.name: column.values(item) for column in self.keyed}})

        def write(shards: Sequence[RunShard]) -> list[None]:
            uid = columns_of(store, self.columns.folders["samples"], shard_ids_of(shards), ["uid"]).column("uid")
            part = table.slice(shards[0].first_row - item.first_row, len(uid)).add_column(0, "uid", uid)
            write_tables(store, self.folder, [Said(shard.shard_id, shard.rows, {"rows": shard.rows}) for shard in shards], part)
            return []

        each_written(item.shards, lambda shard: shard.share, write)
        return {"rows": item.rows}


def _mask(removed: pa.Table, near: int, rows: int) -> Bools:
    mask = np.zeros(rows, bool)
    mask[np.asarray(removed.column("row"))[np.asarray(removed.column("near")) == bool(near)]] = True
    return mask
