"""Files that people name who are not trusted: read only where they lie below one folder, whatever dots and links a name holds."""

import errno
import os
import posixpath
import stat as modes
from typing import Final, Literal

from pipeline.errors import InputError
from pipeline.store.listing import stat_version
from pipeline.store.reading import retried_read
from pipeline.store.retries import status_of
from pipeline.store.store import Store, absolute, read_ranges

Why = Literal["outside_root", "no_such_file", "not_allowed", "not_a_file", "too_large"]
MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
EMPTY: Final = 416
"""HTTP's answer to who asks for the first bytes of an empty file."""
NEVER: Final = ("::", "?versionId=", "\0")
"""What some file systems take for more than a name."""


class Refused(Exception):
    """A file that is not read; `why` says for which reason."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Below:
    """The files below the folder `root`, local or remote. Relative names begin at `base`, which is the root itself by default."""

    def __init__(self, root: str, base: str | None = None) -> None:
        self.root = absolute(root)
        self.base = self.root if base is None else absolute(base)
        self.is_local = Store(self.root).local is not None
        self._real = os.path.realpath(self.root) if self.is_local else self.root
        if self.is_local != (Store(self.base).local is not None):
            raise InputError(f"{self.base} and the root {self.root} are not in the same store")

    @property
    def holds_base(self) -> bool:
        """Whether relative names begin in the root."""
        return self.holds(os.path.realpath(self.base)) if self.is_local else f"{self.base}/".startswith(f"{self.root.rstrip('/')}/")

    def holds(self, real: str) -> bool:
        """Whether a local path without links is the root or lies below it."""
        return real == self._real or real.startswith(f"{self._real.rstrip('/')}/")

    def read(self, path: str, limit: int) -> tuple[bytes, str]:
        """The content of a file, and its version (empty for a remote one). Raises Refused, or InputError where its store fails.

        `limit`: bytes that it may have.
        """
        try:
            if self.is_local:
                real = self._real_path(path)
                content, version = retried_read(real, lambda: _regular(real, limit))
            else:
                content, version = read_ranges(self._url(path), [(0, limit + 1)])[0], ""
        except FileNotFoundError as error:
            raise Refused("no_such_file") from error
        except PermissionError as error:
            if not self.is_local:   # S3 says so of all files alike when the credentials are no longer good
                raise InputError(f"not allowed to read {error.filename or path!r}") from error
            raise Refused("not_allowed") from error
        except OSError as error:
            if status_of(error) == EMPTY:
                return b"", ""
            if error.errno in MISSING:
                raise Refused("no_such_file") from error
            if error.errno in (errno.ENXIO, errno.EISDIR):
                raise Refused("not_a_file") from error
            raise InputError(f"{path!r} cannot be read: {error.strerror or error}") from error
        if len(content) > limit:
            raise Refused("too_large")
        return content, version

    def version(self, path: str) -> str:
        """What `read` says of the version of a file; empty where it is not read."""
        if not self.is_local:
            return ""
        try:
            return stat_version(os.stat(self._real_path(path)))
        except (Refused, OSError):
            return ""

    def _real_path(self, path: str) -> str:
        path = path.removeprefix("file://")
        full = os.path.join(self.base, path)
        try:
            if "\\" in path and not os.path.lexists(full):   # a table that was written on Windows
                full = os.path.join(self.base, path.replace("\\", "/"))
            real = os.path.realpath(full)
        except ValueError as error:   # a zero byte, half a surrogate pair
            raise Refused("no_such_file") from error
        if not self.holds(real):
            raise Refused("outside_root")
        return real

    def _url(self, path: str) -> str:
        protocol, _, base = self.base.partition("://")
        if any(part in path for part in NEVER) or path.startswith("/"):
            raise Refused("outside_root")
        named, colon, full = path.partition("://")
        if not colon:
            full = f"{base}/{path}"
        elif named != protocol:
            raise Refused("outside_root")
        if {".", ".."} & set(full.split("/")):
            full = posixpath.normpath(full)
        if not f"{protocol}://{full}".startswith(f"{self.root.rstrip('/')}/"):
            raise Refused("outside_root")
        return f"{protocol}://{full}"


def _regular(real: str, limit: int) -> tuple[bytes, str]:
    """Content and version of a file of at most `limit` bytes. A link that was just put there is not followed, a pipe not waited
    for."""
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not modes.S_ISREG(status.st_mode):
            raise Refused("not_a_file")
        if status.st_size > limit:
            raise Refused("too_large")
        parts, missing = [], status.st_size
        while missing > 0 and (part := os.read(descriptor, missing)):
            parts.append(part)
            missing -= len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts), stat_version(status)
