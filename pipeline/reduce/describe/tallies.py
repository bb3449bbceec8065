"""What the kept samples of a shard say of each class, stored per shard and added up over the run (`tallies@<fp>/`).

One table of five kinds of rows. Only classes that occur have rows, so a shard's file is small however many classes there are.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.reduce.describe.members import Members, Ranked, extreme_members
from pipeline.reduce.describe.presence import CELLS, Counts, merged_cells
from pipeline.reduce.describe.quality import BINS, Counting, Tally
from pipeline.store.store import Store
from pipeline.store.tables import read_with_facts, write_shard_table
from schemas.columns import field

TALLY = pa.schema([
    field("kind", pa.string(), "class, pair, near, far or cell"),
    field("id", pa.int64(), "position of the class; of a pair: lower class * k + higher class"),
    field("n", pa.int64(), "class: samples; pair: samples between; near, far: row of the run; cell: samples that have the entity"),
    field("similarity", pa.int64(), "class: sum of the cosines, fixed point"),
    field("sampled", pa.int64(), "class: samples that pairs are counted on; cell: 1 where somebody has the entity as a hypernym"),
    field("cosine", pa.float32(), "near, far: to the centroid"),
    field("entity", pa.string(), "cell: its id"),
])
TOGETHER = 64
"""Shards whose files are read at a time."""


def write_tally(store: Store, path: str, tally: Tally, counts: Counts) -> None:
    """Writes one shard's file."""
    present, cells = np.flatnonzero(tally.sizes), counts.cells
    near, far = tally.members.nearest, tally.members.farthest
    parts = [
        _rows("class", present, tally.sizes[present], similarity=tally.similarity[present], sampled=tally.sampled[present]),
        _rows("pair", tally.pairs, tally.between),
        _rows("near", near.classes, near.rows, cosine=near.similarity),
        _rows("far", far.classes, far.rows, cosine=far.similarity),
        _rows("cell", cells.column("class"), cells.column("both"), sampled=cells.column("above").cast(pa.int64()),
              entity=cells.column("entity")),
    ]
    used = np.flatnonzero(tally.histogram)
    facts = {"bins": used.tolist(), "counts": tally.histogram[used].tolist()}
    write_shard_table(store, path, pa.concat_tables(parts), facts)


def _rows(kind: str, id: Any, n: Any, **others: Any) -> pa.Table:
    values = {"kind": [kind] * len(id), "id": id, "n": n, **others}
    nothing = pa.nulls(len(id))
    return pa.table({name: values.get(name, nothing) for name in TALLY.names}).cast(TALLY)


def merged_tallies(store: Store, paths: Sequence[str], counting: Counting) -> tuple[Tally, Counts]:
    """The tally and the counts of all these files together; the same for any order of them, and for files that were merged before.

    Sums of as many files are added to each other, so that what many files have said is not sorted again for each further one."""
    nothing = _tally(TALLY.empty_table(), counting, np.zeros(BINS, np.int64))
    sums = [(0, nothing, CELLS.empty_table())]
    for start in range(0, len(paths), TOGETHER):
        sums.append((1, *_read_together(store, paths[start : start + TOGETHER], counting)))
        while len(sums) > 1 and sums[-1][0] >= sums[-2][0]:
            sums.append(_added(sums.pop(), sums.pop()))
    while len(sums) > 1:
        sums.append(_added(sums.pop(), sums.pop()))
    _, total, cells = sums[0]
    return total, Counts(total.sizes, cells)


def _read_together(store: Store, paths: Sequence[str], counting: Counting) -> tuple[Tally, pa.Table]:
    parts, histogram = list[pa.Table](), np.zeros(BINS, np.int64)
    for part, facts in (read_with_facts(store, path) for path in paths):
        parts.append(part)
        histogram[facts["bins"]] += np.array(facts["counts"], np.int64)
    table = pa.concat_tables(parts)
    return _tally(table, counting, histogram), merged_cells(_cells(table))


def _added(last: tuple[int, Tally, pa.Table], before: tuple[int, Tally, pa.Table]) -> tuple[int, Tally, pa.Table]:
    cells = merged_cells(pa.concat_tables([before[2], last[2]]))
    return max(last[0], before[0]) + 1, before[1] + last[1], cells


def _tally(table: pa.Table, counting: Counting, histogram: NDArray[np.int64]) -> Tally:
    classes, pairs = _of(table, "class"), _of(table, "pair")
    id, between = _numbers(pairs, "id"), _numbers(pairs, "n")
    distinct, place = np.unique(id, return_inverse=True)
    return Tally(
        counting, _summed(classes, "n", counting.k), _summed(classes, "similarity", counting.k), histogram,
        _summed(classes, "sampled", counting.k), distinct, np.bincount(place, between, len(distinct)).astype(np.int64),
        Members(_ranked(table, "near").nearest, _ranked(table, "far").farthest),
    )


def _of(table: pa.Table, kind: str) -> pa.Table:
    return table.filter(pc.field("kind") == kind)


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    return np.asarray(table.column(name), np.int64)


def _summed(table: pa.Table, name: str, k: int) -> NDArray[np.int64]:
    total = np.zeros(k, np.int64)
    np.add.at(total, _numbers(table, "id"), _numbers(table, name))
    return total


def _ranked(table: pa.Table, kind: str) -> Members:
    rows = _of(table, kind)
    cosines = np.asarray(rows.column("cosine"), np.float32)
    return extreme_members(_numbers(rows, "n"), _numbers(rows, "id").astype(np.int32), cosines)


def _cells(table: pa.Table) -> pa.Table:
    rows = _of(table, "cell")
    return pa.table([rows.column("id"), rows.column("entity"), rows.column("n"), pc.equal(rows.column("sampled"), 1)],
                    names=CELLS.names).cast(CELLS)


def member_slices(members: Ranked, k: int) -> list[slice]:
    """For each of k classes, where its members are in the arrays of `members`."""
    bounds = np.searchsorted(members.classes, np.arange(k + 1))
    return [slice(int(start), int(end)) for start, end in pairwise(bounds)]
