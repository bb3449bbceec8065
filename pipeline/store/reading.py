"""Reading a file as it was when it was opened, from a store that may fail for a while. The file system is handed in."""

import errno
import io
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeVar, cast

from pipeline.errors import InputError, SourceError
from pipeline.store.listing import is_local, stat_version, version
from pipeline.store.places import resolved
from pipeline.store.refusals import is_wordless, refusal
from pipeline.store.retries import Exhausted, code_of, described, failures, retried, status_of
from pipeline.store.source import merged_ranges

T = TypeVar("T")

READ_AHEAD = 8 << 20
"""Bytes that a remote file asks for at once when it is read from first to last."""


def retried_read(url: str, action: Callable[[], T]) -> T:
    """What the store of an input answers, in the end. Raises InputError, a SourceError where the store would answer the same for
    any other file; FileNotFoundError, PermissionError and what else a file system says for good come as they are."""
    try:
        return retried(action, url)
    except failures(Exhausted, ValueError) as error:
        named = _input_error(url, _worded(url, error))
        if named is error:
            raise
        raise named from error


def _worded(url: str, error: Exception) -> Exception:
    """The error, or what the store says when it is asked for a byte instead of for facts."""
    if is_wordless(error):
        fs, path = resolved(url)
        try:
            fs.cat_file(path, start=0, end=1)
        except failures(ValueError) as said:
            return said if code_of(said) not in ("", "NoSuchKey") else error
    return error


def _input_error(url: str, error: Exception) -> Exception:
    advice, status = refusal(error), status_of(error)
    if advice:
        return SourceError(f"{url} cannot be read: {described(error)}; {advice}, then run the same command again")
    if isinstance(error, Exhausted):
        return InputError(f"{url} cannot be read: {error}")
    if status in (401, 403):
        return PermissionError(errno.EACCES, "not allowed to read", url)
    if status == 412 or (status is None and isinstance(error, OSError) and error.errno == errno.EBUSY):
        return InputError(f"{url} changed while it was read: run again to read it anew")
    return error if isinstance(error, OSError) else InputError(f"{url} cannot be read: {described(error)}")


def answers(url: str) -> bool:
    """Whether a byte of this file can be read now; it is asked for once."""
    fs, path = resolved(url)
    try:
        with opener(fs, path, 0)() as file:
            file.read(1)
    except failures(ValueError, InputError) as error:
        return status_of(error) == 416   # it is empty
    return True


def opener(fs: Any, path: str, read_ahead: int) -> Callable[[], IO[bytes]]:
    """Opens a file for reading; without read-ahead, no byte is read that was not asked for."""

    def opened() -> IO[bytes]:
        if is_local(fs):
            return open(path, "rb", buffering=-1 if read_ahead else 0)
        options = {"block_size": read_ahead or READ_AHEAD, "cache_type": "readahead" if read_ahead else "none"}
        return _opened_by_http(fs, path, options) if "http" in fs.protocol else fs.open(path, "rb", **options)

    return unchanged_only(opened)


def unchanged_only(open_file: Callable[[], IO[bytes]]) -> Callable[[], IO[bytes]]:
    """Opens a file; a second time only if it is what it was. Raises OSError EBUSY when it has changed."""
    first: list[str] = []

    def opened() -> IO[bytes]:
        file = open_file()
        first.append(_version_of(file))
        if first[-1] != first[0]:
            file.close()
            raise OSError(errno.EBUSY, "changed while it was read")
        return file

    return opened


def _opened_by_http(fs: Any, path: str, options: dict[str, Any]) -> IO[bytes]:
    """Has the server say so (412) when the file is not what it was; s3fs does that by itself."""
    info = fs.info(path)
    if info.get("size") is None or info.get("partial") is False:
        raise InputError(f"{path} cannot be read: its server tells no size or allows no ranges; copy the file elsewhere")
    if info["size"] == 0:
        return io.BytesIO()
    file = fs.open(path, "rb", size=info["size"], **options)
    file.details = info
    etag = info.get("ETag", "")
    if etag and not etag.startswith("W/"):
        file.kwargs["headers"] = {**file.kwargs.get("headers", {}), "If-Match": etag}
    return cast(IO[bytes], file)


def _version_of(file: IO[bytes]) -> str:
    details = getattr(file, "details", None)   # what the store said when a remote file was opened
    if isinstance(details, dict):
        return version(details)
    return stat_version(os.fstat(file.fileno())) if isinstance(file, io.FileIO | io.BufferedReader) else ""


def ranged(fs: Any, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes [start, end) of one file for each range. Remotely, those close to each other are one request."""
    if is_local(fs):
        return _read_local(path, ranges)
    spans = merged_ranges(ranges)
    starts, ends = [s[0] for s in spans], [s[1] for s in spans]
    chunks = fs.cat_ranges([path] * len(spans), starts, ends, on_error="raise")
    contents = []
    for start, end in ranges:
        span = max(bisect_right(starts, start) - 1, 0)
        contents.append(bytes(chunks[span][start - starts[span] : end - starts[span]]) if end > start else b"")
    return contents


def _read_local(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    contents = []
    with open(path, "rb") as file:
        for start, end in ranges:
            file.seek(start)
            contents.append(file.read(end - start))
    return contents
