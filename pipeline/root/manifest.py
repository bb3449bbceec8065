"""The manifest of a finished run: size and SHA-256 of every file whose bytes are promised (design decision 1).

Written just before `_SUCCESS`, which carries its hash. `verify` reads every file against it; a rerun looks at sizes, so that
a file that was deleted or cut is made again. It is put together folder by folder: hashes that were written down when their files
were made are taken over, what is left is read by workers, and this process holds one folder's names and some ten thousand entries.
How it is read is `entries.py`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from pipeline.export.stored import META, stored_meta
from pipeline.input.inventory.stored import INPUTS
from pipeline.outputs import BESIDE_SHARDS, BY_NAME
from pipeline.plan import Plan
from pipeline.process.ahead import threads
from pipeline.root.entries import MANIFEST, OF_BEFORE, Entry, file_record
from pipeline.store.blocks.index import block_of, blocks_with
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import parquet_file, read_facts, read_table, write_table
from pipeline.work import Facts, PlainWork, Units, Work, beat
from schemas.tables import MANIFEST as SCHEMA

TOP = ("run.json", INPUTS, "current.json")
"""Promised files of the root itself."""
PIECES = f"{PARTIAL}/manifest"
"""Folder of what workers have hashed."""
FILES = 1_000
"""Of one item of work."""
ITEMS = 100
"""Items that are in hand at once: so many names are held."""
AT_ONCE = 16
"""Files that a process reads at once."""
ALONE_FILES, ALONE_BYTES = 5_000, 1 << 30
"""What the driver's process has read before workers would have begun."""
GROUP = 50_000
"""Entries of a row group, about."""


@dataclass(frozen=True)
class Files:
    """Promised files of one folder, as an item of work; its name is the file of their entries."""

    folder: str
    sizes: tuple[tuple[str, int], ...]
    """Name and bytes of each."""
    known: Mapping[str, str]
    """SHA-256 by name, of those that are known."""
    number: int

    def __str__(self) -> str:
        return f"{PIECES}/{self.number:06d}.parquet"

    @property
    def unread(self) -> list[int]:
        """Bytes of each file that is to be read."""
        return [size for name, size in self.sizes if name not in self.known and not name.endswith(".npy")]


@dataclass(frozen=True)
class Hash(PlainWork[Files]):
    """Writes the entries of some files to a file of its own."""

    store: Store

    @property
    def units(self) -> Units:
        return Units(row="file")

    def rows_of(self, item: Files) -> int:
        return len(item.sizes)

    def run(self, item: Files) -> Facts:
        write_table(self.store, str(item), entry_table(self.store, item), {})
        return {"rows": len(item.sizes)}


Workers = Callable[[Work[Files], Sequence[Files]], None]
"""Has every item done, as `Driver.must`."""


def folders(plan: Plan) -> dict[str, bool]:
    """Every folder that this plan's outputs are in, and whether it has a file for each input shard."""
    tables = {path: BY_NAME[name].per_shard for name, path in plan.folders.items() if path is not None}
    return {**dict.fromkeys(plan.columns.folders.values(), True), **tables}


def sizes(plan: Plan) -> Iterator[tuple[str, dict[str, int]]]:
    """Bytes of the promised files of this plan that are there, by name and sorted, folder by folder: one listing for each. Other
    inputs' columns may share a folder: they are not ours."""
    shard_ids = {shard.shard_id for shard in plan.shards}
    for folder, per_shard in folders(plan).items():
        listed = plan.root.sizes(folder)
        ours = blocks_with(plan.root, folder, listed, shard_ids) if per_shard else set()
        yield folder, {   # a listing has an order of its own
            name: size for name, size in sorted(listed.items())
            if not per_shard or not is_shard_file(name) or block_of(name) in ours or of_shards(name, shard_ids)}
    top = plan.root.sizes()
    yield "", {name: top[name] for name in TOP}


def of_shards(name: str, shard_ids: Collection[str]) -> bool:
    """Whether a file is of one of these shards: its name is a shard's id and what comes after a dot."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in shard_ids for end in range(1, len(parts)))


def is_shard_file(name: str) -> bool:
    """Whether a file, in a folder that has files for each input shard, is of one shard."""
    return name.endswith((".parquet", ".npy")) and name not in BESIDE_SHARDS


def write_manifest(plan: Plan, workers: Workers) -> str:
    """Writes the manifest and returns its SHA-256. `workers` read what is much; who reads changes no byte."""
    store = plan.root
    with parquet_file(store, MANIFEST, SCHEMA, {}) as write:
        for table in _row_groups(_entry_tables(plan, workers)):
            write(table)
    if OF_BEFORE in store.names():
        store.remove(OF_BEFORE)
    return str(file_record(store, MANIFEST)["sha256"])


def _entry_tables(plan: Plan, workers: Workers) -> Iterator[pa.Table]:
    """All entries in order, in tables of FILES at most."""
    items, removed = _items(plan), False
    while group := list(islice(items, ITEMS)):
        unread = [size for item in group for size in item.unread]
        if len(unread) <= ALONE_FILES and sum(unread) <= ALONE_BYTES:
            yield from (entry_table(plan.root, item) for item in group)
            continue
        workers(Hash(plan.root), group)
        yield from (read_table(plan.root, str(item)) for item in group)
        removed = True
    if removed:
        plan.root.remove(PIECES)


def _items(plan: Plan) -> Iterator[Files]:
    number = 0
    for folder, found in sizes(plan):
        whole = folder == plan.export and META in found
        known = stored_meta(plan.root, folder)["sha256"] if whole else {}   # output shards are most of a root's bytes
        names = list(found)
        for start in range(0, len(names), FILES):
            part = names[start : start + FILES]
            yield Files(folder, tuple((name, found[name]) for name in part), {n: known[n] for n in part if n in known}, number)
            number += 1


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of GROUP rows or some more."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(part.num_rows for part in held) >= GROUP:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def entry_table(store: Store, files: Files) -> pa.Table:
    """The entries of some files; those whose hash is known are not read."""
    prefix = f"{files.folder}/" if files.folder else ""
    known = {**files.known, **vector_hashes(store, files)}

    def entry(file: tuple[str, int]) -> Entry:
        name, size = file
        if name in known:
            return Entry(prefix + name, size, known[name])
        record = file_record(store, prefix + name, size)
        beat()
        return Entry(prefix + name, record["size"], record["sha256"])

    with threads(AT_ONCE, "hashes") as pool:
        found = list(pool.each(entry, files.sizes))
    return pa.Table.from_pylist([entry._asdict() for entry in found], schema=SCHEMA)


def vector_hashes(store: Store, files: Files) -> dict[str, str]:
    """SHA-256 of vectors, by name: the footer of their shard's columns has them, as they were hashed when they were written."""
    stems = dict.fromkeys(name.rsplit(".", 2)[0] for name, _ in files.sizes if name.endswith(".npy") and is_shard_file(name))
    with threads(AT_ONCE, "footers") as pool:
        facts = pool.each(lambda stem: _facts(store, f"{files.folder}/{stem}.parquet"), stems)
        return {name: digest for of_shard in facts for name, digest in of_shard.get("files", {}).items()}


def _facts(store: Store, path: str) -> Facts:
    try:
        return read_facts(store, path)
    except FileNotFoundError:   # arrays without a table beside them are read themselves
        return {}
