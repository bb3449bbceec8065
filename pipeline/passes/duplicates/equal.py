"""Rows of a partition that are equal to a preferred one, in bytes or in looks; and the looks that are left, sent to the bands."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.passes.duplicates.files import Cut, sliced
from pipeline.passes.duplicates.pictures import LOOK, SHA, UID
from pipeline.reduce.duplicates.groups import Copies, copies
from pipeline.search.bands import Band
from pipeline.shuffle.exchange import Partition
from pipeline.shuffle.keys import keys_of
from pipeline.shuffle.parts import Parts, parts_file
from pipeline.vectors import Ints
from pipeline.work import Facts, PlainWork, Units

KINDS = ("uid", "sha256", "near")
"""Of pairs, by their number in files."""


@dataclass(frozen=True)
class Equal(PlainWork[Partition]):
    """Writes what one partition comes to: `equal` (row, of, kind) by group of the row, and the looks by each band."""

    cut: Cut

    @property
    def units(self) -> Units:
        return Units("partition")

    def run(self, item: Partition) -> Facts:
        cut = self.cut
        parts = Parts(cut.store, [cut.exchange.scattered(group) for group in cut.groups], item.number)
        table = pa.concat_tables(list(parts)).combine_chunks()
        rows, pixels = np.asarray(table.column("row")), np.asarray(table.column("pixels"))
        sha, uid = keys_of(table, SHA), keys_of(table, UID)
        exact = copies([sha[:, 1], sha[:, 0]], pixels, rows)
        kinds = np.where((uid[exact.place] == uid[exact.of]).all(axis=1), 0, 1)
        pairs = [_pairs(rows, exact, kinds)]
        if cut.near:
            left = np.asarray(table.column("varied")).copy()
            left[exact.place] = False
            looks = np.flatnonzero(left)
            pairs.append(self._equal_looks(table, looks, rows, pixels, left))
            self._send(table.select(["phash", "row", "sketch"]).take(pa.array(np.flatnonzero(left))), item.number)
        found = pa.concat_tables(pairs).sort_by("row")
        with parts_file(cut.store, cut.path("equal", item.number), found.schema) as add:
            for part in sliced(found, cut.group_of(np.asarray(found.column("row"))), len(cut.groups)):
                add(part)
        return {"rows": len(rows)}

    @staticmethod
    def _equal_looks(table: pa.Table, looks: Ints, rows: Ints, pixels: Ints, left: np.ndarray) -> pa.Table:
        """The looks that are equal to a preferred one, which are no longer `left`."""
        keys = [*keys_of(table, LOOK)[looks].T, np.asarray(table.column("phash"))[looks]]
        equal = copies(keys, pixels[looks], rows[looks])
        left[looks[equal.place]] = False
        return _pairs(rows[looks], equal, np.full(len(equal.place), 2))

    def _send(self, table: pa.Table, partition: int) -> None:
        cut = self.cut
        for number, band in enumerate(cut.bands or (Band(0, 0, 0),)):
            values = band.values(np.asarray(table.column("phash")))
            order = np.argsort(values, kind="stable")
            ordered = table.take(pa.array(order))
            with parts_file(cut.store, cut.path("band", number, partition), table.schema) as add:
                for part in sliced(ordered, values[order] >> (band.width - cut.fixed if cut.bands else 0), 1 << cut.fixed):
                    add(part)


def _pairs(rows: Ints, equal: Copies, kinds: Ints) -> pa.Table:
    return pa.table({"row": rows[equal.place], "of": rows[equal.of], "kind": kinds.astype(np.int8)})
