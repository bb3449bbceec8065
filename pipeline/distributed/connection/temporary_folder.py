"""Ray's temporary folder, which holds its sockets: what Ray asks of it, said before Ray starts."""

import os
import tempfile

from ray._common.utils import get_default_ray_temp_dir

from pipeline.errors import InputError

SOCKET = 107
"""Bytes of the longest path of a socket."""
BELOW = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")

ROOM = 1 << 20
"""Bytes without which Ray's processes wait for each other for half a minute."""


def require_temporary_folder() -> None:
    """Raises InputError where Ray cannot use it."""
    folder = os.path.abspath(get_default_ray_temp_dir())
    fault = _fault(folder)
    if fault is not None:
        raise InputError(
            f"Ray cannot start: its temporary folder {os.path.dirname(folder)} {fault}. Set RAY_TMPDIR to a folder on this machine "
            f"that you may write to, with a path of at most {SOCKET - BELOW - len('/ray')} ASCII characters; or run with --local")


def _fault(folder: str) -> str | None:
    if not folder.isascii():
        return "has characters in its path that Ray cannot use"
    if len(folder) + BELOW > SOCKET:
        return f"has a path of {len(os.path.dirname(folder))} bytes, too long for its sockets"
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            space = os.statvfs(folder)
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    return "has no room left on its device" if space.f_bavail * space.f_frsize < ROOM else None
