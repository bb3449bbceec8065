"""Output roots of shardmill among the inputs: what lies in one was written by a run, and is no input unless it is named itself."""

import json
import logging
import os
from collections.abc import Iterable, Sequence

from pipeline.errors import InputError
from pipeline.input.patterns import SUPPORTED, Folders, Found, is_http, parts, searched
from pipeline.store.store import FileInfo, is_folder, open_url

RECORD = "run.json"
OURS = frozenset({"recipe", "outputs", "inputs"})
"""Keys of a root's run.json; others may call a file so."""

log = logging.getLogger(__name__)


def without_roots(pattern: str, found: Found, folders: Folders) -> list[FileInfo]:
    """The files that were found, but for those in output roots at or below the folder that was searched; a warning counts these.
    Raises InputError where there are no others."""
    if not found.was_searched or is_http(found.folder):
        return found.files
    roots: dict[str, str | None] = {}
    inside = [root_of(info.url.rpartition("/")[0], found.folder, folders, roots) for info in found.files]
    chosen = [info for info, root in zip(found.files, inside, strict=True) if root is None]
    for root in sorted({root for root in inside if root is not None}):
        if not chosen:
            raise InputError(
                f"input {pattern!r}: {root} is an output root of shardmill, which is never searched; to take what it has exported, "
                f"name that itself: {root}/shards; {SUPPORTED}"
            )
        log.warning("%s is an output root of shardmill: %d files in it are no input", root, inside.count(root))
    return chosen


def root_of(folder: str, top: str, folders: Folders, known: dict[str, str | None]) -> str | None:
    """The output root that holds this folder, at or below `top`; None where none does. `known`: the answers so far."""
    if folder not in known:
        above = None if folder == top else root_of(folder.rpartition("/")[0], top, folders, known)
        known[folder] = above or (folder if _is_root(folder, folders) else None)
    return known[folder]


def _is_root(folder: str, folders: Folders) -> bool:
    record = f"{folder}/{RECORD}"
    if record not in folders.files(folder):
        return False
    try:
        with open_url(record) as file:
            stored = json.loads(file.read())
    except (ValueError, RecursionError):   # damaged: a root all the same, if it has columns
        return is_folder(f"{folder}/columns")
    return isinstance(stored, dict) and stored.keys() >= OURS


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
    if folder.startswith("/"):
        folder, inner = os.path.realpath(folder), os.path.realpath(inner)
    return f"{inner}/".startswith(f"{folder.rstrip('/')}/")
