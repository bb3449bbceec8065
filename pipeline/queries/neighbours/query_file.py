"""A file of queries, read a part at a time: a parquet file with a column of texts or of vectors, or a .npy file of vectors."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.queries.neighbours.saved import place_of
from pipeline.store.remote.matrices import matrix_part, matrix_shape
from pipeline.store.store import Store, stat

FORMS = (".parquet", ".npy")
TEXT = "text"


@dataclass(frozen=True)
class QueryFile:
    """An opened file of queries. One thread reads it."""

    url: str
    store: Store
    name: str

    @classmethod
    def open(cls, url: str) -> "QueryFile":
        """Raises InputError for a file that is not there, ends otherwise than in FORMS, or is not what its name says."""
        store, name = place_of(url, FORMS)
        file = cls(url, store, name)
        try:
            _ = stat(f"{store.url.rstrip('/')}/{name}"), file.rows, file.texts
        except FileNotFoundError:
            raise InputError(f"{url}: no such file of queries") from None
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{url} cannot be read: {str(error).splitlines()[0]}") from None
        return file

    @property
    def version(self) -> str:
        """Changes with the content."""
        return stat(f"{self.store.url.rstrip('/')}/{self.name}").version

    @cached_property
    def _parquet(self) -> pq.ParquetFile | None:
        return pq.ParquetFile(self.store.open(self.name), pre_buffer=False) if self.name.endswith(".parquet") else None

    @cached_property
    def _column(self) -> str:
        """Of a table: the column of queries. Raises InputError where none or several could be it."""
        assert self._parquet is not None
        schema = self._parquet.schema_arrow
        if TEXT in schema.names and schema.field(TEXT).type in (pa.string(), pa.large_string()):
            return TEXT
        vectors = [field.name for field in schema if _is_vector(field.type)]
        if len(vectors) != 1:
            found = f"several of these ({', '.join(vectors)})" if vectors else "neither"
            raise InputError(f"{self.url}: queries are in a column `text`, or in one column of lists of numbers; it has {found}")
        return str(vectors[0])

    @cached_property
    def texts(self) -> bool:
        """Whether the queries are texts."""
        return self._parquet is not None and self._column == TEXT

    @cached_property
    def rows(self) -> int:
        """How many queries."""
        return self._parquet.metadata.num_rows if self._parquet is not None else self._shape[0]

    @cached_property
    def _shape(self) -> tuple[int, int]:
        return matrix_shape(self.store, self.name)

    def read(self, first: int, count: int) -> list[str | None] | NDArray[np.floating]:
        """So many queries from that one on: texts (None where there is none), or [n, d]; a null vector is NaN. Of a table the
        groups of rows that they are in are read. Raises InputError for vectors of different lengths."""
        if self._parquet is None:
            return matrix_part(self.store, self.name, first, min(count, self.rows - first))
        table = self._rows(self._parquet, first, count)
        return list(table.to_pylist()) if self.texts else _matrix(table, self.url, first)

    def _rows(self, file: pq.ParquetFile, first: int, count: int) -> pa.Array:
        parts, start = [], 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            low, high = max(first - start, 0), min(first + count - start, rows)
            if low < high:
                column = file.read_row_group(group, [self._column], use_threads=False).column(0)
                parts.append(column.slice(low, high - low))
            start += rows
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], file.schema_arrow.field(self._column).type) \
            .combine_chunks()


def _is_vector(type: pa.DataType) -> bool:
    lists = pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    return bool(lists and (pa.types.is_floating(type.value_type) or pa.types.is_integer(type.value_type)))


def _matrix(column: pa.Array, url: str, first: int) -> NDArray[np.floating]:
    """Lists of numbers as [n, d]."""
    rows = column.to_pylist()
    lengths = {len(row) for row in rows if row is not None}
    if len(lengths) > 1:
        last = first + len(rows) - 1
        raise InputError(f"{url}: the vectors of queries {first} to {last} have different lengths, {sorted(lengths)[:3]}")
    width = next(iter(lengths), 0)
    nothing = [float("nan")] * width
    return np.array([nothing if row is None else [float("nan") if value is None else value for value in row] for row in rows],
                    np.float64).reshape(len(rows), width)
