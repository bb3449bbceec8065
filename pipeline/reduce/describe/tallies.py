"""What the kept samples of a shard say of each class, stored per shard and added up over the run (`tallies@<fp>/`).

One table of five kinds of rows. Only classes that occur have rows, so a shard's file is small however many classes there are.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.reduce.describe.members import Members, Ranked, extreme_members
from pipeline.reduce.describe.presence import CELLS, Counts, merged_cells
from pipeline.reduce.describe.quality import BINS, Counting, Tally
from pipeline.store.blocks.several import columns_with_facts, write_tables
from pipeline.store.blocks.writing import Said
from pipeline.store.store import Store
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
KINDS = ("class", "pair", "near", "far", "cell")
TOGETHER = 64
"""Shards whose files are read at a time."""


def write_tallies(store: Store, folder: str, parts: Mapping[str, tuple[Tally, Counts]]) -> None:
    """Writes the files of some shards, by their ids."""
    rows = [_rows(tally, counts) for tally, counts in parts.values()]
    said = []
    for shard_id, (tally, _), table in zip(parts, parts.values(), rows, strict=True):
        used = np.flatnonzero(tally.histogram)
        said.append(Said(shard_id, len(table.kind), {"bins": used.tolist(), "counts": tally.histogram[used].tolist()}))
    write_tables(store, folder, said, _table(rows))


class _Rows(NamedTuple):
    """The rows of one shard, column by column; zero where the kind of a row has no such number."""

    kind: NDArray[np.int64]
    id: NDArray[np.int64]
    n: NDArray[np.int64]
    similarity: NDArray[np.int64]
    sampled: NDArray[np.int64]
    cosine: NDArray[np.float32]
    entity: list[str | None]


def _rows(tally: Tally, counts: Counts) -> _Rows:
    present, cells = np.flatnonzero(tally.sizes), counts.cells
    near, far = tally.members.nearest, tally.members.farthest
    classes, above = np.asarray(cells.column("class"), np.int64), np.asarray(cells.column("above"), np.int64)
    sizes = [len(present), len(tally.pairs), len(near.classes), len(far.classes), len(classes)]
    ranked, others = np.concatenate([near.similarity, far.similarity]), np.zeros(sum(sizes[1:4]), np.int64)
    return _Rows(
        np.repeat(np.arange(len(KINDS)), sizes),
        np.concatenate([present, tally.pairs, near.classes, far.classes, classes]).astype(np.int64),
        np.concatenate([tally.sizes[present], tally.between, near.rows, far.rows, np.asarray(cells.column("both"), np.int64)]),
        np.concatenate([tally.similarity[present], others, np.zeros(sizes[4], np.int64)]),
        np.concatenate([tally.sampled[present], others, above]),
        np.concatenate([np.zeros(sum(sizes[:2]), np.float32), ranked, np.zeros(sizes[4], np.float32)]),
        [*[None] * sum(sizes[:4]), *cells.column("entity").to_pylist()])


def _table(rows: Sequence[_Rows]) -> pa.Table:
    """TALLY of the rows of some shards, one after another."""
    kind, id, n, similarity, sampled, cosine = (np.concatenate(list(parts)) for parts in list(zip(*rows, strict=True))[:-1])
    entity = list(chain(*(part.entity for part in rows)))
    classes, near, far, cells = (kind == KINDS.index(name) for name in ("class", "near", "far", "cell"))
    return pa.table([
        pa.DictionaryArray.from_arrays(kind, KINDS).dictionary_decode(), id, n,
        pa.array(similarity, mask=~classes), pa.array(sampled, mask=~(classes | cells)), pa.array(cosine, mask=~(near | far)),
        pa.array(entity, pa.string()),
    ], schema=TALLY)


def merged_tallies(store: Store, folder: str, ids: Sequence[str], counting: Counting) -> tuple[Tally, Counts]:
    """The tally and the counts of the files of all these shards together; the same for any order of them, and for files that were
    merged before.

    Sums of as many files are added to each other, so that what many files have said is not sorted again for each further one."""
    nothing = _tally(TALLY.empty_table(), counting, np.zeros(BINS, np.int64))
    sums = [(0, nothing, CELLS.empty_table())]
    for start in range(0, len(ids), TOGETHER):
        sums.append((1, *_read_together(store, folder, ids[start : start + TOGETHER], counting)))
        while len(sums) > 1 and sums[-1][0] >= sums[-2][0]:
            sums.append(_added(sums.pop(), sums.pop()))
    while len(sums) > 1:
        sums.append(_added(sums.pop(), sums.pop()))
    _, total, cells = sums[0]
    return total, Counts(total.sizes, cells)


def _read_together(store: Store, folder: str, ids: Sequence[str], counting: Counting) -> tuple[Tally, pa.Table]:
    table, said = columns_with_facts(store, folder, ids)
    histogram = np.zeros(BINS, np.int64)
    for facts in said:
        histogram[facts["bins"]] += np.array(facts["counts"], np.int64)
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
