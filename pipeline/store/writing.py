"""How a file of the output comes into being: whole or not at all, and for one of several callers when it must be new.

On a local disk a file is written under `<root>/.partial/`, fsynced, renamed, and its folder fsynced. A remote file is an
upload that completes on commit. Nothing here knows which store a file is in; `store.py` does.
"""

import errno
import hashlib
import io
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from pipeline.errors import OutputError
from pipeline.store.refusals import refusal
from pipeline.store.retries import Exhausted, code_of, described, failures, retried, status_of
from pipeline.store.s3 import is_s3

PARTIAL = ".partial"
BUFFER = 1 << 20
"""Bytes gathered before they are written."""
IN_ONE_PUT = 4 << 20
"""Bytes that are held of an upload before it is one of several parts."""
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How a file system says that it has no hard links (FAT, some network mounts)."""
ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space under the quota, or raise it",
    errno.EFBIG: "the file system or a limit (ulimit -f) allows no file of this size: lift it",
    errno.EROFS: "it is mounted read-only: make it writable, or choose another --output",
    errno.EACCES: "get the right to write there, or choose another --output",
    errno.ENOENT: "its folder or partial file is gone; is another run or person cleaning up there? See to it",
}

log = logging.getLogger(__name__)


def unwritable(url: str, error: BaseException) -> OutputError:
    """What to tell a user of a write that failed."""
    kind = error.errno if isinstance(error, OSError) else None
    code, status = code_of(error), status_of(error)
    if "Quota" in code:
        kind = errno.EDQUOT
    elif status == 507:
        kind = errno.ENOSPC
    elif isinstance(error, PermissionError) and kind != errno.EROFS:
        kind = errno.EACCES
    detail = str(error) if isinstance(error, Exhausted) else described(error)
    advice = refusal(error) if kind != errno.EDQUOT else ""
    advice = advice or ADVICE.get(kind or 0, "see to it")
    return OutputError(f"{url} cannot be written: {detail}; {advice}, then run the same command again")


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Errors of the block are errors of writing this file."""
    try:
        yield
    except failures(Exhausted) as error:
        raise unwritable(url, error) from error


class _Sink(io.RawIOBase):
    """Bytes on their way into one file; a write that fails names the file, whoever writes."""

    def __init__(self, file: IO[bytes], url: str) -> None:
        super().__init__()
        self._file, self._url = file, url
        self.abandoned = False

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self.abandoned:
            return len(content)
        with writing(self._url):
            return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _buffered(raw: IO[bytes], url: str) -> Iterator[IO[bytes]]:
    sink = _Sink(raw, url)
    file = io.BufferedWriter(sink, BUFFER)
    try:
        yield file
        file.flush()
    finally:
        sink.abandoned = True   # what a file that failed still holds goes nowhere
        file.close()


@contextmanager
def local_file(root: Path, target: Path) -> Iterator[IO[bytes]]:
    """A new local file that appears when the block ends without an error."""
    with ExitStack() as stack:
        with writing(str(target)):
            raw, partial = stack.enter_context(_partial_file(root, target))
        with _buffered(raw, str(target)) as file:
            yield file
        with writing(str(target)):
            _publish(raw, partial, target)


def write_local(root: Path, target: Path, content: bytes) -> None:
    """A whole local file. Raises OSError as it is: the caller tries again."""
    with _partial_file(root, target) as (raw, partial):
        _write_all(raw, content)
        _publish(raw, partial, target)


def create_new_local(root: Path, target: Path, content: bytes) -> bool:
    """Makes the file unless it is there: True for one of any number of callers. Raises OSError as it is.

    The name is given by a hard link, so that a reader sees the whole content. Without hard links the file is opened
    exclusively: still one True, but a reader may see it empty for a moment.
    """
    with _partial_file(root, target) as (raw, partial):
        _write_all(raw, content)
        os.fsync(raw.fileno())
        try:
            os.link(partial, target)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if partial.exists():
                raise
            return create_new_local(root, target, content)   # another run has cleared what it took for left over
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_exclusively(target, content)
    _sync_folder(target.parent)
    return True


def _create_exclusively(target: Path, content: bytes) -> bool:
    try:
        raw = target.open("xb", buffering=0)
    except FileExistsError:
        return False
    with raw:
        _write_all(raw, content)
        os.fsync(raw.fileno())
    _sync_folder(target.parent)
    return True


@contextmanager
def _partial_file(root: Path, target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """An unbuffered file below `.partial/`, gone when the block ends unless it was renamed."""
    partial = root / PARTIAL / f"{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    make_dirs(partial.parent)
    make_dirs(target.parent)
    raw = partial.open("wb", buffering=0)
    try:
        yield raw, partial
    finally:
        with suppress(OSError):   # a disk that fails: `clear_partial` of the next run removes it
            raw.close()
            partial.unlink(missing_ok=True)


def _publish(raw: IO[bytes], partial: Path, target: Path) -> None:
    os.fsync(raw.fileno())
    raw.close()   # a network file system may only now say that there was no room
    partial.replace(target)
    _sync_folder(target.parent)


def _write_all(raw: IO[bytes], content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[raw.write(rest) :]


def make_dirs(folder: Path) -> None:
    """Makes a folder and those above it so that they outlive a power cut."""
    if folder.is_dir():
        return
    make_dirs(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """The name of a renamed file is safe only with its folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_local(root: Path) -> int:
    """Removes what killed processes left below `.partial/`, not what this process writes now; returns how many files."""
    folder, count = root / PARTIAL, 0
    if folder.is_symlink() or not folder.is_dir():
        return 0
    for entry in list(os.scandir(folder)):
        if not entry.is_dir(follow_symlinks=False) and f".{os.getpid()}." not in entry.name:
            Path(entry.path).unlink(missing_ok=True)
            count += 1
    return count


@contextmanager
def remote_file(fs: Any, path: str, url: str) -> Iterator[IO[bytes]]:
    """A new file of a remote file system that appears when the block ends without an error."""
    with writing(url):
        upload = _Upload(fs, path, url)
    try:
        with _buffered(cast(IO[bytes], upload), url) as file:
            yield file
        with writing(url):
            upload.finish()
    except BaseException:
        upload.abandon()
        raise


class _Upload(io.RawIOBase):
    """A remote file in the making. On S3 a small one is kept until it is whole, for then it is one request instead of three; its
    `pipe_file` replaces an object whole or not at all, which others do not promise."""

    def __init__(self, fs: Any, path: str, url: str) -> None:
        super().__init__()
        self._fs, self._path, self._url = fs, path, url
        self._held = bytearray()
        self._begun: Any = None if is_s3(fs) else self._begin()

    def _begin(self) -> Any:
        return retried(lambda: _begun(self._fs, self._path), self._url)

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self._begun is None and len(self._held) + len(content) > IN_ONE_PUT:
            self._begun = self._begin()
            self._begun.write(bytes(self._held))
            self._held.clear()
        if self._begun is not None:
            return int(self._begun.write(content))
        self._held += content
        return len(content)

    def tell(self) -> int:
        return len(self._held) if self._begun is None else int(self._begun.tell())

    def finish(self) -> None:
        """Makes it appear."""
        if self._begun is None:
            retried(lambda: self._fs.pipe_file(self._path, bytes(self._held)), self._url)
            return
        self._begun.close()
        retried(lambda: _commit(self._begun), self._url)

    def abandon(self) -> None:
        """Leaves nothing of it."""
        if self._begun is not None:
            _abandon(self._begun, self._url)


def _begun(fs: Any, path: str) -> Any:
    upload = fs.open(path, "wb", autocommit=False)
    with suppress(ValueError):   # fsspec would hold it as long as the process lives
        fs.transaction.files.remove(upload)
    return upload


def _commit(upload: Any) -> None:
    try:
        upload.commit()
    except FileNotFoundError:   # S3 knows no such upload: committed by a try whose answer was lost, or cleared by another run
        if not _is_committed(upload):
            raise


def _is_committed(upload: Any) -> bool:
    """Whether the object is that of these parts: the ETag of a multipart object is the MD5 of its parts' MD5s."""
    parts = [bytes.fromhex(part["ETag"].strip('"')) for part in getattr(upload, "parts", None) or ()]
    expected = f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
    return bool(parts) and str(upload.fs.info(upload.path).get("ETag", "")).strip('"') == expected


def _abandon(upload: Any, url: str) -> None:
    with suppress(AttributeError):   # else fsspec's file closes itself when it is collected, and begins an upload anew
        upload.closed = True
    try:
        upload.discard()
    except failures() as error:
        log.warning("%s: an upload is left over (%s); the next run clears it", url, described(error))
