"""A file of uids as a sorted array, and which values of a column are among them.

A uid is 128 bits, written as 32 hex digits. Files: .txt (one a line; empty lines and those that begin with # are none), .parquet (a
column of text), .npy (DataComp's "u8,u8", the high and the low 64 bits, or text). Nothing is unpickled. In memory is what is kept,
16 bytes a uid, and what is read of the file at once.
"""

import hashlib
import io
import re
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from threading import Lock
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import InputError, SourceError
from pipeline.recipe.anywhere import file_anywhere
from pipeline.store.store import open_url

Keys = NDArray[np.bytes_]
KEY = np.dtype("S16")
"""What is 16 bytes long compares as its bytes do, though numpy leaves zeros at the end aside."""
DIGITS = 32
HEX = re.compile(rb"[0-9a-fA-F]{32}")
PINNED = re.compile(r"#uids=([0-9a-f]{32})\Z")
AT_ONCE = 1 << 17
"""Uids that are read at once."""
HELD = 2
"""Lists that a process holds."""


def parted(named: str) -> tuple[str, str | None]:
    """The URL of a list and the digest of what it has to hold, from `URL#uids=DIGEST`; None where none is said."""
    match = PINNED.search(named)
    return (named[: match.start()], match[1]) if match else (named, None)


def anywhere(named: str) -> str:
    """A list by a name that means the same on every machine. Raises ValueError for what cannot be one."""
    url, digest = parted(named)
    url = file_anywhere(url)
    if PurePosixPath(url).suffix not in READERS:
        raise ValueError(f"{url} is no list of uids: give a file .txt (one a line), .parquet or .npy")
    return pinned(url, digest)


def pinned(url: str, digest: str | None) -> str:
    """`URL#uids=DIGEST`."""
    return url if digest is None else f"{url}#uids={digest}"


def digest_of(keys: Keys) -> str:
    """32 hex digits: of the uids alone, however they are written and in whatever order."""
    return hashlib.sha256(keys.tobytes() if not keys.flags.c_contiguous else keys.data).hexdigest()[:DIGITS]


def read_uids(url: str, column: str = "uid") -> Keys:
    """S16 [n], ascending and distinct: the uids of a file; `column`: of a parquet file that has several of text. Raises
    FileNotFoundError and its like, and InputError, which names the file and the line or row, for what is no list."""
    held = bytearray()
    with open_url(url, scattered=url.endswith(".parquet")) as raw, io.BufferedReader(raw, 1 << 20) as file:
        for part in READERS[PurePosixPath(url).suffix](file, url, column):
            held += part
    keys: Keys = np.frombuffer(held, KEY)
    keys.sort()
    repeated = keys[1:] == keys[:-1]
    return np.delete(keys, np.flatnonzero(repeated)) if repeated.any() else keys


def _of_text(file: IO[bytes], url: str, column: str) -> Iterator[bytes]:
    first = 1
    while lines := file.readlines(AT_ONCE * (DIGITS + 1)):
        stripped = [line.strip() for line in lines]
        for number, line in enumerate(stripped, first):
            if line and not line.startswith(b"#") and not HEX.fullmatch(line):
                raise InputError(f"{url}, line {number}: {_shown(line)} is no uid: one has 32 hex digits")
        first += len(lines)
        yield unhexlify(b"".join(line for line in stripped if not line.startswith(b"#")))


def _of_parquet(file: IO[bytes], url: str, column: str) -> Iterator[bytes]:
    try:
        stored = pq.ParquetFile(file, pre_buffer=False)
        name = _text_column(stored.schema_arrow, url, column)
        first = 0
        for batch in stored.iter_batches(AT_ONCE, columns=[name], use_threads=False):
            values = batch.column(0).cast(pa.string())
            yield _bytes_of(values, url, first)
            first += len(values)
    except pa.ArrowException as error:
        raise InputError(f"{url} is no parquet file that can be read: {error}") from None


def _text_column(schema: pa.Schema, url: str, column: str) -> str:
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    for name in (column, "uid", *(texts if len(texts) == 1 else ())):
        if name in texts:
            return str(name)
    raise InputError(f"{url} has no column {column} of text, but {', '.join(schema.names)}")


def _of_npy(file: IO[bytes], url: str, column: str) -> Iterator[bytes]:
    try:
        version = np.lib.format.read_magic(file)
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = head(file)
    except ValueError as error:
        raise InputError(f"{url} is no .npy file: {error}") from None
    halves = dtype.names is not None and [dtype[name] for name in dtype.names] == [np.dtype("u8")] * 2
    if len(shape) != 1 or not (halves or dtype.kind in "SU"):
        raise InputError(f"{url} holds {dtype}{list(shape)}: a list of uids is u8,u8 or text, of one dimension")
    for first in range(0, shape[0], AT_ONCE):
        count = min(AT_ONCE, shape[0] - first)
        content = file.read(count * dtype.itemsize)
        if len(content) < count * dtype.itemsize:
            raise InputError(f"{url} is cut: it has {first + len(content) // dtype.itemsize} of {shape[0]} uids")
        values = np.frombuffer(content, dtype)
        if halves:
            yield np.stack([values[name] for name in dtype.names or ()], 1).astype(">u8").tobytes()
        else:
            yield _bytes_of(pa.array(values.astype(str), pa.string()), url, first)


READERS: Mapping[str, Callable[[IO[bytes], str, str], Iterable[bytes]]] = {
    ".txt": _of_text, ".parquet": _of_parquet, ".npy": _of_npy}
"""The uids of an open file, 16 bytes each, some at a time."""


def _bytes_of(values: Any, url: str, first: int) -> bytes:
    """16 bytes of each uid, string [n]. Raises InputError, which names the row."""
    good = _are_uids(values)
    if not good.all():
        place = int(np.flatnonzero(~good)[0])
        raise InputError(f"{url}, row {first + place}: {_shown(values[place].as_py())} is no uid: one has 32 hex digits")
    return unhexlify(_digits(values))


def _are_uids(values: Any) -> NDArray[np.bool_]:
    """bool [n]: which texts are 32 hex digits."""
    return np.asarray(pc.fill_null(pc.match_substring_regex(values, r"\A[0-9a-fA-F]{32}\z"), False), bool)


def _digits(values: Any) -> bytes:
    """The texts, of which each has 32 letters, one after another."""
    return b"".join(values.cast(pa.binary()).to_pylist())


def _shown(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return repr(text if text is None or len(text) <= 2 * DIGITS else f"{text[: 2 * DIGITS]}…")


_lock = Lock()
_held: dict[str, Keys] = {}


def uids_of(named: str) -> Keys:
    """The uids of a list by its name in a recipe, read once by a process. Raises SourceError, for no sample is to blame, where the
    file is gone, or holds something else than its name says."""
    url, digest = parted(named)
    with _lock:
        if named in _held:
            return _held[named]
        try:
            keys = read_uids(url)
        except OSError as error:
            raise SourceError(f"the list of uids {url} cannot be read here ({error.strerror or error}): put it back") from None
        except InputError as error:
            raise SourceError(str(error)) from None
        if digest is None:
            return keys   # it may be another tomorrow
        if digest_of(keys) != digest:
            raise SourceError(f"the list of uids {url} is not what it was when its rule was made: put that back, or run again")
        while len(_held) >= HELD:
            _held.pop(next(iter(_held)))
        _held[named] = keys
        return keys


def among(column: pa.ChunkedArray, named: str) -> pa.ChunkedArray:
    """bool [n]: which of the texts of a column are uids of a list; null is none, and neither is any other text."""
    keys, values = uids_of(named), column.combine_chunks()
    found = np.array(_are_uids(values))
    wanted = np.frombuffer(unhexlify(_digits(values.filter(pa.array(found)))), KEY)
    if len(keys):
        found[found] = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    else:
        found[:] = False
    return pa.chunked_array([found])
