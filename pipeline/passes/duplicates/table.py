"""The pairs of the rows of one group of shards, as the table of duplicates has them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.columns import Run
from pipeline.passes.duplicates.decided import NEAR
from pipeline.passes.duplicates.equal import KINDS
from pipeline.passes.duplicates.files import Cut
from pipeline.shuffle.exchange import Group
from pipeline.shuffle.parts import Parts, parts_file, read_part
from pipeline.store.tables import read_columns
from pipeline.vectors import Ints, unit
from pipeline.work import Facts, PlainWork, Units, beat
from schemas.tables import DUPLICATES

COSINES = 16384   # pairs measured at a time


@dataclass(frozen=True)
class PairsOfGroup(PlainWork[Group]):
    """Writes `table` (DUPLICATES, one part) of a group, by row."""

    cut: Cut
    run_columns: Run

    @property
    def units(self) -> Units:
        return Units("group", "sample")

    def run(self, item: Group) -> Facts:
        cut = self.cut
        pairs = pa.concat_tables([self._equal(item), *([self._near(item)] if cut.near else [])])
        pairs = pairs.sort_by([("row", "ascending"), ("of", "ascending")]).combine_chunks()
        row, of = np.asarray(pairs.column("row")), np.asarray(pairs.column("of"))
        (shard_ids, local), (of_shard_ids, of_local) = self.run_columns.rows.ids(row), self.run_columns.rows.ids(of)
        table = pa.Table.from_arrays([
            pa.array(shard_ids, pa.string()), pa.array(local), self._uids(item, row),
            pa.array(of_shard_ids, pa.string()), pa.array(of_local),
            pa.array(KINDS).take(pairs.column("kind").combine_chunks()),
            *(pairs.column(name) for name in ("hamming", "correlation")), self._cosines(row, of), pairs.column("removed"),
        ], schema=DUPLICATES)
        with parts_file(cut.store, cut.path("table", item.number), DUPLICATES) as add:
            add(table)
        return {"rows": table.num_rows}

    def _near(self, item: Group) -> pa.Table:
        near = read_part(self.cut.store, self.cut.path("near", 0), item.number)
        return near.append_column("kind", pa.array(np.full(near.num_rows, 2, np.int8)))

    def _equal(self, item: Group) -> pa.Table:
        """The rows that are equal to a preferred one. What looks exactly like one that went is paired with what made that one go,
        at the same distance."""
        cut = self.cut
        paths = [cut.path("equal", partition) for partition in range(cut.exchange.partitions)]
        equal = pa.concat_tables(list(Parts(cut.store, paths, item.number)))
        row, of, kind = (np.asarray(equal.column(name)) for name in ("row", "of", "kind"))
        of, removed = of.copy(), np.ones(len(row), bool)
        hamming, correlation = np.zeros(len(row), np.int32), np.ones(len(row), np.float32)
        if cut.near:
            causes = read_part(cut.store, cut.path("causes", 0), 0)
            went = np.asarray(causes.column("row"))
            place = np.searchsorted(went, of)
            moved = np.flatnonzero(kind == 2)
            moved = moved[np.isin(of[moved], went)]
            place = place[moved]
            of[moved] = np.asarray(causes.column("of"))[place]
            hamming[moved] = np.asarray(causes.column("hamming"))[place]
            correlation[moved] = np.asarray(causes.column("correlation"))[place]
        return pa.table([row, of, hamming, correlation, removed, kind], schema=NEAR.append(pa.field("kind", pa.int8())))

    def _uids(self, item: Group, row: Ints) -> pa.Array:
        columns = self.run_columns.columns
        parts = [pa.chunked_array([], pa.string())]
        for shard, local in item.located(row):
            uid = read_columns(columns.store, columns.folders["samples"], shard.shard_id, ["uid"]).column("uid")
            parts.append(uid.take(pa.array(local)))
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.string()).combine_chunks()

    def _cosines(self, row: Ints, of: Ints) -> pa.Array:
        """float32[pairs]: the cosine of the two embeddings; null where either row has none."""
        values, absent = np.empty(len(row), np.float32), np.empty(len(row), bool)
        for at in range(0, len(row), COSINES):
            part = slice(at, at + COSINES)
            rows, place = np.unique(np.concatenate([row[part], of[part]]), return_inverse=True)
            first, second = np.split(unit(self.run_columns.vectors("image_embedding", rows))[place], 2)
            values[part] = (first.astype(np.float64) * second).sum(axis=1)
            absent[part] = ~(first.any(axis=1) & second.any(axis=1))
            beat()
        return pa.array(values, mask=absent)

