"""Some rows of a matrix of an object store by ranges: a .npy file as `tables.py` writes them, whose other rows nobody reads."""

import io
from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RootError
from pipeline.store.store import Store, read_ranges
from pipeline.timing.clock import READ, spent
from pipeline.vectors import Halves

NPY_HEAD = 256
"""Bytes that hold the head of every .npy file of ours: it has 128."""


def matrix_rows(store: Store, path: str, rows: NDArray[np.int64]) -> Halves:
    """These rows, i64 [n] ascending, of a remote matrix: float16 [n, d], from its head and the bytes of each run of rows that
    follow each other. Raises FileNotFoundError, InputError where the store does not answer, RootError for no such matrix."""
    url = f"{store.url.rstrip('/')}/{path}"
    with spent(READ):
        length, start = matrix_head(store, path)
        width = 2 * length
        first = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        ends = np.append(first, len(rows))[1:]   # of no row, none
        runs = [(start + int(rows[a]) * width, start + (int(rows[b - 1]) + 1) * width) for a, b in zip(first, ends, strict=True)]
        content = b"".join(read_ranges(url, runs))
    return np.frombuffer(content, np.float16).reshape(len(rows), length)


def matrix_head(store: Store, path: str) -> tuple[int, int]:
    """d of a stored matrix float16 [rows, d], and the byte at which its values begin. Raises as `matrix_rows`."""
    if store.local is None:
        head: IO[bytes] = io.BytesIO(read_ranges(f"{store.url.rstrip('/')}/{path}", [(0, NPY_HEAD)])[0])
        return _row_length(store, path, head), head.tell()
    file = (store.local / path).stat()
    return _local_head(store, path, file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=256)
def _local_head(store: Store, path: str, modified: int, size: int) -> tuple[int, int]:
    """A block's matrix is asked for once for each of its shards, by every pass."""
    with store.open(path) as file:
        return _row_length(store, path, file), file.tell()


def matrix_shape(store: Store, path: str) -> tuple[int, int]:
    """Rows and columns of a .npy file of an array f16, f32 or f64 [rows, d], from its head. Raises FileNotFoundError, InputError or
    OutputError where the store does not answer, RootError for no such matrix."""
    return _matrix(store, path)[0]


def matrix_part(store: Store, path: str, first: int, count: int) -> NDArray[np.floating]:
    """So many rows [count, d] of such a file, by ranges. Raises as `matrix_shape`, and RootError for rows that are not there."""
    (rows, length), dtype, start = _matrix(store, path)
    if not 0 <= first <= first + count <= rows:
        raise RootError(f"{store.url}/{path} is no matrix with rows {first} to {first + count - 1}: remove it and run again")
    width = length * dtype.itemsize
    with spent(READ):
        [content] = store.ranges(path, [(start + first * width, start + (first + count) * width)])
    return np.frombuffer(content, dtype).reshape(count, length)


def matrix_row(store: Store, path: str, row: int) -> NDArray[np.floating]:
    """One row [d] of such a file. Raises as `matrix_part`."""
    return matrix_part(store, path, row, 1).reshape(-1)


def _matrix(store: Store, path: str) -> tuple[tuple[int, int], np.dtype[Any], int]:
    """Shape and dtype, and the byte at which the values begin."""
    with spent(READ):
        file = io.BytesIO(store.ranges(path, [(0, NPY_HEAD)])[0])
    shape, fortran, dtype = _head(file)
    if len(shape) != 2 or fortran or dtype not in (np.float16, np.float32, np.float64):
        raise RootError(f"{store.url}/{path} is no .npy file of an array of floats [rows, values] in rows")
    return (shape[0], shape[1]), dtype, file.tell()


def _row_length(store: Store, path: str, file: IO[bytes]) -> int:
    """d of a matrix whose .npy file begins here; leaves the file at its first value."""
    shape, fortran, dtype = _head(file)
    if len(shape) != 2 or fortran or dtype != np.float16:
        raise RootError(f"{store.url}/{path} is no matrix as shardmill writes them: remove it and run again")
    return int(shape[1])


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype that a .npy file says; no shape for what is none. Leaves the file at its first value."""
    try:
        if np.lib.format.read_magic(file) == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
    except ValueError:
        pass
    return (), False, np.dtype(np.void)
