"""A table of a root as DuckDB reads it: it asks for columns and for the rows that meet a condition, and gets them part by part.

DuckDB takes any pyarrow Dataset, calls its `scanner` with the columns and the filter that a query leaves it (projection and filter
pushdown; https://duckdb.org/docs/stable/guides/python/sql_on_arrow), and reads the stream. So a view costs nothing before a query
wants some of it, and then the columns that it names, of the parts that can have its rows.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray
from pyarrow.fs import LocalFileSystem

from pipeline.process.ahead import threads

ROWS = 1 << 14
"""Rows that DuckDB gets at once, so that vectors become numbers of 32 bits for few samples at a time."""

Part = Callable[[Sequence[str]], pa.Table]
"""Some rows of a table, e.g. those of a shard: gives these columns of them."""


class Filter:
    """What a query leaves to the table: an Arrow expression over its columns, or nothing (None)."""

    def __init__(self, schema: pa.Schema, expression: Any) -> None:
        self.expression, self._schema = expression, schema
        self.columns = () if expression is None else _columns_of(schema, expression)

    def possible(self, name: str, values: Sequence[str]) -> Sequence[str]:
        """Those of some distinct values of a column, e.g. shard ids, whose rows could meet it. Some 20 µs a value, where the filter
        names the column at all."""
        if name not in self.columns:
            return values
        if self.columns == (name,):
            return [values[place] for place in self.met(pa.table({name: pa.array(values, pa.string())}))]
        # Arrow says so of files of a partitioned dataset, none of which is opened.
        files = ds.FileSystemDataset.from_paths(
            list(values), schema=self._schema, format=ds.ParquetFileFormat(), filesystem=LocalFileSystem(),
            partitions=[ds.field(name) == value for value in values])
        return [file.path for file in files.get_fragments(self.expression)]

    def met(self, table: pa.Table) -> NDArray[np.int64]:
        """i64 [matches], ascending: the rows of a table, which has the columns of the filter, that meet it."""
        numbered = table.append_column("#", pa.array(np.arange(table.num_rows)))
        return np.asarray(numbered.filter(self.expression).column("#"), np.int64)


def _columns_of(schema: pa.Schema, expression: Any) -> tuple[str, ...]:
    """The columns that an expression names: those without which it cannot be evaluated. Arrow has no other way to tell."""
    empty = schema.empty_table()
    named = []
    for name in schema.names:
        try:
            empty.drop_columns([name]).filter(expression)
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            named.append(name)
    return tuple(named)


Parts = Callable[[Filter], Iterable[Part]]
"""The parts of a table that may have rows which meet a filter, in order."""


class Source(ds.Dataset):   # type: ignore[misc]
    """A table in parts. Its types are those that DuckDB has: numbers of 16 bits come as 32."""

    def __init__(self, stored: pa.Schema, parts: Parts, readers: int = 1) -> None:
        """`readers`: parts that are read at once, where no vector is asked for; twice as many may be in memory."""
        self._parts, self._readers = parts, readers
        self._schema = pa.schema([pa.field(field.name, sql_type(field.type)) for field in stored])
        self.error: Exception | None = None
        """What went wrong in a stream, of which DuckDB passes on a text alone."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self._schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> "Stream":
        """A stream of these columns (None: all) of the rows that meet an expression over any columns."""
        schema = self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])
        return Stream(schema, partial(self._batches, schema, Filter(self._schema, filter)))

    def _batches(self, schema: pa.Schema, chosen: Filter) -> Iterator[pa.RecordBatch]:
        try:
            for table in self._tables(schema, chosen):
                for start in range(0, table.num_rows, ROWS):
                    yield from table.slice(start, ROWS).cast(schema).combine_chunks().to_batches()
        except Exception as error:
            self.error = error
            raise

    def _tables(self, schema: pa.Schema, chosen: Filter) -> Iterator[pa.Table]:
        rows = partial(_rows, names=schema.names, chosen=chosen)
        if self._readers == 1 or any(pa.types.is_fixed_size_list(field.type) for field in schema):
            yield from map(rows, self._parts(chosen))
            return
        with threads(self._readers, "sql") as pool:
            yield from pool.each(rows, self._parts(chosen))


def _rows(part: Part, names: Sequence[str], chosen: Filter) -> pa.Table:
    """These columns of the rows of a part that meet the filter; where none does, only its columns are read."""
    if chosen.expression is None:
        return part(names)
    judged = part(chosen.columns)
    met = chosen.met(_cast(judged))
    others = [name for name in names if name not in chosen.columns]
    if not len(met):
        return judged.select([name for name in names if name in chosen.columns]).slice(0, 0)
    read = part(others) if others else judged
    table = pa.table([(read if name in others else judged).column(name) for name in names], names=list(names))
    return table if len(met) == table.num_rows else table.take(pa.array(met))


class Stream:
    """What DuckDB calls a scanner."""

    def __init__(self, schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self._schema, self._batches = schema, batches

    def to_reader(self) -> pa.RecordBatchReader:
        """A fresh stream."""
        return pa.RecordBatchReader.from_batches(self._schema, self._batches())


def sql_type(type: pa.DataType) -> pa.DataType:
    """An Arrow type as DuckDB takes it: it has no numbers of 16 bits."""
    if pa.types.is_float16(type):
        return pa.float32()
    if pa.types.is_fixed_size_list(type):
        return pa.list_(sql_type(type.value_type), type.list_size)
    if pa.types.is_list(type):
        return pa.list_(sql_type(type.value_type))
    if pa.types.is_struct(type):
        return pa.struct([pa.field(field.name, sql_type(field.type)) for field in type])
    return type


def _cast(table: pa.Table) -> pa.Table:
    """A table with the types that a filter was made for."""
    return table.cast(pa.schema([pa.field(field.name, sql_type(field.type)) for field in table.schema]))
