"""The rows of one shard in a block: of its table the group of rows that has them, of its vectors their bytes.

What was read last is kept, for a pass asks for one shard after another: a few footers, and a few small groups of rows. Vectors of a
local block are one map, whoever holds how many shards of it.
"""

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.store.blocks.index import Place, metadata_of
from pipeline.store.remote.matrices import matrix_head, matrix_rows
from pipeline.store.remote.parquet import remote_groups
from pipeline.store.store import Store
from pipeline.vectors import Halves, Ints

K = TypeVar("K")
V = TypeVar("V")
FOOTERS = 32
TABLES = 32
LARGEST = 4 << 20
"""Bytes of the largest table that is kept."""


class Recent(Generic[K, V]):
    """The values that were asked for last."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def drop(self, url: str) -> None:
        """Forgets what is of this store: the key of each value begins with its URL."""
        with self._lock:
            for key in [key for key in self._values if key[0] == url]:   # type: ignore[index]
                del self._values[key]


class Footer(NamedTuple):
    """What is kept of a block's footer."""

    metadata: pq.FileMetaData
    starts: NDArray[np.int64]
    """The first row of each row group."""


def forget_rows(store: Store) -> None:
    """What was kept of this store's blocks is read anew."""
    _footers.drop(store.url)
    _tables.drop(store.url)


_footers: Recent[tuple[str, str], Footer] = Recent(FOOTERS)
_tables: Recent[tuple[str, str, int, tuple[str, ...] | None], pa.Table] = Recent(TABLES)
_maps: WeakValueDictionary[tuple[str, int], mmap.mmap] = WeakValueDictionary()


def table_of(store: Store, folder: str, place: Place, columns: Sequence[str] | None) -> pa.Table:
    """The rows of a shard, or of several that follow each other: all columns or these. Raises FileNotFoundError for a block that is
    gone."""
    path = f"{folder}/{place.block}.parquet"
    footer = _footer(store, path)
    group = last = _group(footer, place.first)
    if place.rows:
        last = _group(footer, place.first + place.rows - 1)
    tables = [_group_table(store, path, footer.metadata, columns, number) for number in range(group, last + 1)]
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    return table.slice(place.first - int(footer.starts[group]), place.rows)


def _group_table(
    store: Store, path: str, metadata: pq.FileMetaData, columns: Sequence[str] | None, group: int
) -> pa.Table:
    key = store.url, path, group, None if columns is None else tuple(columns)
    table = _tables.get(key)
    if table is None:
        table = row_group(store, path, metadata, columns, group).replace_schema_metadata(None)
        if table.nbytes <= LARGEST:
            _tables.put(key, table)
    return table


def row_group(store: Store, path: str, metadata: pq.FileMetaData, columns: Sequence[str] | None, group: int) -> pa.Table:
    """One row group of a parquet file of a store whose metadata is known: all columns or these. Raises FileNotFoundError, or
    OutputError where the store does not answer."""
    chosen = None if columns is None else list(columns)
    if store.by_ranges:
        return remote_groups(store, path, metadata, columns, [group]).read_row_group(group, chosen, use_threads=False)
    with store.open(path) as file:
        return pq.ParquetFile(file, metadata=metadata, pre_buffer=False).read_row_group(group, chosen, use_threads=False)


def _footer(store: Store, path: str) -> Footer:
    footer = _footers.get((store.url, path))
    if footer is None:
        metadata = metadata_of(store, path)
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        footer = Footer(metadata, np.cumsum([0, *rows[:-1]], dtype=np.int64))
        _footers.put((store.url, path), footer)
    return footer


def _group(footer: Footer, row: int) -> int:
    """The row group that a row is in."""
    return int(np.searchsorted(footer.starts, row, side="right")) - 1


def vectors_of(store: Store, folder: str, place: Place, name: str, rows: Ints | None = None) -> Halves:
    """The vectors of a shard, or of several that follow each other, or these rows of them, i64 [n] ascending: float16 [rows, d],
    mapped where the store is local. Raises FileNotFoundError for a block that is gone, and as `matrix_rows`."""
    path = f"{folder}/{place.block}.{name}.npy"
    if store.local is None:
        return matrix_rows(store, path, place.first + (np.arange(place.rows) if rows is None else rows))
    length, start = matrix_head(store, path)
    values: Halves = mapped(str(store.local / path), start + 2 * length * place.first, (place.rows, length))
    return values if rows is None else np.array(values[rows])


def schema_of(store: Store, folder: str, place: Place) -> pa.Schema:
    """The schema of a block's table."""
    return _footer(store, f"{folder}/{place.block}.parquet").metadata.schema.to_arrow_schema().remove_metadata()


def mapped(path: str, head: int, shape: tuple[int, int]) -> Any:
    """float16 `shape` of the local .npy file `path`, whose values begin at byte `head`: a view of the one map that this process has
    of the file."""
    with open(path, "rb") as file:
        key = (path, os.fstat(file.fileno()).st_ino)
        shared = _maps.get(key)
        if shared is None:
            shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _maps[key] = shared
    return np.frombuffer(shared, np.float16, shape[0] * shape[1], head).reshape(shape)
