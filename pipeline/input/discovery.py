"""Input patterns to shards: which files are read, under which names, and which files are only sidecars."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from braceexpand import braceexpand

from pipeline.errors import InputError
from pipeline.input.loose.advice import loose_advice
from pipeline.input.parquet import DAMAGE, image_column
from pipeline.store.source import SourceFile
from pipeline.store.store import FileInfo, absolute, exists, files_in, find, is_folder, known_protocols, open_url, stat

TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst")
UNSUPPORTED = (".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.lz4", ".tar.z", ".tar.lzma", ".tar.br")
PARQUET = (".parquet",)
SUFFIXES = (*TARS, *UNSUPPORTED, *PARQUET)
STATS = "_stats.json"
SUPPORTED = f"supported are {', '.join((*TARS, *PARQUET))}"

MAX_STATS = 1 << 20
"""Bytes of a _stats.json; img2dataset writes some hundred."""
MAX_EXPANSION = 1_000_000
"""Files that one brace pattern may name."""
RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?\}")
LOOKUPS = 32
"""Files opened at once to see what they hold: discovery waits for the store, not for the processor."""


@dataclass(frozen=True)
class Shard:
    """One input file. `shard_id` names it in every output: stem + 8 hex digits of the SHA-256 of `relative`."""

    shard_id: str
    url: str
    relative: str
    """URL relative to the declared root: the folder named, or the folder part before the first wildcard. Files of the
    second and later roots start with `<number of the root>:<its name>/`."""
    size: int
    version: str
    """Changes when the file does."""
    kind: Literal["tar", "parquet"]
    sidecar: str | None = None
    """img2dataset's parquet beside a tar."""
    stats: str | None = None
    """img2dataset's _stats.json beside a tar."""


def discover(patterns: Sequence[str]) -> list[Shard]:
    """The shards that the patterns name, ordered by relative URL, each file once.

    A pattern is a file, a folder (searched recursively, hidden files aside), a glob, a brace pattern, or several joined
    by `::`, local or any fsspec URL. JSON files and the sidecar parquet of a tar are no shards; neither is a parquet
    file without images, unless it was named itself. Raises InputError, which names the pattern and what would do.
    """
    roots: dict[str, int] = {}
    by_url: dict[str, Shard] = {}
    folders = Folders()
    for pattern in (part for joined in patterns for part in joined.split("::")):
        with _naming(pattern):
            root, files = _named(pattern, folders)
            chosen = _with_images(pattern, [info for info in files if not folders.is_sidecar(info.url)])
        number = roots.setdefault(root, len(roots) + 1)
        prefix = "" if number == 1 else f"{number}:{root.rsplit('/', 1)[-1]}/"
        if not chosen:
            raise InputError(f"input {pattern!r}: no shard there; {SUPPORTED}{loose_advice(pattern)}")
        for info in chosen:
            relative = prefix + info.url.removeprefix(root).lstrip("/")
            by_url.setdefault(info.url, _shard(relative, info, folders))
    shards = sorted(by_url.values(), key=lambda shard: shard.relative)
    _check_unique(shards)
    return shards


def expected_samples(shard: Shard) -> int | None:
    """How many samples the side files promise: `successes` of the stats, else the sidecar's rows of status success.

    None without side files, or if they are damaged themselves (they are only a second opinion).
    """
    if shard.stats is not None:
        try:
            with open_url(shard.stats) as file:
                successes = json.loads(file.read(MAX_STATS)).get("successes")
        except (ValueError, AttributeError, RecursionError, FileNotFoundError):
            successes = None
        if type(successes) is int:
            return successes
    if shard.sidecar is None:
        return None
    try:
        with open_url(shard.sidecar, scattered=True) as file:
            return _successes(file)
    except FileNotFoundError:
        return None


def _successes(sidecar: SourceFile) -> int | None:
    try:
        opened = pq.ParquetFile(sidecar)
        if "status" not in opened.schema_arrow.names:
            return int(opened.metadata.num_rows)
        return int(pc.sum(pc.equal(opened.read(["status"], use_threads=False).column("status"), "success")).as_py() or 0)
    except DAMAGE:
        if sidecar.failed:
            raise
        return None


class Folders:
    """Listings of the folders that inputs are in, each made once. Empty where a store cannot list (HTTP, no permission)."""

    def __init__(self) -> None:
        self._listings: dict[str, dict[str, FileInfo]] = {}

    def files(self, folder: str) -> dict[str, FileInfo]:
        """The files directly in a folder, by URL."""
        if folder not in self._listings:
            try:
                listing = [] if _is_http(folder) else files_in(folder)
            except (PermissionError, NotImplementedError):
                listing = []
            self._listings[folder] = {info.url: info for info in listing}
        return self._listings[folder]

    def beside(self, url: str, suffix: str) -> str | None:
        """The file of the same stem with this suffix, if it is there."""
        folder, _, name = url.rpartition("/")
        other = f"{folder}/{stem_of(name)}{suffix}"
        return other if other in self.files(folder) else None

    def is_sidecar(self, url: str) -> bool:
        """Whether this is a parquet file beside a tar of the same stem."""
        return url.lower().endswith(PARQUET) and any(self.beside(url, suffix) for suffix in (*TARS, *UNSUPPORTED))


def stem_of(name: str) -> str:
    """The file name without the suffix of a shard."""
    suffix = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def _named(pattern: str, folders: Folders) -> tuple[str, list[FileInfo]]:
    """The declared root and the files that a pattern names."""
    _check_protocol(pattern)
    url = absolute(pattern)
    wild = re.search(r"\{" if _is_http(url) else r"[*?\[{]", url)
    if wild is not None and not _is_http(url) and exists(url):
        wild = None   # a file whose name looks like a pattern
    if url.lower().endswith(UNSUPPORTED):
        raise InputError(f"input {pattern!r}: this compression is not supported; {SUPPORTED}")
    if wild is None:
        files = _files(pattern, url, folders)
        return url.rpartition("/")[0] if [info.url for info in files] == [url] else url, files
    files = [info for expanded in _expanded(pattern, url) for info in _files(pattern, expanded, folders)]
    return url[: wild.start()].rpartition("/")[0], files


@contextmanager
def _naming(pattern: str) -> Iterator[None]:
    """What a file system says for good of a file that this pattern names, with the pattern."""
    try:
        yield
    except InputError as error:
        advice = "" if error.__cause__ is not None else loose_advice(pattern)   # a store that failed is not asked again
        if not advice:
            raise
        raise InputError(f"{error}{advice}") from error
    except FileNotFoundError as error:
        raise InputError(f"input {pattern!r}: no such file: {error.filename or error}") from error
    except PermissionError as error:
        raise InputError(f"input {pattern!r}: not allowed to read {error.filename or error}") from error
    except OSError as error:
        raise InputError(f"input {pattern!r}: {error.filename or 'it'} cannot be read: {error.strerror or error}") from error


def _files(pattern: str, url: str, folders: Folders) -> list[FileInfo]:
    """What one file, folder or glob names."""
    is_glob = not _is_http(url) and any(c in url for c in "*?[") and not exists(url)
    if not is_glob and url.lower().endswith(SUFFIXES) and not is_folder_named(url, folders):
        listed = folders.files(url.rpartition("/")[0])
        return [listed[url] if url in listed else stat(url)]
    if not is_glob and not is_folder(url):
        is_file = exists(url)
        raise InputError(f"input {pattern!r}: {'not a shard' if is_file else 'no such file or folder'}: {url}; {SUPPORTED}")
    base = re.split(r"[*?\[]", url)[0] if is_glob else url
    return [info for info in find(url, SUFFIXES) if not is_hidden(info.url.removeprefix(base))]


def is_folder_named(url: str, folders: Folders) -> bool:
    """A folder may be called like a shard, e.g. `images.parquet/` as Spark writes it."""
    return url not in folders.files(url.rpartition("/")[0]) and is_folder(url)


def is_hidden(relative: str) -> bool:
    """Whether a part of the path, relative to the named folder, starts with a dot."""
    return any(part.startswith(".") for part in relative.split("/"))


def _expanded(pattern: str, url: str) -> Iterator[str]:
    count = 1
    for first, last, step in RANGE.findall(url):
        count *= abs(int(last) - int(first)) // max(int(step or 1), 1) + 1
    names = [] if count > MAX_EXPANSION else _expand(pattern, url)
    if not names:
        raise InputError(f"input {pattern!r}: the braces name more than {MAX_EXPANSION:,} files")
    yield from names


def _expand(pattern: str, url: str) -> list[str]:
    try:
        names = list(islice(braceexpand(url), MAX_EXPANSION + 1))
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
    try:
        absolute(pattern)
    except ImportError as error:
        raise InputError(f"input {pattern!r}: {error}") from error


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _with_images(pattern: str, files: list[FileInfo]) -> list[FileInfo]:
    """Without the parquet files that hold no images; damaged ones stay, so that reading names them."""
    with ThreadPoolExecutor(LOOKUPS) as pool:
        schemas = list(pool.map(_parquet_schema, files))
    chosen = []
    for info, schema in zip(files, schemas, strict=True):
        if schema is None or image_column(schema) is not None:
            chosen.append(info)
        elif absolute(pattern) == info.url:
            names = ", ".join(schema.names)
            raise InputError(f"input {pattern!r}: no column of image bytes (binary or struct of bytes, path) in {names}")
    return chosen


def _parquet_schema(info: FileInfo) -> pa.Schema | None:
    if not info.url.lower().endswith(PARQUET):
        return None
    with open_url(info.url, scattered=True) as file:
        try:
            return pq.read_schema(file)
        except DAMAGE:
            if file.failed:
                raise
            return None


def _shard(relative: str, info: FileInfo, folders: Folders) -> Shard:
    stem = stem_of(relative.rsplit("/", 1)[-1])
    name = re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:100]
    shard_id = f"{name}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:8]}"
    if info.url.lower().endswith(PARQUET):
        return Shard(shard_id, info.url, relative, info.size, info.version, "parquet")
    sidecar, stats = folders.beside(info.url, ".parquet"), folders.beside(info.url, STATS)
    return Shard(shard_id, info.url, relative, info.size, info.version, "tar", sidecar, stats)


def _check_unique(shards: list[Shard]) -> None:
    by_id: dict[str, Shard] = {}
    for shard in shards:
        other = by_id.setdefault(shard.shard_id, shard)
        if other is not shard:
            raise InputError(f"inputs {other.url} and {shard.url} would share the name {shard.shard_id}: rename one")
