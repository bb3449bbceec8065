"""Column files: `<folder>/<shard_id>.parquet`, one row per input sample, and its vectors as `.npy` beside it.

The vectors are written first and the parquet last, with their hashes in its footer, so that the parquet's existence
means the whole set is there. A vector column `v` becomes `<shard_id>.v.npy` (float16 [rows, d], zero rows where there is
none) and the validity column `v_valid`.

The file of a shard may have gone into a block of its folder (`blocks/`): whoever asks for it by its path gets what it would hold.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import RootError
from pipeline.process.ahead import threads
from pipeline.store.blocks.either import either, told_of
from pipeline.store.blocks.index import FOOTER, Place, block_of, fresh_index
from pipeline.store.blocks.rows import schema_of, table_of, vectors_of
from pipeline.store.blocks.writing import Said, gathering, part_of
from pipeline.store.remote.footers import forget, kept
from pipeline.store.remote.matrices import matrix_head, matrix_rows
from pipeline.store.remote.parquet import remote_file, remote_schema
from pipeline.store.store import Store
from pipeline.timing.clock import READ, WRITE, spent
from pipeline.vectors import Halves

T = TypeVar("T")
REQUESTS = 32
"""Footers asked of a remote store at once."""


def stored_shards(store: Store, folders: Sequence[str]) -> set[str]:
    """Shard ids whose columns are in every one of these folders, in files of their own or in blocks: one listing each instead of a
    look-up per shard."""
    ids = [_stored(store, folder) for folder in folders]
    return set.intersection(*ids) if ids else set()


def _stored(store: Store, folder: str) -> set[str]:
    names = [name for name in store.names(folder) if name.endswith(".parquet")]
    own = {name.removesuffix(".parquet") for name in names if block_of(name) is None}
    return own if len(own) == len(names) else own | set(fresh_index(store, folder).ids.tolist())


def is_vector(field: pa.Field) -> bool:
    """Whether a column holds vectors: fixed-size lists of float16."""
    return bool(pa.types.is_fixed_size_list(field.type) and pa.types.is_float16(field.type.value_type))


def as_matrix(column: pa.Array, dimension: int) -> Halves:
    """The vectors of a column as float16 [rows, dimension]; rows of zeros where the list is null."""
    out = np.zeros((len(column), dimension), np.float16)
    valid = np.asarray(column.is_valid())
    flat = column.drop_null().flatten()
    out[valid] = np.asarray(flat, dtype=np.float16).reshape(-1, dimension)
    return out


def write_shard_table(
    store: Store, path: str, table: pa.Table, facts: Mapping[str, Any], vectors: Mapping[str, Halves] | None = None
) -> None:
    """Commits the table `<folder>/<shard_id>.parquet`, as `write_table` does; or gathers it and its `vectors` with others."""
    gathered, (folder, _, name) = gathering(), path.rpartition("/")
    if gathered is None:
        write_table(store, path, table, facts)
    else:
        said = Said(name.removesuffix(".parquet"), table.num_rows, facts)
        gathered.add(store, folder, part_of([said], table, vectors or {}))


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The content of a .npy file of this array. The same array gives the same bytes."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@contextmanager
def npy_file(store: Store, path: str, dtype: np.dtype[Any], length: int) -> Iterator[Callable[[NDArray[Any]], None]]:
    """A new .npy file of an array [length]: yields a function that adds some of its values. The bytes are those of `npy_bytes` of
    the whole; the file appears when the block ends without an error. Raises OutputError, and ValueError for another length."""
    written = 0
    with store.create(path) as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)})

        def add(values: NDArray[Any]) -> None:
            nonlocal written
            file.write(np.ascontiguousarray(values, dtype).tobytes())
            written += len(values)

        yield add
        if written != length:
            raise ValueError(f"{path}: {written} values instead of {length}")


def write_table(store: Store, path: str, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """A parquet file with `facts` (JSON-able) in its footer. The same table and facts give the same bytes."""
    with spent(WRITE), parquet_file(store, path, table.schema, facts) as write:
        write(table)


@contextmanager
def parquet_file(store: Store, path: str, schema: pa.Schema, facts: Mapping[str, Any]) -> Iterator[Any]:
    """A new parquet file with `facts` (JSON-able) in its footer: yields a function that adds a table of this schema to it. The file
    appears when the block ends without an error. Raises OutputError."""
    schema = schema.with_metadata({FOOTER: json.dumps(facts, sort_keys=True).encode()})
    forget(f"{store.url}/{path}")
    with store.create(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield lambda table: writer.write_table(table.cast(schema))


def read_table(store: Store, path: str, columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """The table of a parquet file, or these columns of it; `filters`: an expression over the columns that are read, whose rows
    stay. Raises FileNotFoundError, or OutputError where the store does not answer."""
    def of_file() -> pa.Table:
        if store.by_ranges:
            return _table(remote_file(store, path, columns), columns, filters)
        with store.open(path) as file:
            return parquet_table(file, columns, filters)

    def of_block(folder: str, place: Place) -> pa.Table:
        table = table_of(store, folder, place, columns)
        return table if filters is None else table.filter(filters)

    with spent(READ):
        return either(store, path, of_file, of_block)


def read_with_facts(store: Store, path: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """As `read_table`, and the facts in the same file's footer."""
    table = read_table(store, path, columns)
    return table, facts_of(table.schema) if FOOTER in (table.schema.metadata or {}) else read_facts(store, path)


def table_batches(store: Store, path: str, columns: Sequence[str], rows: int = 65536) -> Iterator[pa.Table]:
    """These columns of a parquet file, at most so many rows at a time: of a table that may not fit in memory. Raises as
    `read_table`."""
    with store.open(path) as file:
        for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(rows, columns=list(columns), use_threads=False):
            yield pa.Table.from_batches([batch])


def read_known(store: Store, path: str, schema: pa.Schema) -> pa.Table:
    """These columns of a parquet file; null where it has none of that name, as files of older versions. Raises as `read_table`."""
    table = read_table(store, path, schema.names)
    there = set(table.column_names)
    columns = [table.column(f.name) if f.name in there else pa.nulls(table.num_rows, f.type) for f in schema]
    return pa.table(columns, names=schema.names)


def parquet_table(file: IO[bytes], columns: Sequence[str] | None = None, filters: Any = None) -> pa.Table:
    """The table of an open parquet file; `filters` is an expression over `columns`.

    Everything happens in the calling thread: pq.read_table lets Arrow's threads hold the Python file, and one that lets go of
    it while the interpreter ends aborts the process.
    """
    return _table(pq.ParquetFile(file, pre_buffer=False), columns, filters)


def _table(opened: pq.ParquetFile, columns: Sequence[str] | None, filters: Any) -> pa.Table:
    chosen = None if columns is None else list(columns)
    if filters is None:
        return opened.read(chosen, use_threads=False)
    batches = [batch.filter(filters) for batch in opened.iter_batches(columns=chosen, use_threads=False)]
    return pa.Table.from_batches(batches, None if batches else opened.schema_arrow)


def read_columns(store: Store, folder: str, shard_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A stage's columns of one shard, one row per input sample: all of them or these. Vectors are read by `read_vectors`. Raises
    FileNotFoundError, or OutputError where the store does not answer."""
    return read_table(store, f"{folder}/{shard_id}.parquet", columns)


def read_facts(store: Store, path: str) -> dict[str, Any]:
    """The facts in a parquet file's footer."""
    def of_file() -> dict[str, Any]:
        if store.local is not None:
            return _footer(store, path)[1]
        return dict(json.loads(kept(f"{store.url}/{path}", lambda: json.dumps(_footer(store, path)[1]).encode())))

    return either(store, path, of_file, lambda folder, _: told_of(store, path, folder))


def read_footer(store: Store, path: str) -> tuple[pa.Schema, dict[str, Any]]:
    """The schema of a parquet file and the facts in its footer."""
    return either(
        store, path, lambda: _footer(store, path),
        lambda folder, place: (schema_of(store, folder, place), told_of(store, path, folder)))


def _footer(store: Store, path: str) -> tuple[pa.Schema, dict[str, Any]]:
    if store.by_ranges:
        schema = remote_schema(store, path)
    else:
        with store.open(path) as file:
            schema = pq.read_schema(file)
    return schema, facts_of(schema)


def facts_of(schema: pa.Schema) -> dict[str, Any]:
    """The facts that came with a table that was read from a file of its own, which its schema has."""
    return dict(json.loads((schema.metadata or {}).get(FOOTER, b"{}")))


def read_many_facts(store: Store, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`read_facts` of each, one after another; a remote store is asked for several at once."""
    return read_many(store, paths, partial(read_facts, store))


def read_many(store: Store, paths: Sequence[str], read: Callable[[str], T]) -> Iterator[T]:
    """What `read` says of each path, one after another; a remote store is asked for several at once."""
    if store.local is not None:
        yield from map(read, paths)
        return
    yield from map(read, paths[:1])   # alone: where it is in a block, the others find the index read
    with threads(REQUESTS, "footers") as pool:
        yield from pool.each(read, paths[1:])


def read_vectors(store: Store, folder: str, shard_id: str, name: str) -> Halves:
    """The vectors of one column of a shard, float16 [rows, d]; mapped, not read, where the store is local. Raises
    FileNotFoundError, or RootError for what is no such array."""
    return either(
        store, f"{folder}/{shard_id}.parquet", lambda: read_npy(store, f"{folder}/{shard_id}.{name}.npy"),
        lambda folder, place: vectors_of(store, folder, place, name))


def read_vector_rows(store: Store, folder: str, shard_id: str, name: str, rows: NDArray[np.int64]) -> Halves:
    """These rows, i64 [n] ascending, of the vectors of one column of a shard: float16 [n, d], in memory. Of a remote file their
    bytes alone are asked for, and those between two that are near. Raises as `read_vectors` does, and
    InputError where the store does not answer."""
    if store.local is not None:
        return np.array(read_vectors(store, folder, shard_id, name)[rows])
    return either(
        store, f"{folder}/{shard_id}.parquet", lambda: matrix_rows(store, f"{folder}/{shard_id}.{name}.npy", rows),
        lambda folder, place: vectors_of(store, folder, place, name, rows))


def vector_length(store: Store, folder: str, shard_id: str, name: str) -> int:
    """d of a matrix [rows, d], from the head of its file."""
    def of_file(path: str) -> int:
        with spent(READ):
            return matrix_head(store, path)[0]

    return either(
        store, f"{folder}/{shard_id}.parquet", lambda: of_file(f"{folder}/{shard_id}.{name}.npy"),
        lambda folder, place: of_file(f"{folder}/{place.block}.{name}.npy"))


def read_npy(store: Store, path: str) -> NDArray[Any]:
    """The array of a .npy file, of any shape and dtype; mapped, not read, where the store is local. Raises RootError for what is
    none: objects are never unpickled."""
    try:
        if store.local is not None:
            mapped: NDArray[Any] = np.load(store.local / path, mmap_mode="r", allow_pickle=False)
            return mapped
        with spent(READ):
            loaded: NDArray[Any] = np.load(io.BytesIO(store.read(path)), allow_pickle=False)
    except ValueError as error:
        raise RootError(f"{store.url}/{path} is no array as shardmill writes them ({error}): remove it and run again") from error
    return loaded
