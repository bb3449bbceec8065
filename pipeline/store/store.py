"""One folder, local or remote, that owns its paths: atomic create, ranged read, listing.

A file appears whole or not at all (how: `writing.py`). What fails for a passing reason is tried again (`retries.py`); what
fails for good is an OutputError of a `Store`, and an InputError of the functions that read inputs. FileNotFoundError stays.
"""

import io
import json
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, TypeVar

from pipeline.errors import InputError, OutputError, RootError
from pipeline.store import s3
from pipeline.store.listing import FileInfo, file_info, files_below, folder_entries, is_local, remove
from pipeline.store.places import absolute, is_chain, is_text, known_protocols, mount, pattern_of, resolved, shown
from pipeline.store.reading import READ_AHEAD, answers, opener, ranged, retried_read
from pipeline.store.refusals import refusal
from pipeline.store.remote.footers import forget
from pipeline.store.retries import Backoff, Exhausted, described, failures, retried
from pipeline.store.source import SourceFile
from pipeline.store.writing import PARTIAL, clear_local, create_new_local, local_file, make_dirs, remote_file, write_local, writing

__all__ = [
    "PARTIAL", "FileInfo", "Store", "absolute", "answers", "exists", "files_in", "find", "is_chain", "is_folder",
    "is_text", "known_protocols", "matching", "mount", "open_url", "read_ranges", "read_small", "shown", "stat",
]

T = TypeVar("T")
SOON = Backoff(tries=3, base=0.5, cap=1.0, seconds=3.0)


@dataclass(frozen=True)
class Store:
    """A folder of files, named by paths relative to it. Pickles: it holds only its absolute URL."""

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", absolute(self.url))   # a worker has another working directory

    @cached_property
    def _target(self) -> tuple[Any, str]:
        return resolved(self.url)

    @cached_property
    def local(self) -> Path | None:
        """The folder as a local path; None when it is remote."""
        fs, root = self._target
        return Path(root) if is_local(fs) else None

    @property
    def by_ranges(self) -> bool:
        """Whether `tail` is one request."""
        return s3.is_s3(self._target[0])

    def _path(self, path: str) -> str:
        return f"{self._target[1]}/{path}" if path else self._target[1]

    def _url(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/{path}".rstrip("/")

    def __truediv__(self, path: str) -> "Store":
        return Store(f"{self.url.rstrip('/')}/{path}")

    def __getstate__(self) -> dict[str, str]:
        return {"url": self.url}   # a file system object does not travel

    def _retried(self, path: str, action: Callable[[], T]) -> T:
        try:
            return retried(action, self._url(path))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise
        except failures(Exhausted) as error:
            why = str(error) if isinstance(error, Exhausted) else described(error)
            advice = f"{refusal(error) or 'see to it'}, then run the same command again"
            raise OutputError(f"{self._url(path)} cannot be read: {why}; {advice}") from error

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there. Raises OutputError where the store does not answer."""
        return self._retried(path, lambda: bool(self._target[0].exists(self._path(path))))

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in a folder, sorted; empty when there is no such folder."""
        return sorted(name for name, kind, _ in self._listed(folder) if kind == "file")

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted; the one for files in the making aside."""
        return sorted(name for name, kind, _ in self._listed(folder) if kind == "directory" and name != PARTIAL)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of the files directly in a folder, by name: one listing."""
        return {name: int(item["size"]) for name, kind, item in self._listed(folder) if kind == "file"}

    def _listed(self, folder: str) -> list[tuple[str, str, dict[str, Any]]]:
        entries = self._retried(folder, lambda: folder_entries(self._target[0], self._path(folder)))
        return [(name.rsplit("/", 1)[-1], kind, item) for name, kind, item in entries]

    def size(self, path: str) -> int:
        """Bytes of a file. Raises FileNotFoundError, or OutputError where the store does not answer."""
        return self._retried(path, lambda: int(self._target[0].size(self._path(path))))

    def open(self, path: str) -> IO[bytes]:
        """A file for reading. A read that fails goes on where it was, in the file as it was when it was opened."""
        fs, full = self._target[0], self._path(path)
        return io.BufferedReader(SourceFile(opener(fs, full, READ_AHEAD), partial(self._retried, path)))

    def read(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError, or OutputError where the store does not answer."""
        fs, full = self._target[0], self._path(path)
        options = s3.IN_ONE_REQUEST if s3.is_s3(fs) else {}
        return self._retried(path, lambda: bytes(fs.cat_file(full, **options)))

    def tail(self, path: str, count: int) -> bytes:
        """The last `count` bytes of a file, or one less; all of it where it is smaller. Raises as `read`."""
        return self._retried(path, lambda: bytes(self._target[0].cat_file(self._path(path), start=-count)))

    def ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As `read_ranges`, of a file of this store. Raises as `read`."""
        return self._retried(path, lambda: ranged(self._target[0], self._path(path), ranges))

    def read_json(self, path: str) -> Any:
        """The value in a JSON file. Raises FileNotFoundError, OutputError, or ValueError where it is not JSON."""
        return json.loads(self.read(path))

    def create(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """A new file that appears under its name only when the block ends without an error. Raises OutputError."""
        fs, full = self._target[0], self._path(path)
        if self.local is not None:
            return local_file(self.local, Path(full))
        return remote_file(fs, full, self._url(path))

    def write(self, path: str, content: bytes) -> None:
        """Makes or replaces a file, whole or not at all. Raises OutputError."""
        fs, full = self._target[0], self._path(path)
        if self.local is None and not s3.is_s3(fs):
            with self.create(path) as file:
                file.write(content)
            return
        with writing(self._url(path)):
            if self.local is not None:
                retried(lambda: write_local(Path(self._target[1]), Path(full), content), full)
            else:
                retried(lambda: fs.pipe_file(full, content), self._url(path))

    def write_json(self, path: str, value: Any) -> None:
        """Writes a value as indented JSON; what JSON does not know becomes a string. Raises OutputError."""
        self.write(path, (json.dumps(value, indent=2, default=str) + "\n").encode())

    def create_new(self, path: str, content: bytes) -> bool:
        """Makes a file unless it is there. Exactly one of any number of callers gets True; nobody sees a part of it.

        This holds on local disks with hard links (without them: see `create_new_local`) and where S3 answers conditional
        puts. On other remote stores it is as good as fsspec's `pipe_file(…, mode="create")` there, which may only look
        before it writes: two callers at the same moment could both get True.
        """
        fs, full = self._target[0], self._path(path)
        with writing(self._url(path)):
            if self.local is not None:
                return create_new_local(self.local, Path(full), content)
            if s3.is_s3(fs):
                return s3.create_new(fs, full, content)
            try:
                fs.pipe_file(full, content, mode="create")
            except FileExistsError:
                return False
            return True

    def clear_partial(self) -> int:
        """Removes what killed processes left half-written in this store, and returns how many files or uploads. Only for who
        holds the store's lock: a process that still writes there fails with an OutputError."""
        fs, root = self._target
        with writing(self._url(PARTIAL)):
            if self.local is not None:
                return clear_local(self.local)
            return s3.clear_uploads(fs, root) if s3.is_s3(fs) else 0

    def append_line(self, path: str, line: str) -> None:
        """Adds a line to a local log file; a remote store has no append, so the line goes to a file of its own."""
        if self.local is None:
            self.write(f"{path}.d/{uuid.uuid4().hex}", line.encode())
            return
        target = Path(self._path(path))
        with writing(str(target)):
            make_dirs(target.parent)
            with target.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def link(self, name: str, target: str) -> None:
        """A link from `name` to the folder `target`, both in this store; replaced in one step. Only a local store has links."""
        if self.local is None:
            return
        link = self.local / PARTIAL / f"{name}.{os.getpid()}"
        with writing(str(self.local / name)):
            make_dirs(link.parent)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            link.replace(self.local / name)

    def remove(self, path: str) -> None:
        """Removes a file, or a folder with what is in it, if there is one. Raises RootError where a link leads out of it."""
        forget(self._url(path))
        if self.local is not None:
            root, target = os.path.realpath(self.local), os.path.realpath(self._path(path))
            if os.path.commonpath([root, target]) != root:
                raise RootError(f"{self._url(path)} is a link to {target}, outside the root: remove the link and run again")
        with writing(self._url(path)):
            retried(lambda: remove(self._target[0], self._path(path)), self._url(path))


def open_url(url: str, *, scattered: bool = False) -> SourceFile:
    """A file anywhere, for reading from the first byte to the last; `scattered`: here and there, without read-ahead.

    A read that fails goes on where it was. Raises InputError when the store fails for good or the file changes meanwhile.
    """
    fs, path = resolved(url)
    opened = opener(fs, path, 0 if scattered else READ_AHEAD)
    return SourceFile(opened, partial(retried_read, url))


def exists(url: str) -> bool:
    """Whether a file or folder of the input is there. Raises InputError where its store does not answer."""
    fs, path = resolved(url)
    options = {"strict": True} if "http" in fs.protocol else {}   # else a server that fails counts as one without the file
    return retried_read(url, lambda: bool(fs.exists(path, **options)))


def read_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes [start, end) of one file for each range, in order; shorter where the file ends before.

    Ranges close to each other are one request, and requests are concurrent where the store can.
    """
    fs, path = resolved(url)
    return retried_read(url, lambda: ranged(fs, path, ranges))


def stat(url: str) -> FileInfo:
    """Size and version of one file. Raises FileNotFoundError."""
    fs, path = resolved(url)
    return retried_read(url, lambda: file_info(fs, path, None))


def is_folder(url: str) -> bool:
    """Whether this is a folder. Raises InputError where its store does not answer."""
    fs, path = resolved(url)
    return retried_read(url, lambda: bool(fs.isdir(path)))


def files_in(url: str) -> list[FileInfo]:
    """Every file directly in a folder, sorted by URL; empty when there is no such folder."""
    fs, path = resolved(url)
    listing = retried_read(url, lambda: folder_entries(fs, path))
    infos = (retried_read(name, partial(file_info, fs, name, info)) for name, kind, info in listing if kind == "file")
    return sorted(infos, key=lambda info: info.url)


def find(url: str, suffixes: tuple[str, ...]) -> list[FileInfo]:
    """Every file below a folder with one of these suffixes; sorted by URL."""
    fs, path = resolved(url)
    return _infos(fs, retried_read(url, lambda: files_below(fs, path)), suffixes)


def matching(folder: str, glob: str, suffixes: tuple[str, ...]) -> list[FileInfo]:
    """Every file that a glob below a folder names, with one of these suffixes; sorted by URL. Only `glob` is a pattern."""
    fs, path = resolved(folder)
    depth = None if "**" in glob else glob.count("/") + 1
    listing = retried_read(folder, lambda: files_below(fs, path, depth))
    pattern, start = pattern_of(glob), len(path.rstrip("/")) + 1
    return _infos(fs, {name: info for name, info in listing.items() if pattern.match(name[start:])}, suffixes)


def _infos(fs: Any, listing: dict[str, Any], suffixes: tuple[str, ...]) -> list[FileInfo]:
    chosen = [name for name in listing if name.lower().endswith(suffixes)]
    infos = (retried_read(name, partial(file_info, fs, name, listing[name])) for name in chosen)
    return sorted(infos, key=lambda info: info.url)


def read_small(url: str, limit: int) -> bytes:
    """The content of a file; of one that is larger than `limit`, a few bytes more than that and no more. Who asks waits for the
    answer, so it is tried for seconds only. Raises FileNotFoundError and its like, and InputError for what cannot be read."""
    fs, path = resolved(url)
    try:
        return retried(lambda: _first(fs, path, limit + 1), url, SOON)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise
    except failures(Exhausted) as error:
        raise InputError(f"{url} cannot be read: {error if isinstance(error, Exhausted) else described(error)}") from error


def _first(fs: Any, path: str, count: int) -> bytes:
    content = b""
    with fs.open(path, "rb") as file:   # from a web server without ranges it is a stream, which gives less than it is asked for
        while len(content) < count and (part := file.read(count - len(content))):
            content += part
    return content
