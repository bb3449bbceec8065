"""Output roots of shardmill among the inputs: what lies in one was written by a run, and is no input, but for an export that is
named itself."""

import json
import logging
import os
import re
from collections.abc import Iterable, Sequence

from pipeline.errors import InputError
from pipeline.input.patterns import SUPPORTED, Folders, Found, is_http, parts, searched
from pipeline.store.store import FileInfo, is_folder, open_url

RECORD = "run.json"
OURS = frozenset({"recipe", "outputs", "inputs"})
"""Keys of a root's run.json; others may call a file so."""
EXPORT = re.compile(r"shards|exports/[^/]+")
"""What of a root may be searched: the published export by its link, or one export. Others beside it are of former thresholds."""

log = logging.getLogger(__name__)


class RootNamed(InputError):
    """A root, or a part of one that is no export, was named as input."""


def without_roots(pattern: str, found: Found, folders: Folders) -> list[FileInfo]:
    """The files that were found, but for those in output roots at or below the folder that was searched; a warning counts these.
    Raises RootNamed where there are no others, and where that folder lies in a root and is no export."""
    if not found.was_searched or is_http(found.folder):
        return found.files
    _refuse_inside(pattern, found.folder, folders)
    roots: dict[str, str | None] = {}
    inside = [root_of(info.url.rpartition("/")[0], found.folder, folders, roots) for info in found.files]
    chosen = [info for info, root in zip(found.files, inside, strict=True) if root is None]
    for root in sorted({root for root in inside if root is not None}):
        if not chosen:
            raise RootNamed(f"input {pattern!r}: {root} is {_never_searched(root)}")
        log.warning("%s is an output root of shardmill: %d files in it are no input", root, inside.count(root))
    return chosen


def _refuse_inside(pattern: str, folder: str, folders: Folders) -> None:
    target = _target(folder)
    root = root_above(target, folders)
    if root is not None and not EXPORT.fullmatch(target.removeprefix(f"{root}/")):
        raise RootNamed(f"input {pattern!r}: {folder} lies in {root}, {_never_searched(root)}")


def _never_searched(root: str) -> str:
    is_local = root.startswith("/")   # an object store has no links
    export = f": {root}/shards" if is_local else f", which `shardmill path {root} shards` prints"
    return (
        f"an output root of shardmill, which is never searched; to take what it has exported, name that itself{export}; {SUPPORTED}"
    )


def root_above(url: str, folders: Folders) -> str | None:
    """The nearest output root above a folder; None where there is none. Each folder above is asked once for its run.json."""
    folder = url.rpartition("/")[0]
    if not folder or folder.endswith("/"):   # above the bucket
        return None
    if folder not in folders.roots:
        is_root = folders.has(folder, RECORD) and _is_record(folder)
        folders.roots[folder] = folder if is_root else root_above(folder, folders)
    return folders.roots[folder]


def root_of(folder: str, top: str, folders: Folders, known: dict[str, str | None]) -> str | None:
    """The output root that holds this folder, at or below `top`; None where none does. `known`: the answers so far."""
    if folder not in known:
        above = None if folder == top else root_of(folder.rpartition("/")[0], top, folders, known)
        known[folder] = above or (folder if f"{folder}/{RECORD}" in folders.files(folder) and _is_record(folder) else None)
    return known[folder]


def _is_record(folder: str) -> bool:
    """Whether the run.json in this folder is that of a root."""
    try:
        with open_url(f"{folder}/{RECORD}") as file:
            stored = json.loads(file.read())
    except (ValueError, RecursionError, PermissionError):   # damaged or not for us: a root all the same, if it has columns
        return is_folder(f"{folder}/columns")
    return isinstance(stored, dict) and stored.keys() >= OURS


def refuse_nested(output: str) -> None:
    """Raises InputError where the output, an absolute URL, lies in another root, whose runs and `gc` do not know of it."""
    root = root_above(_target(output), Folders())
    if root is not None:
        raise InputError(
            f"--output {output} lies in {root}, another output root of shardmill: choose an output elsewhere (a root may be moved)"
        )


def refuse_overlap(output: str, patterns: Sequence[str], urls: Iterable[str]) -> None:
    """Raises InputError where a run would search its own output root for shards, or read what it has written there itself. `output`
    and `urls` (of the shards) are absolute."""
    for pattern in (part for joined in patterns for part in parts(joined)):
        for folder in searched(pattern):
            if _holds(folder, output):
                raise InputError(
                    f"--output {output} lies in the input folder {folder}, which is searched for shards with all that is in it: "
                    f"choose an output elsewhere (a root may be moved), or name the shards alone, e.g. {folder}/*.tar"
                )
    for folder in sorted({url.rpartition("/")[0] for url in urls}):
        if _holds(output, folder):
            raise InputError(f"the input {folder} lies in the output root {output}: a run does not read what it writes")


def _holds(folder: str, inner: str) -> bool:
    """Whether one is the other, or a folder above it; links are followed."""
    if folder.startswith("/") != inner.startswith("/"):
        return False
    return f"{_target(inner)}/".startswith(f"{_target(folder).rstrip('/')}/")


def _target(url: str) -> str:
    """What a path means, links followed; a URL as it is."""
    return os.path.realpath(url) if url.startswith("/") else url
