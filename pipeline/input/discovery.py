"""Input patterns to shards: which files are read, under which names, and which files are only sidecars."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.input.loose.advice import loose_advice
from pipeline.input.parquet import DAMAGE, image_column
from pipeline.input.patterns import PARQUET, SUPPORTED, Folders, named, parts, stem_of
from pipeline.input.roots import without_roots
from pipeline.store.source import SourceFile
from pipeline.store.store import FileInfo, absolute, is_text, open_url, shown

STATS = "_stats.json"
MAX_STATS = 1 << 20
"""Bytes of a _stats.json; img2dataset writes some hundred."""
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
    file without images, unless it was named itself, nor what lies in an output root. Raises InputError, which names the
    pattern and what would do.
    """
    roots: dict[str, int] = {}
    by_url: dict[str, Shard] = {}
    folders = Folders()
    for pattern in (part for joined in patterns for part in parts(joined)):
        with _naming(pattern):
            place = named(pattern, folders)
            files = [info for found in place.found for info in without_roots(pattern, found, folders)]
            _check_names(pattern, files)
            chosen = _with_images(pattern, [info for info in files if not folders.is_sidecar(info.url)])
        root = place.root
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


def _check_names(pattern: str, files: Sequence[FileInfo]) -> None:
    """Raises InputError for a name that no table or JSON can hold."""
    unreadable = [info.url for info in files if not is_text(info.url)]
    if unreadable:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise InputError(
            f"input '{shown(pattern)}': the name of {shown(unreadable[0])}{more} is not UTF-8: rename it, "
            "e.g. convmv -f latin1 -t utf8 -r --notest FOLDER"
        )


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
