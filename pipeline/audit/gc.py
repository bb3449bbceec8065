"""What a root holds that nothing in it names any more: columns, tables, verdicts, labels and exports of other recipes, models
and routes, columns of shards that are no longer inputs, and files that were never finished.

Named are the plan of run.json over its inputs and the export that current.json publishes. Only what has the shape of an
output of shardmill is looked at; links are neither followed nor removed, whatever they point to.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import RootError
from pipeline.outputs import OUTPUTS
from pipeline.plan import Plan
from pipeline.root.entries import MANIFEST, folders_of
from pipeline.root.existing import open_root, readable
from pipeline.root.lifecycle import SUCCESS
from pipeline.root.lock import PACE, Pace, held
from pipeline.root.manifest import folders, is_shard_file
from pipeline.store.blocks.index import INDEX, block_of, blocks_with
from pipeline.store.store import PARTIAL, Store
from schemas.answers.samples import Collected, UnusedFolder

TABLE = re.compile(r"[a-z_]+@[0-9a-f]{12}")
RUN_TABLE = re.compile("(" + "|".join(output.folder_name for output in OUTPUTS if not output.place) + ")@[0-9a-f]{12}")
EXPORT = re.compile(r"[0-9a-f]{12}")
OTHER, NO_INPUT, UNFINISHED = "of another recipe, model or input list", "of shards that are no longer inputs", "never finished"
REMOVALS = 16
"""Files removed at once: an object store takes its time for each."""


@dataclass(frozen=True)
class Waste:
    """Files directly in one folder that nothing names."""

    folder: str
    reason: str
    sizes: Mapping[str, int] = field(repr=False)
    """Bytes by file name."""

    def as_answer(self) -> UnusedFolder:
        """The folder and its waste in numbers, for the command line."""
        return UnusedFolder(folder=self.folder, reason=self.reason, files=len(self.sizes), bytes=sum(self.sizes.values()))


def collect(url: str, *, dry_run: bool = False, pace: Pace = PACE) -> Collected:
    """Removes what nothing in a root names any more, and says what it was; `dry_run` removes nothing. Removing also aborts the
    uploads of killed processes (`uploads`), which an object store keeps and charges for.

    A kill at any moment leaves a root that verifies and continues. Raises RootError for what is no root, and when a run is at work
    in it."""
    if dry_run:
        return _account(list(find_waste(url)), Store(url), removed=False)
    root = open_root(url).root   # what is no root gets no lock
    with held(root, pace) as lock:
        unused = list(find_waste(url))
        for waste in unused:
            lock.check()
            _remove(root, waste)
        lock.check()
        uploads = 0 if root.local is not None else root.clear_partial()
    return _account(unused, root, removed=True, uploads=uploads)


def find_waste(url: str) -> Iterator[Waste]:
    """The files that nothing names, folder by folder. Raises RootError for what is no root, was written by another version, or
    when it cannot be told what is published."""
    plan = open_root(url)
    _refuse_unknown(plan)
    active, root = readable(plan), plan.root
    current = {*folders(active), *published(root)}
    inputs = {shard.shard_id for shard in plan.shards}   # in quarantine or not: it may be tried again
    for folder in outputs(root):
        sizes = plain_files(root, folder)
        if folder not in current and (sizes or _is_empty(root, folder)):
            yield Waste(folder, OTHER, sizes)
        elif folder in active.columns.folders.values():
            used = inputs | blocks_with(root, folder, sizes, inputs)
            orphans = {n: size for n, size in sizes.items() if is_shard_file(n) and (block_of(n) or shard_of(n)) not in used}
            if orphans:
                yield Waste(folder, NO_INPUT, orphans)
    yield from unfinished(active)


def _refuse_unknown(plan: Plan) -> None:
    """The names of outputs are made anew from the recipe. Where they are not those that run.json has, another version of
    shardmill wrote it, and what looks like another recipe's is the run's own."""
    if plan.root.read_json("run.json")["outputs"] != json.loads(json.dumps(plan.describe())):
        raise RootError(
            f"{plan.root.url} was written by another version of shardmill, which gave its outputs other names, so nothing can be "
            "told to be of no use: run the same command again with this version first, it reuses what has not changed"
        )


def published(root: Store) -> set[str]:
    """The folders of the published export, whose readers may be at work, and of everything that a finished run promises."""
    try:
        folders = {folder for folder in root.read_json("current.json").values() if folder is not None}
    except FileNotFoundError:
        return set()
    except (ValueError, AttributeError, TypeError) as error:
        raise _damaged(root, "current.json", error) from None
    try:
        return folders | {folder for folder, _ in (folders_of(root) if root.exists(SUCCESS) else ())}
    except (ValueError, FileNotFoundError) as error:
        raise _damaged(root, MANIFEST, error) from None


def _damaged(root: Store, name: str, error: Exception) -> RootError:
    return RootError(
        f"{root.url}/{name} is damaged ({error}), so it is not known what is published: run the same command again first"
    )


def outputs(root: Store) -> Iterator[str]:
    """Every folder that has the name of an output and is no link."""
    for top, shape in (("columns", TABLE), ("tables", TABLE), ("", RUN_TABLE), ("exports", EXPORT)):
        if top and _is_link(root, top):
            continue
        for name in root.folders(top):
            path = f"{top}/{name}" if top else name
            if shape.fullmatch(name) and not _is_link(root, path):
                yield path


def unfinished(plan: Plan) -> Iterator[Waste]:
    """What is in `.partial`, the texts of a calibration that the next run continues aside, and what this process writes now."""
    root, going_on = plan.root, f"{plan.calibration.rpartition('/')[2]}-texts"
    if _is_link(root, PARTIAL):
        return
    for folder in [PARTIAL, *(f"{PARTIAL}/{name}" for name in root.folders(PARTIAL) if name != going_on)]:
        if not _is_link(root, folder):
            sizes = {name: size for name, size in plain_files(root, folder).items() if f".{os.getpid()}." not in name}
            if sizes or (folder != PARTIAL and _is_empty(root, folder)):
                yield Waste(folder, UNFINISHED, sizes)


def plain_files(root: Store, folder: str) -> dict[str, int]:
    """Bytes of the files directly in a folder, links aside."""
    return {name: size for name, size in root.sizes(folder).items() if not _is_link(root, f"{folder}/{name}")}


def shard_of(name: str) -> str:
    """The shard id of `<shard_id>.parquet` or `<shard_id>.<column>.npy`; a shard id may have dots."""
    return name.removesuffix(".parquet") if name.endswith(".parquet") else name.rsplit(".", 2)[0]


def links(root: Store) -> list[str]:
    """Paths of links where outputs would be, sorted; the link to the published export aside."""
    if root.local is None:
        return []
    tops = [root.local / name for name in ("columns", "tables", "exports", PARTIAL)]
    places = [root.local, *(place for place in tops if place.is_dir() and not place.is_symlink())]
    paths = [path.relative_to(root.local) for place in places for path in place.iterdir() if path.is_symlink()]
    return sorted(str(path) for path in paths if str(path) != "shards")


def _remove(root: Store, waste: Waste) -> None:
    """First the files whose existence says that others are there: half a folder is never taken for a whole one."""
    waves: dict[int, list[str]] = {}
    for name in sorted(waste.sizes):
        waves.setdefault(_wave(name), []).append(f"{waste.folder}/{name}")
    with ThreadPoolExecutor(REMOVALS) as pool:
        for _, paths in sorted(waves.items()):
            list(pool.map(root.remove, paths))
    if root.local is not None and waste.reason != NO_INPUT:
        _remove_empty(root.local / waste.folder)


def _wave(name: str) -> int:
    """Markers of tables and output shards are JSON, then parquet; vectors come before their parquet when they are written."""
    return 0 if name.endswith(".json") or name == INDEX else 1 if name.endswith(".parquet") else 2


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:   # something is in it that is not ours
        return


def _is_empty(root: Store, folder: str) -> bool:
    """Whether a folder holds nothing at all, ours or not; an object store has no empty folders."""
    return root.local is not None and not any((root.local / folder).iterdir())


def _is_link(root: Store, path: str) -> bool:
    return root.local is not None and (root.local / path).is_symlink()


def _account(unused: list[Waste], root: Store, *, removed: bool, **uploads: int) -> Collected:
    answers = tuple(waste.as_answer() for waste in unused)
    return Collected(
        root=root.url, removed=removed, folders=answers, links=tuple(links(root)),
        files=sum(answer.files for answer in answers), bytes=sum(answer.bytes for answer in answers), **uploads)
