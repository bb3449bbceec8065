"""Input patterns to shards: which files are read, under which names, and which files are only sidecars."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import InputError
from pipeline.input.aside.left_out import STATS, Orphan, SortedOut, beside, left_aside, orphans, promised, sorted_out, why_none
from pipeline.input.loose.advice import loose_advice
from pipeline.input.patterns import PARQUET, SUPPORTED, TARS, Folders, named, parts, stem_of
from pipeline.input.roots import RootNamed, without_roots
from pipeline.store.store import FileInfo, absolute, is_text, shown


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
    kind: Literal["tar", "parquet", "gap"]
    """gap: samples that nobody can read; the file is what says so."""
    sidecar: str | None = None
    """img2dataset's parquet beside a tar."""
    stats: str | None = None
    """img2dataset's _stats.json beside a tar."""


def discover(patterns: Sequence[str], note: Callable[[str], None] = lambda text: None) -> list[Shard]:
    """The shards that the patterns name, ordered by relative URL, each file once.

    A pattern is a file, a folder (searched recursively, hidden files aside), a glob, a brace pattern, or several joined
    by `::`, local or any fsspec URL. JSON files and the sidecar parquet of a tar are no shards; neither is a parquet
    file without images, unless it was named itself, nor what lies in an output root, but for an export that was. Side
    files without their tar, and parquet files whose images are in columns that are not read, are shards of the kind `gap`;
    `note` gets a sentence on what else is left aside. Raises InputError, which names the pattern and what would do.
    """
    roots: dict[str, int] = {}
    by_url: dict[str, Shard] = {}
    folders = Folders()
    for pattern in (part for joined in patterns for part in parts(joined)):
        with _naming(pattern):
            place = named(pattern, folders)
            files = [info for searched in place.found for info in without_roots(pattern, searched, folders)]
            _check_names(pattern, files)
            found = sorted_out(pattern, [info for info in files if not folders.is_sidecar(info.url)])
            without_tar = _orphans(pattern, files, folders)
        root = place.root
        number = roots.setdefault(root, len(roots) + 1)
        prefix = "" if number == 1 else f"{number}:{root.rsplit('/', 1)[-1]}/"
        if not found.shards:
            why = why_none(found, without_tar)
            raise InputError(f"input {pattern!r}: no shard there{why}; {SUPPORTED}{loose_advice(pattern)}")

        def relative(info: FileInfo, root: str = root, prefix: str = prefix) -> str:
            return prefix + info.url.removeprefix(root).lstrip("/")

        for info in found.shards:
            by_url.setdefault(info.url, _shard(relative(info), info, folders))
        for info, orphan in [*((info, None) for info, _ in found.unreadable), *((one.file, one) for one in without_tar)]:
            by_url.setdefault(info.url, _gap(relative(info), info, orphan))
        aside = left_aside(relative(info) for info in _aside(pattern, found, folders) if info.url not in by_url)
        if aside:
            note(f"input {pattern!r}: left aside, for they are no shards: {aside}")
    shards = sorted(by_url.values(), key=lambda shard: shard.relative)
    _check_unique(shards)
    return shards


def expected_samples(shard: Shard) -> int | None:
    """How many samples the side files promise: `successes` of the stats, else the sidecar's rows of status success.

    None without side files, or if they are damaged themselves (they are only a second opinion).
    """
    return promised(shard.stats, shard.sidecar)


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
    except RootNamed:   # what it holds is no advice's business
        raise
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


def _orphans(pattern: str, files: list[FileInfo], folders: Folders) -> list[Orphan]:
    """Side files whose tar is not there, in the folders of these files. A tar of that name in another folder counts as theirs."""
    url, stems = absolute(pattern), {stem_of(info.url.rpartition("/")[2]) for info in files if info.url.lower().endswith(TARS)}

    def has_tar(side_file: str) -> bool:
        tar = f"{side_file.removesuffix(STATS)}.parquet" if side_file.endswith(STATS) else side_file
        return folders.is_sidecar(tar) or stem_of(tar.rpartition("/")[2]) in stems

    return [orphan for place in _places(files) for orphan in orphans(url, folders.files(place).values(), has_tar)]


def _aside(pattern: str, found: SortedOut, folders: Folders) -> list[FileInfo]:
    """What lies in a folder that is a pattern, in those of its shards, and is none though it may hold samples."""
    is_folder = all(info.url.startswith(f"{absolute(pattern).rstrip('/')}/") for info in found.shards)
    return [*found.aside, *beside([folders.files(place) for place in _places(found.shards)] if is_folder else [])]


def _places(files: Sequence[FileInfo]) -> list[str]:
    return list(dict.fromkeys(info.url.rpartition("/")[0] for info in files))


def _gap(relative: str, info: FileInfo, orphan: Orphan | None) -> Shard:
    """A shard that stands for samples which nobody can read."""
    sidecar, stats = (None, None) if orphan is None else (orphan.sidecar, orphan.stats)
    return Shard(
        _shard_id(relative), info.url, relative, info.size, info.version, "gap", None if sidecar is None else sidecar.url,
        None if stats is None else stats.url)


def _shard_id(relative: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", stem_of(relative.rsplit("/", 1)[-1]))[:100]
    return f"{name}-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:8]}"


def _shard(relative: str, info: FileInfo, folders: Folders) -> Shard:
    shard_id = _shard_id(relative)
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
