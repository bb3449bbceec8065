"""Columns of a whole run as arrays, in row-id order: what the reductions read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import ConservationError
from pipeline.store.blocks.groups import divided
from pipeline.store.blocks.several import columns_of, stored_matrix
from pipeline.store.store import Store
from pipeline.store.tables import read_vector_rows, read_vectors
from pipeline.work import Work


def row_name(shard_id: str, row: int) -> str:
    """A row id in one word, as every command takes it for a sample."""
    return f"{shard_id}:{row}"


@dataclass(frozen=True)
class Columns:
    """Where each stage's columns of a run are: `folders` in stage order, e.g. {"image": "columns/image@3f9a1c04be72"}."""

    store: Store
    folders: Mapping[str, str]


TOGETHER = 4096
"""Rows of small shards that travel together."""


class RunShard(NamedTuple):
    """One shard of a run, as an item of work."""

    shard_id: str
    first_row: int
    """Global row number of its first row."""
    rows: int = TOGETHER

    @property
    def share(self) -> float:
        """Of a group of small shards."""
        return min(1.0, self.rows / TOGETHER)

    def __str__(self) -> str:
        return self.shard_id


def bundles(shards: Sequence[RunShard]) -> list[tuple[RunShard, ...]]:
    """Small neighbours together, up to TOGETHER rows: what is read at once."""
    return divided(shards, lambda shard: shard.share, most=len(shards))


def consecutive(shards: Sequence[RunShard]) -> Iterator[Sequence[RunShard]]:
    """Neighbours together whose rows follow each other in the run: of a stopped run only some may be left to do."""
    cuts = [at for at in range(1, len(shards)) if shards[at].first_row != shards[at - 1].first_row + shards[at - 1].rows]
    return (shards[start:end] for start, end in pairwise([0, *cuts, len(shards)]))


def shard_ids_of(shards: Iterable[RunShard]) -> list[str]:
    """Their names."""
    return [shard.shard_id for shard in shards]


@dataclass(frozen=True)
class ShardWork(Work[RunShard]):
    """A work on one shard of a run after another."""

    def share(self, item: RunShard) -> float:
        return item.share


@dataclass(frozen=True)
class Rows:
    """Which shards, and how many rows each has; a global row number counts through them in this order."""

    shard_ids: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many rows the run has."""
        return sum(self.counts)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [shards + 1]: the global number of the first row of each shard, and at the end the total."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)]).astype(np.int64)

    @cached_property
    def shards(self) -> tuple[RunShard, ...]:
        """In row-id order."""
        return tuple(map(RunShard, self.shard_ids, self.offsets[:-1].tolist(), self.counts))

    def ids(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int32]]:
        """The shard_id [n] and the row in its shard, int32 [n], of global row numbers, int64 [n]."""
        shard = np.searchsorted(self.offsets, rows, side="right") - 1
        return [self.shard_ids[i] for i in shard], (rows - self.offsets[shard]).astype(np.int32)

    def numbers(self, shard_ids: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The global row numbers, int64 [n], of row ids: shard_ids [n] and the rows in their shards, [n]. Raises KeyError for a
        shard that is not among these."""
        position = {shard_id: i for i, shard_id in enumerate(self.shard_ids)}
        shard = np.array([position[shard_id] for shard_id in shard_ids], np.int64)
        return self.offsets[shard] + rows


@dataclass(frozen=True)
class Run:
    """The columns of all shards of a run that can be read."""

    columns: Columns
    rows: Rows

    def table(self, stage: str, names: Sequence[str]) -> pa.Table:
        """The named columns of one stage over all shards, in row-id order."""
        store, folder = self.columns.store, self.columns.folders[stage]
        return columns_of(store, folder, self.rows.shard_ids, names)

    def column(self, stage: str, name: str) -> pa.Array:
        """One column of one stage over all shards, in row-id order, as one array. Text has offsets of 64 bits: of uids or hashes,
        a few ten million rows are more than 32 can count."""
        column = self.table(stage, [name]).column(name)
        if pa.types.is_string(column.type):
            column = column.cast(pa.large_string())
        return column.combine_chunks()

    def vectors(self, name: str, rows: NDArray[np.int64] | None = None, stage: str = "clip") -> NDArray[np.float16]:
        """float16 [rows, d]: a stored matrix over all rows of the run, or over the given global rows (int64, ascending)."""
        store, folder = self.columns.store, self.columns.folders[stage]
        parts = []
        for shard_id, local in self._by_shard(rows):
            if local is None:
                parts.append(np.array(read_vectors(store, folder, shard_id, name)))   # a copy: no shard's file stays mapped
            else:
                parts.append(read_vector_rows(store, folder, shard_id, name, local))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float16)

    def _by_shard(self, rows: NDArray[np.int64] | None) -> Iterator[tuple[str, NDArray[np.int64] | None]]:
        offsets = self.rows.offsets
        for i, shard_id in enumerate(self.rows.shard_ids):
            if rows is None:
                yield shard_id, None
                continue
            first, last = np.searchsorted(rows, [offsets[i], offsets[i + 1]])
            if last > first:
                yield shard_id, rows[first:last] - offsets[i]


def stored_batch(columns: Columns, shard_ids: Sequence[str], reads: Mapping[str, tuple[str, ...]]) -> pa.RecordBatch:
    """uid and the named columns of some shards as one batch; vectors come back as lists (null where there is none)."""
    arrays: dict[str, pa.Array] = {}
    for stage, names in reads.items():
        folder = columns.folders[stage]
        table = columns_of(columns.store, folder, shard_ids)
        if "uid" in arrays and not table.column("uid").combine_chunks().equals(arrays["uid"]):
            named = " to ".join(dict.fromkeys([shard_ids[0], shard_ids[-1]]))
            raise ConservationError(f"shard {named}: the rows of {folder} are not those of the other stages")
        arrays.setdefault("uid", table.column("uid").combine_chunks())
        for name in names:
            if f"{name}_valid" in table.column_names:
                arrays[name] = vector_array(
                    stored_matrix(columns.store, folder, shard_ids, name), table.column(f"{name}_valid").combine_chunks()
                )
            else:
                arrays[name] = table.column(name).combine_chunks()
    return pa.RecordBatch.from_pydict(arrays)


def vector_array(matrix: Any, valid: pa.Array) -> pa.Array:
    """float16 lists of d values, one for each row of `matrix` (float16 [rows, d]); null where `valid` (bool) is false."""
    flat = pa.array(matrix.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1], mask=pc.invert(valid))


def matrix_of(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """float16 [rows, d] of vectors of which none is null."""
    flat = [np.asarray(chunk.flatten(), np.float16) for chunk in column.chunks]
    return np.concatenate(flat).reshape(-1, column.type.list_size)
