"""What a URL names: a file system and a path in it. The only fsspec import.

Whatever a name holds (`[ ] * ? { } # % ~ ::`, blanks, any letter), it is only a name. fsspec would take some of it for patterns,
chains or homes of users; so its functions that expand anything are not used, and patterns are matched by `pattern_of` alone.
"""

import os
import re
from typing import Any

import fsspec
from fsspec.config import conf
from fsspec.utils import glob_translate

from pipeline.errors import InputError
from pipeline.store import s3
from pipeline.store.listing import is_local

PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
LOCAL = ("file", "local")
VERSION = "?versionId="
"""What s3fs takes for the end of a key, wherever it is."""


def resolved(url: str) -> tuple[Any, str]:
    """File system and path. No listing is cached: other processes write beside us, a stale listing hides files.

    Raises InputError for what was meant as a chain of file systems or as a command, whoever named it, and for a name that cannot be
    told from another one.
    """
    if not is_text(url):
        raise InputError(f"'{shown(url)}' is not UTF-8, so no table or JSON can name it: rename it, or choose another place")
    protocol = protocol_of(url)
    if protocol is None or protocol in LOCAL:
        if not url.startswith("/") and is_chain(url):
            raise _never(url)
        return fsspec.filesystem("file", use_listings_cache=False), _local_path(url)
    if is_chain(url):
        raise _never(url)
    try:
        kind = fsspec.get_filesystem_class(protocol)
        named = {} if protocol in s3.PROTOCOLS else kind._get_kwargs_from_urls(url)
        fs = fsspec.filesystem(protocol, use_listings_cache=False, **{**named, **_options(protocol)})
        path = kind._strip_protocol(url)
    except (ValueError, ImportError) as error:   # unknown, or its package is missing
        raise InputError(f"{url!r}: {error}") from error
    if s3.is_s3(fs):
        fs.retries = 1   # botocore tries again below it, `retried` above it
        if VERSION in path:
            raise InputError(f"{url!r}: s3fs takes {VERSION} in a name for a version of another object: give it another name")
    return fs, str(path).rstrip("/") or "/"


def protocol_of(url: str) -> str | None:
    """`s3` of `s3://bucket/key`; None for a path."""
    match = None if url.startswith("/") else PROTOCOL.match(url)
    return None if match is None else match[1]


def is_chain(url: str) -> bool:
    """Whether fsspec's users would mean several file systems (`zip://a::s3://b`, `simplecache::c`) or a command by it."""
    if url.startswith("/"):
        return False
    first, *others = url.split("::")
    return url.startswith("pipe:") or (bool(others) and (
        first in known_protocols() or any("://" in part or part.startswith("pipe:") for part in others)
    ))


def is_text(name: str) -> bool:
    """Whether a name is UTF-8. Python carries the other bytes of a file's name as half characters, which nothing else takes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def shown(name: str) -> str:
    """A name for people, in which bytes that are not UTF-8 stand as `\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _never(url: str) -> InputError:
    return InputError(f"{url!r}: give a plain path or URL; chains (a::b) and commands (pipe:) are never followed")


def _local_path(url: str) -> str:
    """An absolute path; `~` alone or before a slash is the home of the user, and everywhere else a letter."""
    path = re.sub(r"\A(file|local):(//|(?=/))", "", url)
    if path == "~" or path.startswith("~/"):
        path = os.path.expanduser(path)
    if not path.startswith("/"):
        path = f"{os.getcwd()}/{'' if path == '.' else path.removeprefix('./')}"
    return path.rstrip("/") or "/"


def _options(protocol: str) -> dict[str, Any]:
    """Time limits and tries of the clients; what the user's fsspec configuration says comes first."""
    configured = conf.get(protocol, {})
    if protocol in s3.PROTOCOLS:
        return {"config_kwargs": {**s3.client_options(), **configured.get("config_kwargs", {})}}
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout  # takes 0.2 s, and few runs read from HTTP

        timeout = ClientTimeout(total=None, sock_connect=s3.CONNECT_SECONDS, sock_read=s3.READ_SECONDS)
        return {"client_kwargs": {"timeout": timeout, **configured.get("client_kwargs", {})}}
    return {}


def absolute(url: str) -> str:
    """A URL that means the same everywhere: an absolute path, or protocol://path."""
    fs, path = resolved(url)
    return path if is_local(fs) else str(fs.unstrip_protocol(path))


def mount(url: str) -> str:
    """The store that holds a file: `s3://bucket`, or the folder that a local file system is mounted at."""
    if protocol_of(url) is not None:
        return "/".join(url.split("/")[:3])
    folder = os.path.dirname(url)
    while not os.path.ismount(folder) and folder != "/":
        folder = os.path.dirname(folder)
    return folder


def known_protocols() -> list[str]:
    """The protocols that fsspec brings and those that were registered with it, sorted; a package may still be missing."""
    return sorted({*fsspec.available_protocols(), *fsspec.registry})


def pattern_of(glob: str) -> re.Pattern[str]:
    """What matches the paths that a glob names: `*` and `?` within a folder, `[…]` one letter, `**` any folders. Raises ValueError
    where it is none."""
    return re.compile(glob_translate(glob))
