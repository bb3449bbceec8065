"""What an input pattern names: a file, a folder, a glob or braces; which part of it is a name, and which files it means."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from braceexpand import braceexpand

from pipeline.errors import InputError
from pipeline.store.store import (
    FileInfo,
    absolute,
    exists,
    files_in,
    find,
    is_chain,
    is_folder,
    known_protocols,
    matching,
    stat,
)

TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst")
UNSUPPORTED = (".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.lz4", ".tar.z", ".tar.lzma", ".tar.br")
PARQUET = (".parquet",)
SUFFIXES = (*TARS, *UNSUPPORTED, *PARQUET)
SUPPORTED = f"supported are {', '.join((*TARS, *PARQUET))}"

MAX_EXPANSION = 1_000_000
"""Files that one brace pattern may name."""
RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?\}")
WILD = re.compile(r"[*?\[]")
SPECIAL = re.compile(r"[*?\[{]|::")
"""What may be meant as a pattern, or as several inputs."""


class Folders:
    """Listings of the folders that inputs are in, each made once. Empty where a store cannot list (HTTP, no permission)."""

    def __init__(self) -> None:
        self._listings: dict[str, dict[str, FileInfo]] = {}
        self.roots: dict[str, str | None] = {}
        """The output root that a folder is or lies in, as far as somebody has asked."""

    def files(self, folder: str) -> dict[str, FileInfo]:
        """The files directly in a folder, by URL."""
        if folder not in self._listings:
            try:
                listing = [] if is_http(folder) else files_in(folder)
            except (PermissionError, NotImplementedError):
                listing = []
            self._listings[folder] = {info.url: info for info in listing}
        return self._listings[folder]

    def has(self, folder: str, name: str) -> bool:
        """Whether there is a file of this name in a folder, which is not listed for that."""
        listed = self._listings.get(folder)
        return f"{folder}/{name}" in listed if listed else _is_there(f"{folder}/{name}")

    def beside(self, url: str, suffix: str) -> str | None:
        """The file of the same stem with this suffix, if it is there."""
        folder, _, name = url.rpartition("/")
        other = f"{folder}/{stem_of(name)}{suffix}"
        return other if other in self.files(folder) else None

    def is_sidecar(self, url: str) -> bool:
        """Whether this is a parquet file beside a tar of the same stem."""
        return url.lower().endswith(PARQUET) and any(self.beside(url, suffix) for suffix in (*TARS, *UNSUPPORTED))


@dataclass(frozen=True)
class Found:
    """Files that one name or glob means."""

    folder: str
    """What was searched; of a file that was named itself, its folder."""
    files: list[FileInfo]
    was_searched: bool = True


@dataclass(frozen=True)
class Named:
    """What a pattern names."""

    root: str
    """The folder that relative names begin at: the one that was named, or the one before the first wildcard."""
    found: list[Found]


def stem_of(name: str) -> str:
    """The file name without the suffix of a shard."""
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def is_http(url: str) -> bool:
    """Whether this is read by HTTP, where no folder can be listed and `?` begins a query."""
    return url.startswith(("http://", "https://"))


def parts(pattern: str) -> list[str]:
    """The inputs that `::` joins; one where it is part of the name of something that is there."""
    if "::" not in pattern or is_chain(pattern) or is_http(pattern):
        return pattern.split("::")
    return [pattern] if "::" not in _split(absolute(pattern))[1] else pattern.split("::")


def named(pattern: str, folders: Folders) -> Named:
    """The files that a pattern names. Raises InputError where that is nothing, or more than anybody means."""
    _check_protocol(pattern)
    url = absolute(pattern)
    if url.lower().endswith(UNSUPPORTED):
        raise InputError(f"input {pattern!r}: this compression is not supported; {SUPPORTED}")
    head, rest = _split(url)
    if not rest:
        found = _files(pattern, url, folders)
        return Named(found.folder, [found])
    return Named(head, [_below(pattern, head, relative, folders) for relative in _expanded(pattern, rest)])


def searched(pattern: str) -> list[str]:
    """Folders that a pattern has searched with all that is below them. No file is looked for."""
    url = absolute(pattern)
    head, rest = _split(url)
    if is_http(url):
        return []
    if not rest:
        return [url] if is_folder(url) else []
    names = [f"{head}/{relative}" for relative in _expanded(pattern, rest)]
    return [name.partition("/**")[0] for name in names if "/**" in name] + [name for name in names if _is_searched(name)]


def _is_searched(url: str) -> bool:
    return not url.lower().endswith(SUFFIXES) and not WILD.search(url) and is_folder(url)


def _split(url: str) -> tuple[str, str]:
    """What is only a name, and what is a pattern in the folder of that name: a part that looks like a pattern is none where there
    is a file or folder of just this name. Of HTTP, braces alone are patterns."""
    components = url.split("/")
    special = re.compile(r"\{") if is_http(url) else SPECIAL
    for at, component in enumerate(components):
        here = "/".join(components[: at + 1])
        if special.search(component) and (is_http(url) or not _is_there(here)):
            return "/".join(components[:at]), "/".join(components[at:])
    return url, ""


def _is_there(url: str) -> bool:
    try:
        return exists(url)
    except PermissionError:   # S3 says so of what is not there to those who may not list
        return False


def _below(pattern: str, head: str, relative: str, folders: Folders) -> Found:
    """What a path below a folder names, which may be a glob."""
    url = f"{head}/{relative}"
    folder, glob = (url, "") if is_http(url) else _split(url)
    if not glob or not WILD.search(glob):
        return _files(pattern, url, folders)
    while "/" in glob and not WILD.search(glob.partition("/")[0]):   # `a::b/*.tar`
        first, _, glob = glob.partition("/")
        folder = f"{folder}/{first}"
    try:
        return Found(folder, _seen(matching(folder, glob, SUFFIXES), folder))
    except ValueError as error:
        raise InputError(f"input {pattern!r}: {error}") from error


def _files(pattern: str, url: str, folders: Folders) -> Found:
    """What the name of a file or folder means."""
    if url.lower().endswith(SUFFIXES) and not _is_folder_named(url, folders):
        folder = url.rpartition("/")[0]
        listed = folders.files(folder)
        return Found(folder, [listed[url] if url in listed else stat(url)], was_searched=False)
    if not is_folder(url):
        is_file = exists(url)
        raise InputError(f"input {pattern!r}: {'not a shard' if is_file else 'no such file or folder'}: {url}; {SUPPORTED}")
    return Found(url, _seen(find(url, SUFFIXES), url))


def _seen(files: list[FileInfo], folder: str) -> list[FileInfo]:
    return [info for info in files if not is_hidden(info.url.removeprefix(folder))]


def is_hidden(relative: str) -> bool:
    """Whether a part of the path, relative to the named folder, starts with a dot."""
    return any(part.startswith(".") for part in relative.split("/"))


def _is_folder_named(url: str, folders: Folders) -> bool:
    """A folder may be called like a shard, e.g. `images.parquet/` as Spark writes it."""
    return url not in folders.files(url.rpartition("/")[0]) and is_folder(url)


def _expanded(pattern: str, text: str) -> Iterator[str]:
    count = 1
    for first, last, step in RANGE.findall(text):
        count *= abs(int(last) - int(first)) // max(int(step or 1), 1) + 1
    names = [] if count > MAX_EXPANSION else _expand(pattern, text)
    if not names:
        raise InputError(f"input {pattern!r}: the braces name more than {MAX_EXPANSION:,} files")
    yield from names


def _expand(pattern: str, text: str) -> list[str]:
    try:
        names = list(islice(braceexpand(text), MAX_EXPANSION + 1))
    except ValueError as error:
        raise InputError(f"input {pattern!r}: the braces do not match") from error
    return names if len(names) <= MAX_EXPANSION else []


def _check_protocol(pattern: str) -> None:
    protocol = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)(://|:)", pattern)
    if not pattern.strip():
        raise InputError("input: an empty pattern")
    if protocol is None or (protocol[2] == ":" and protocol[1] != "pipe"):
        return
    if protocol[1] == "pipe":
        raise InputError(f"input {pattern!r}: pipe: runs a command, which shardmill never does; name the file by its URL")
    if protocol[1] not in known_protocols():
        raise InputError(f"input {pattern!r}: unknown protocol {protocol[1]}://; known are {', '.join(known_protocols())}")
