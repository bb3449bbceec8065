"""The samples of a root, or some of them, as Arrow. Nothing is read before it is asked for, and then shard by shard."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from os import PathLike
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.rows.where import chosen
from pipeline.recipe.rules import Bound
from pipeline.vectors import Halves


@dataclass(frozen=True)
class Samples:
    """Columns of samples, in the order of the input (shards by name, then rows). Making one reads nothing.

    Loops over it, and `to_batches`, hold one shard at a time, so they fit a run of any size; `to_table` and `embeddings` hold
    what they return. `where` needs the columns that it names of every shard, and of the others those of shards with a match.
    """

    _columns: RootColumns
    _names: tuple[str, ...]
    _where: Mapping[str, Bound]

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        schema = self._columns.schema
        return pa.schema([schema.field(name) for name in self._names])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.to_batches()

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """One record batch in `schema` per shard, as they are read; none for shards without a matching sample. Raises RootError
        where the run is not as far as a column that was asked for."""
        schema = self.schema
        for shard_id, places in self._matches():
            columns = self._columns.read(shard_id, self._names)
            batch = pa.RecordBatch.from_arrays([columns[name] for name in self._names], schema=schema)
            if places is not None:
                batch = batch.take(pa.array(places))
            if batch.num_rows:
                yield batch

    def to_reader(self) -> pa.RecordBatchReader:
        """The same as an Arrow stream, which DuckDB, Polars and `pyarrow.dataset.write_dataset` read as it comes."""
        return pa.RecordBatchReader.from_batches(self.schema, self.to_batches())

    def to_table(self) -> pa.Table:
        """All of it in memory: for what fits there. At a billion samples, name few columns, say which samples, or loop."""
        return pa.Table.from_batches(list(self.to_batches()), schema=self.schema)

    def head(self, count: int = 10) -> pa.Table:
        """The first `count` samples; reads no more shards than that takes."""
        batches, remaining = [], count
        for batch in self.to_batches() if count > 0 else ():
            batches.append(batch.slice(0, remaining))
            remaining -= batches[-1].num_rows
            if not remaining:
                break
        return pa.Table.from_batches(batches, schema=self.schema)

    def count_rows(self) -> int:
        """How many samples; reads footers, or the columns of `where`."""
        return sum(self._sizes)

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(self._columns.count(shard_id) if places is None else len(places) for shard_id, places in self._matches())

    def embeddings(self, of: Literal["image", "text"] = "image", *, out: str | PathLike[str] | None = None) -> Halves:
        """float16 [n, d]: row i belongs to row i of the table. Unit vectors; zeros where the sample has none
        (`image_embedding_valid` and `text_embedding_valid` say which).

        Mapped, not read, where all samples of a single shard of a local root are asked for. Else it is put together in memory; with
        `out`, the path of a new .npy file, it is put together there, one shard in memory at a time, and comes back mapped for
        reading. (For loops, the columns `image_embedding` and `text_embedding` hold the same, shard by shard.) Raises InputError
        for another `of`, and where the root has none; FileExistsError where `out` is there.
        """
        name = f"{of}_embedding"
        if of not in ("image", "text"):
            raise InputError(f"embeddings: of={of!r} is not there: choose image or text")
        self._columns.check([name])
        parts = self._vectors(name)
        if out is not None:
            return self._written(parts, name, out)
        first = list(islice(parts, 1))
        others = list(parts)
        if len(first) == 1 and not others:
            return first[0]
        empty = np.zeros((0, self._columns.schema.field(name).type.list_size), np.float16)
        return np.concatenate([empty, *first, *others])

    def _written(self, parts: Iterator[Halves], name: str, out: str | PathLike[str]) -> Halves:
        shape = self.count_rows(), self._columns.schema.field(name).type.list_size
        with open(out, "xb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
        matrix: Halves = np.load(out, mmap_mode="r", allow_pickle=False)
        return matrix

    def _vectors(self, name: str) -> Iterator[Halves]:
        """The matrix of each shard with a match."""
        for shard_id, places in self._matches():
            matrix = self._columns.vectors(shard_id, name)
            yield matrix if places is None else np.asarray(matrix[places])

    def _matches(self) -> Iterator[tuple[str, NDArray[np.int64] | None]]:
        """The shards, each with the rows that match: None for all of them, and no shard without any."""
        for shard in self._columns.plan.shards:
            if not self._where:
                yield shard.shard_id, None
                continue
            places = chosen(self._columns.read(shard.shard_id, list(self._where)), self._where)
            if len(places):
                yield shard.shard_id, places
