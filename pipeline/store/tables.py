"""Column files: `<folder>/<shard_id>.parquet`, one row per input sample, and its vectors as `.npy` beside it.

The vectors are written first and the parquet last, with their hashes in its footer, so that the parquet's existence
means the whole set is there. A vector column `v` becomes `<shard_id>.v.npy` (float16 [rows, d], zero rows where there is
none) and the validity column `v_valid`.
"""

import hashlib
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
from pipeline.store.remote.footers import forget, kept
from pipeline.store.remote.parquet import remote_file, remote_schema
from pipeline.store.store import Store, read_ranges
from pipeline.timing.clock import READ, WRITE, spent
from pipeline.vectors import Halves

T = TypeVar("T")


def stored_shards(store: Store, folders: Sequence[str]) -> set[str]:
    """Shard ids whose parquet is in every one of these folders: one listing each instead of a look-up per shard."""
    ids = [{name.removesuffix(".parquet") for name in store.names(folder) if name.endswith(".parquet")} for folder in folders]
    return set.intersection(*ids) if ids else set()


FOOTER = b"shardmill"
NPY_HEAD = 256
"""Bytes that hold the head of every .npy file of ours: it has 128."""
REQUESTS = 32
"""Footers asked of a remote store at once."""


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


def write_columns(store: Store, folder: str, shard_id: str, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Commits one stage's columns of one shard. `facts` go into the footer (fingerprint, counts, gaps)."""
    hashes: dict[str, str] = {}
    stored: dict[str, pa.Array] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if not is_vector(field):
            stored[field.name] = column
            continue
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        name = f"{shard_id}.{field.name}.npy"
        content = npy_bytes(as_matrix(array, field.type.list_size))
        with spent(WRITE):
            store.write(f"{folder}/{name}", content)
        hashes[name] = hashlib.sha256(content).hexdigest()
        stored[f"{field.name}_valid"] = array.is_valid()
    write_table(store, f"{folder}/{shard_id}.parquet", pa.table(stored), {**facts, "rows": table.num_rows, "files": hashes})


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
    with spent(READ):
        if store.by_ranges:
            return _table(remote_file(store, path, columns), columns, filters)
        with _opened(store, path) as file:
            return parquet_table(file, columns, filters)


def table_batches(store: Store, path: str, columns: Sequence[str], rows: int = 65536) -> Iterator[pa.Table]:
    """These columns of a parquet file, at most so many rows at a time: of a table that may not fit in memory. Raises as
    `read_table`."""
    with _opened(store, path) as file:
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
    if store.local is not None:
        return read_footer(store, path)[1]
    return dict(json.loads(kept(f"{store.url}/{path}", lambda: json.dumps(read_footer(store, path)[1]).encode())))


def read_footer(store: Store, path: str) -> tuple[pa.Schema, dict[str, Any]]:
    """The schema of a parquet file and the facts in its footer."""
    if store.by_ranges:
        schema = remote_schema(store, path)
    else:
        with _opened(store, path) as file:
            schema = pq.read_schema(file)
    return schema, facts_of(schema)


def facts_of(schema: pa.Schema) -> dict[str, Any]:
    """The facts that came with a table that was read, which its schema has."""
    return dict(json.loads((schema.metadata or {}).get(FOOTER, b"{}")))


def read_many_facts(store: Store, paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """`read_facts` of each, one after another; a remote store is asked for several at once."""
    return read_many(store, paths, partial(read_facts, store))


def read_many(store: Store, paths: Sequence[str], read: Callable[[str], T]) -> Iterator[T]:
    """What `read` says of each path, one after another; a remote store is asked for several at once."""
    if store.local is not None:
        yield from map(read, paths)
        return
    with threads(REQUESTS, "footers") as pool:
        yield from pool.each(read, paths)


def read_vectors(store: Store, folder: str, shard_id: str, name: str) -> Halves:
    """The vectors of one column of a shard, float16 [rows, d]; mapped, not read, where the store is local. Raises
    FileNotFoundError, or RootError for what is no such array."""
    return read_npy(store, f"{folder}/{shard_id}.{name}.npy")


def read_vector_rows(store: Store, folder: str, shard_id: str, name: str, rows: NDArray[np.int64]) -> Halves:
    """These rows, i64 [n] ascending, of the vectors of one column of a shard: float16 [n, d], in memory. Of a remote file their
    bytes alone are asked for, and those between two that are near. Raises as `read_vectors` does, and
    InputError where the store does not answer."""
    path = f"{folder}/{shard_id}.{name}.npy"
    if store.local is not None:
        return np.array(read_npy(store, path)[rows])
    url = f"{store.url.rstrip('/')}/{path}"
    with spent(READ):
        head = io.BytesIO(read_ranges(url, [(0, NPY_HEAD)])[0])
        length = _row_length(store, path, head)
        start, width = head.tell(), 2 * length
        first = np.flatnonzero(np.diff(rows, prepend=-2) != 1)   # of each run of rows that follow each other
        ends = np.append(first[1:], len(rows))
        runs = [(start + int(rows[a]) * width, start + (int(rows[b - 1]) + 1) * width) for a, b in zip(first, ends, strict=True)]
        content = b"".join(read_ranges(url, runs))
    return np.frombuffer(content, np.float16).reshape(len(rows), length)


def vector_length(store: Store, folder: str, shard_id: str, name: str) -> int:
    """d of a matrix [rows, d], from the head of its file."""
    path = f"{folder}/{shard_id}.{name}.npy"
    with spent(READ), _opened(store, path) as file:
        return _row_length(store, path, file)


def _row_length(store: Store, path: str, file: IO[bytes]) -> int:
    """d of a matrix float16 [rows, d] whose .npy file begins here; leaves the file at its first value."""
    try:
        head = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(file) == (1, 0) else None
        shape, fortran, dtype = ((), False, None) if head is None else head(file)
    except ValueError:
        shape, fortran, dtype = (), False, None
    if len(shape) != 2 or fortran or dtype != np.float16:
        raise RootError(f"{store.url}/{path} is no matrix as shardmill writes them: remove it and run again")
    return int(shape[1])


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


@contextmanager
def _opened(store: Store, path: str) -> Iterator[IO[bytes]]:
    with store.open(path) as file:
        yield file
