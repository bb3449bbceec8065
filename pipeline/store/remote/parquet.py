"""A parquet file of an object store by ranges: its end in one request, and the chunks of the columns that are wanted in others.

A file object would ask for the size first, and then for eight megabytes wherever it is put; a file below TAIL bytes is one request
here, and of a larger one no column is read that nobody asked for.
"""

import io
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store.store import Store

TAIL = 128 << 10
"""Bytes of the end of a table that are asked for first."""
FOOTER = 16 << 10
"""The same where the footer alone is wanted; ours have some kilobytes."""
LENGTH = 8
"""Bytes behind the footer: its length in four, and the magic number."""


def remote_schema(store: Store, path: str) -> pa.Schema:
    """The schema of a parquet file of an object store, with its metadata. Raises as `remote_file`."""
    return remote_metadata(store, path).schema.to_arrow_schema()


def remote_metadata(store: Store, path: str) -> pq.FileMetaData:
    """What the end of such a file says. Raises as `remote_file`."""
    return _metadata(store, path, _end(store, path, FOOTER))


def remote_file(store: Store, path: str, columns: Sequence[str] | None) -> pq.ParquetFile:
    """A parquet file of an object store, of which these columns (None: all) can be read. Raises FileNotFoundError, OutputError
    where the store does not answer, pyarrow's errors for what is no parquet file."""
    end = _end(store, path, TAIL)
    if len(end) < TAIL - 1:   # all of it
        return pq.ParquetFile(pa.BufferReader(end), pre_buffer=False)
    metadata = _metadata(store, path, end)
    return remote_groups(store, path, metadata, columns, range(metadata.num_row_groups))


def remote_groups(
    store: Store, path: str, metadata: pq.FileMetaData, columns: Sequence[str] | None, groups: Sequence[int]
) -> pq.ParquetFile:
    """As `remote_file`, of a file whose metadata is known: these groups of its rows can be read."""
    ranges = list(_chunks(metadata, columns, groups))
    pieces = dict(zip((start for start, _ in ranges), store.ranges(path, ranges), strict=True))
    return pq.ParquetFile(Pieces(pieces), metadata=metadata, pre_buffer=False)


def _end(store: Store, path: str, count: int) -> bytes:
    """About the last `count` bytes; at least the footer."""
    end = store.tail(path, count)
    footer = int.from_bytes(end[-LENGTH:-4], "little") + LENGTH
    return end if footer <= len(end) or len(end) < count - 1 else store.tail(path, footer + 1)   # some clients give one byte less


def _metadata(store: Store, path: str, end: bytes) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(end))


def _chunks(metadata: pq.FileMetaData, columns: Sequence[str] | None, groups: Sequence[int]) -> Any:
    """[start, end) of the chunk of each wanted column of each of these row groups, in the order of the file."""
    wanted = None if columns is None else set(columns)
    for group in groups:
        for number in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(number)
            if wanted is None or chunk.path_in_schema.partition(".")[0] in wanted:
                first = chunk.data_page_offset
                if chunk.dictionary_page_offset is not None:
                    first = min(first, chunk.dictionary_page_offset)
                yield first, first + chunk.total_compressed_size


class Pieces(io.RawIOBase):
    """Ranges of a file, by where they begin. What lies between them cannot be read."""

    def __init__(self, pieces: dict[int, bytes]) -> None:
        super().__init__()
        self._pieces, self._starts, self._at = pieces, sorted(pieces), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        end = max((start + len(piece) for start, piece in self._pieces.items()), default=0)
        self._at = offset + (0, self._at, end)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Raises OSError outside of the pieces."""
        place = bisect_right(self._starts, self._at) - 1
        start = self._starts[place] if place >= 0 else 0
        piece = self._pieces.get(start, b"")[self._at - start :]
        if size > len(piece):
            raise OSError(f"bytes {self._at} to {self._at + size} were not asked for")
        content = piece if size < 0 else piece[:size]
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
