"""Files of parts: an Arrow IPC file whose batch p is part p, so that one of thousands of parts is one ranged read. They are passed
on within a run and removed when it has used them; nothing promises their bytes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.store.store import Store, open_url
from pipeline.timing.clock import READ, WRITE, spent
from pipeline.vectors import Bytes
from pipeline.work import beat

PACKED = pa.ipc.IpcWriteOptions(compression="zstd")
"""Row numbers, counts and hashes that follow each other have many equal bytes."""


@contextmanager
def parts_file(store: Store, path: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A new file: yields a function that adds a table of this schema, n rows or none, as the next part. The file appears when the
    block ends without an error. Raises OutputError."""
    with store.create(path) as file, pa.ipc.new_file(file, schema, options=PACKED) as writer:

        def add(table: pa.Table) -> None:
            with spent(WRITE):
                writer.write_batch(pa.record_batch([_whole(column) for column in table.columns], schema=schema))

        yield add


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def read_part(store: Store, path: str, part: int) -> pa.Table:
    """One part, in memory. Raises FileNotFoundError."""
    with spent(READ), _opened(store, path) as file:
        return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(part)])


def read_parts(store: Store, path: str) -> Iterator[pa.Table]:
    """All parts, one after another."""
    with spent(READ), _opened(store, path) as file:
        opened = pa.ipc.open_file(file)
        for part in range(opened.num_record_batches):
            yield pa.Table.from_batches([opened.get_batch(part)])


def _opened(store: Store, path: str) -> Any:
    if store.local is not None:
        return pa.OSFile(str(store.local / path))
    return open_url(f"{store.url.rstrip('/')}/{path}", scattered=True)


@dataclass(frozen=True)
class Parts:
    """The same part of several files, one after another, as often as is asked; one file is open at a time."""

    store: Store
    paths: Sequence[str]
    part: int

    def __iter__(self) -> Iterator[pa.Table]:
        for path in self.paths:
            yield read_part(self.store, path, self.part)
            beat()

    def chunks(self, rows: int) -> Iterator[list[pa.Table]]:
        """The tables in order, several at a time until they have so many rows together."""
        held: list[pa.Table] = []
        waiting = 0
        for table in self:
            held.append(table)
            waiting += table.num_rows
            if waiting >= rows:
                yield held
                held, waiting = [], 0
        if held:
            yield held


def fixed_column(values: Bytes) -> pa.Array:
    """u8 [n, width] as fixed-size binary."""
    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(values.shape[1]), len(values), [None, content])


def fixed_bytes(column: pa.ChunkedArray | pa.Array, width: int) -> NDArray[np.uint8]:
    """uint8 [rows, width] of a fixed-size binary column without nulls."""
    if not len(column):
        return np.zeros((0, width), np.uint8)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, width)[array.offset : array.offset + len(array)]
