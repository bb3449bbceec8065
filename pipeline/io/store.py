"""One folder, local or remote, that owns its paths: atomic create, ranged read, listing. The only fsspec import.

A file appears whole or not at all. Locally it is written under `<root>/.partial/`, fsynced and renamed (fsspec's own
commit moves from the system's temporary folder, which may be another file system). Remotely it is an upload that
completes on commit, so a store without rename never shows a partial file.
"""

import json
import os
import uuid
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.io.source import SourceFile, local_files, local_kind, merged

PARTIAL = ".partial"
READ_AHEAD = 8 << 20
"""Bytes that a remote file asks for at once when it is read from first to last."""


@dataclass(frozen=True)
class FileInfo:
    """A file as its store lists it. `version` changes when the content does: etag, or modification time and size."""

    url: str
    size: int
    version: str


def _version(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5", "crc32c", "generation"):
        if info.get(key):
            return str(info[key]).strip('"')
    return f"{info.get('mtime', info.get('LastModified', info.get('created', '')))}-{info.get('size')}"


def _resolved(url: str) -> tuple[Any, str]:
    """File system and path. No listing is cached: other processes write beside us, a stale listing hides files."""
    fs, path = url_to_fs(url, use_listings_cache=False)
    return fs, path.rstrip("/") or "/"


def absolute(url: str) -> str:
    """A URL that means the same everywhere: an absolute path, or protocol://path."""
    fs, path = _resolved(url)
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


@dataclass(frozen=True)
class Store:
    """A folder of files, named by paths relative to it. Pickles: it holds only its absolute URL."""

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", absolute(self.url))   # a worker has another working directory

    @cached_property
    def _target(self) -> tuple[Any, str]:
        return _resolved(self.url)

    @property
    def local(self) -> Path | None:
        """The folder as a local path; None when it is remote."""
        fs, root = self._target
        return Path(root) if isinstance(fs, LocalFileSystem) else None

    def _path(self, path: str) -> str:
        return f"{self._target[1]}/{path}" if path else self._target[1]

    def __truediv__(self, path: str) -> "Store":
        return Store(f"{self.url.rstrip('/')}/{path}")

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.url}   # a file system object does not travel

    def exists(self, path: str) -> bool:
        return bool(self._target[0].exists(self._path(path)))

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a folder, sorted; empty when there is no such folder."""
        return self._children(folder, "file")

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted; the one for files in the making aside."""
        return [name for name in self._children(folder, "directory") if name != PARTIAL]

    def _children(self, folder: str, kind: str) -> list[str]:
        fs, path = self._target[0], self._path(folder)
        return sorted(name.rsplit("/", 1)[-1] for name, found, _ in _listed(fs, path) if found == kind)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of the files directly in a folder, by name: one listing."""
        fs, path = self._target[0], self._path(folder)
        return {name.rsplit("/", 1)[-1]: int(item["size"]) for name, found, item in _listed(fs, path) if found == "file"}

    def size(self, path: str) -> int:
        return int(self._target[0].size(self._path(path)))

    def open(self, path: str) -> IO[bytes]:
        return cast(IO[bytes], self._target[0].open(self._path(path), "rb"))

    def read(self, path: str) -> bytes:
        return bytes(self._target[0].cat_file(self._path(path)))

    def read_json(self, path: str) -> Any:
        return json.loads(self.read(path))

    @contextmanager
    def create(self, path: str) -> Iterator[IO[bytes]]:
        """A new file that appears under its name only when the block ends without an error."""
        fs, _ = self._target
        if self.local is not None:
            yield from self._create_local(Path(self._path(path)))
            return
        file = fs.open(self._path(path), "wb", autocommit=False)
        try:
            yield file
            file.close()
        except BaseException:
            file.discard()
            raise
        file.commit()

    def _create_local(self, target: Path) -> Iterator[IO[bytes]]:
        partial = Path(self._target[1]) / PARTIAL / f"{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        partial.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def write(self, path: str, content: bytes) -> None:
        with self.create(path) as file:
            file.write(content)

    def write_json(self, path: str, value: Any) -> None:
        self.write(path, (json.dumps(value, indent=2, default=str) + "\n").encode())

    def append_line(self, path: str, line: str) -> None:
        """Adds a line to a local log file; a remote store has no append, so the line goes to a file of its own."""
        if self.local is None:
            self.write(f"{path}.d/{uuid.uuid4().hex}", line.encode())
            return
        target = Path(self._path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def point(self, name: str, target: str) -> None:
        """A link from `name` to the folder `target`, both in this store; replaced in one step. Only a local store has links."""
        if self.local is None:
            return
        link = self.local / PARTIAL / f"{name}.{os.getpid()}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        link.replace(self.local / name)

    def remove(self, path: str) -> None:
        fs = self._target[0]
        if fs.exists(self._path(path)):
            fs.rm(self._path(path), recursive=True)


def _listed(fs: Any, path: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(path, "file" or "directory", info) of what is directly in a folder; empty when there is no such folder."""
    try:
        listing = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(str(item["name"]).rstrip("/"), str(item["type"]), item) for item in listing]
    if isinstance(fs, LocalFileSystem):   # fsspec calls a symbolic link "other", whatever it points to
        found = [(name, local_kind(name) if kind == "other" else kind, item) for name, kind, item in found]
    return [item for item in found if item[0] != path]   # an object store lists the folder's own marker


def open_url(url: str, *, scattered: bool = False) -> SourceFile:
    """A file anywhere, for reading from the first byte to the last; `scattered`: here and there, without read-ahead."""
    fs, path = _resolved(url)
    if isinstance(fs, LocalFileSystem):
        return SourceFile(open(path, "rb", buffering=0 if scattered else -1))
    return SourceFile(fs.open(path, "rb", block_size=READ_AHEAD, cache_type="none" if scattered else "readahead"))


def exists(url: str) -> bool:
    fs, path = _resolved(url)
    return bool(fs.exists(path))


def read_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes [start, end) of one file for each range, in order; shorter where the file ends before.

    Ranges close to each other are one request, and requests are concurrent where the store can.
    """
    fs, path = _resolved(url)
    if isinstance(fs, LocalFileSystem):
        with open(path, "rb") as file:
            return [_read_at(file, start, end) for start, end in ranges]
    spans = merged(ranges)
    starts, ends = [s[0] for s in spans], [s[1] for s in spans]
    chunks = fs.cat_ranges([path] * len(spans), starts, ends, on_error="raise")
    found = []
    for start, end in ranges:
        span = max(bisect_right(starts, start) - 1, 0)
        found.append(bytes(chunks[span][start - starts[span] : end - starts[span]]) if end > start else b"")
    return found


def _read_at(file: IO[bytes], start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _file_info(fs: Any, name: str, info: dict[str, Any] | None) -> FileInfo:
    """`info` is what a listing said; locally the file is asked anew: a listing describes a link, not its target."""
    if isinstance(fs, LocalFileSystem):
        found = os.stat(name)
        return FileInfo(name, found.st_size, f"{found.st_mtime_ns}-{found.st_size}")
    info = fs.info(name) if info is None else info
    return FileInfo(str(fs.unstrip_protocol(name)), int(info["size"]), _version(info))


def stat(url: str) -> FileInfo:
    """Size and version of one file. Raises FileNotFoundError."""
    fs, path = _resolved(url)
    return _file_info(fs, path, None)


def is_folder(url: str) -> bool:
    fs, path = _resolved(url)
    return bool(fs.isdir(path))


def files_in(url: str) -> list[FileInfo]:
    """Every file directly in a folder, sorted by URL; empty when there is no such folder."""
    fs, path = _resolved(url)
    found = (_file_info(fs, name, info) for name, kind, info in _listed(fs, path) if kind == "file")
    return sorted(found, key=lambda info: info.url)


def find(url: str, suffixes: tuple[str, ...]) -> list[FileInfo]:
    """Every file below a folder, or matching a glob pattern, with one of these suffixes; sorted by URL."""
    fs, path = _resolved(url)
    if any(c in path for c in "*?[") and not fs.exists(path):
        found = {n: i for n, i in fs.glob(path, detail=True).items() if i["type"] != "directory"}
    elif isinstance(fs, LocalFileSystem):
        found = dict.fromkeys(local_files(path))
    else:
        found = {n: i for n, i in fs.find(path, detail=True).items() if i and i["type"] == "file"}
    chosen = [name for name in found if name.lower().endswith(suffixes)]
    return sorted((_file_info(fs, name, found[name]) for name in chosen), key=lambda info: info.url)


def known_protocols() -> list[str]:
    """Those that fsspec brings and those that were registered with it; a package may still be missing."""
    return sorted({*fsspec.available_protocols(), *fsspec.registry})
