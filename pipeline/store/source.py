"""Files as sources of samples: counted, decompressed and handed out in blocks; ranges read together; folders walked.

Nothing here knows where a file is.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Protocol

import pyarrow as pa

PIECE = 1 << 20
"""Bytes asked of a plain file at once."""
COMPRESSED_PIECE = 16 << 10
"""Bytes asked of a decompressor at once: what a cut stream holds beyond the last whole piece is lost."""

CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4", b"\x1f\x9d": "compress"}


class SourceFile(io.RawIOBase):
    """A file open for reading that counts bytes, survives a store that fails for a while, and remembers one that did not.

    `opened` opens the file, again after a failure; `patiently` runs an action until it works or raises what the caller is
    to see. A read that fails begins anew where it began, so tries count from the last byte that came.
    A decompressor or parquet reader may turn its source's errors into its own; `failed` tells a store that did not answer
    (try again) from bytes that are damaged (data).
    """

    def __init__(self, opened: Callable[[], IO[bytes]], patiently: Callable[[Callable[[], Any]], Any]) -> None:
        super().__init__()
        self._opened, self._patiently = opened, patiently
        self._file: IO[bytes] = patiently(opened)
        self._broken = False
        self.bytes_read = 0
        self.failed = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, all the rest by default. Raises what `patiently` raises where the store does not answer."""
        start = self._file.tell()
        try:
            content: bytes = self._patiently(lambda: self._read(start, size))
        except BaseException:
            self.failed = True
            raise
        self.bytes_read += len(content)
        return content

    def _read(self, start: int, size: int) -> bytes:
        if self._broken:
            reopened = self._opened()
            self._file.close()
            self._file = reopened
            self._file.seek(start)
        self._broken = True
        content = self._file.read(size)
        self._broken = False
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class DamagedStream(Exception):
    """A compressed stream is cut or its bytes are wrong; what came before is good."""


class Readable(Protocol):
    """What can be read from first to last byte."""

    def read(self, size: int, /) -> bytes: ...


class Decompressed:
    """What a compressed file holds, from first to last byte. Raises DamagedStream where the bytes are wrong."""

    def __init__(self, file: SourceFile, codec: str) -> None:
        self._file = file
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), codec)

    def read(self, size: int, /) -> bytes:
        """The next decompressed bytes. Raises DamagedStream where the compressed bytes are wrong or cut."""
        try:
            return bytes(self._stream.read(size))
        except OSError as error:
            if self._file.failed:
                raise
            raise DamagedStream(str(error)) from error


class Blocks:
    """A stream read in large pieces and handed out in small ones."""

    def __init__(self, file: Readable, piece: int = PIECE) -> None:
        self._file, self._piece = file, piece
        self._chunk, self._at = b"", 0
        self.offset = 0
        self.damage: str | None = None
        """Why a compressed stream ended early."""

    def take(self, count: int) -> bytes:
        """The next bytes; fewer only at the end."""
        end = self._at + count
        if end <= len(self._chunk):
            content = self._chunk[self._at : end]
            self._at = end
        else:
            content = self._gather(count)
        self.offset += len(content)
        return content

    def skip(self, count: int) -> int:
        """Passes over bytes, however many a header claims, in bounded memory; returns how many there were."""
        passed = 0
        while passed < count:
            step = len(self.take(min(count - passed, PIECE)))
            if not step:
                break
            passed += step
        return passed

    def _gather(self, count: int) -> bytes:
        parts = [self._chunk[self._at :]]
        missing = count - len(parts[0])
        while missing > 0:
            self._chunk = self._next()
            self._at = min(missing, len(self._chunk))
            if not self._chunk:
                break
            parts.append(self._chunk[: self._at])
            missing -= self._at
        return b"".join(parts)

    def _next(self) -> bytes:
        if self.damage is not None:
            return b""
        try:
            return self._file.read(self._piece)
        except DamagedStream as damage:
            self.damage = str(damage)
            return b""


def merged_ranges(ranges: Sequence[tuple[int, int]], gap: int = 64 << 10, limit: int = 8 << 20) -> list[tuple[int, int]]:
    """Sorted spans that cover all ranges: neighbours joined across `gap` bytes while the span stays within `limit`."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted(r for r in ranges if r[1] > r[0]):
        if spans and start <= spans[-1][1] + gap and (end <= spans[-1][1] or end - spans[-1][0] <= limit):
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans


def _raise(error: OSError) -> None:
    raise error


def local_files(folder: str, depth: int | None = None) -> Iterator[str]:
    """Every file below a folder, at most `depth` levels down. Links are followed, each folder is visited once; a dangling link is
    listed as well, so that whoever opens it can name it."""
    visited: set[str] = set()
    top = folder.rstrip("/").count("/")
    for root, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(root)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        paths = (os.path.join(root, name) for name in names)
        yield from (path for path in paths if os.path.isfile(path) or os.path.islink(path))
        if depth is not None and root.rstrip("/").count("/") - top + 1 >= depth:
            folders.clear()
        folders.sort()


def local_kind(path: str) -> str:
    """"directory" or "file", by what a link points to; "other" for a dangling link and all else."""
    return "directory" if os.path.isdir(path) else "file" if os.path.isfile(path) else "other"
