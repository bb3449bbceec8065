"""The files of a finished pass as blocks: a run of many shards has files by its rows, not by its shards.

Blocks are written by workers, one item a block; then the index of the folder names them, and only then the files that they
replace go. Stopped anywhere, nothing is lost, and the next run goes on: a shard is in a whole block, or has its files. Which
shards a block has follows from the shards and their rows alone, so the files are the same however the run went.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pipeline.columns import TOGETHER, Rows
from pipeline.driver import Driver
from pipeline.outputs import BESIDE_SHARDS
from pipeline.store.blocks.groups import divided
from pipeline.store.blocks.index import (
    INDEX,
    Entry,
    Index,
    block_of,
    blocks_with,
    entries_of,
    forget_indexes,
    fresh_index,
    write_index,
)
from pipeline.store.blocks.several import columns_of, said_of, stored_matrix
from pipeline.store.blocks.writing import Part, Said, block_name, write_block
from pipeline.store.store import Store
from pipeline.work import Facts, PlainWork, Units

BLOCK_ROWS = 1 << 17
"""Rows of a block at most, if it has more than one shard: 256 MB of embeddings of 1,024 values."""
LEAST_SHARDS = 64
"""Fewer keep their files."""
LARGE_ROWS = BLOCK_ROWS // 8
"""Shards that have more rows than this on average keep their files: blocks would be few shards each."""
REMOVALS = 16
"""Files removed at once: an object store takes its time for each."""


@dataclass(frozen=True)
class Block:
    """A block that is to be written, as an item of work."""

    folder: str
    shard_ids: tuple[str, ...]
    rows: int

    @property
    def name(self) -> str:
        return block_name(self.shard_ids)

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"


@dataclass(frozen=True)
class Compact(PlainWork[Block]):
    """Writes blocks from the files, or other blocks, that have their shards."""

    store: Store

    @property
    def units(self) -> Units:
        return Units("block", "row")

    def rows_of(self, item: Block) -> int:
        return item.rows

    def run(self, item: Block) -> Facts:
        store, folder = self.store, item.folder
        store, folder = self.store, item.folder
        held = divided(
            said_of(store, folder, item.shard_ids), lambda said: min(1.0, said.rows / TOGETHER), most=len(item.shard_ids))
        write_block(store, folder, [self._part(folder, shards) for shards in held])
        return {"rows": item.rows}

    def _part(self, folder: str, shards: tuple[Said, ...]) -> Part:
        """Some shards, which are read when it is their turn."""
        store, (first, *_), ids = self.store, shards, [said.shard_id for said in shards]
        vectors = {name.removeprefix(f"{first.shard_id}.").removesuffix(".npy") for name in first.facts.get("files", {})}
        return Part(
            shards, partial(columns_of, store, folder, ids),
            {name: partial(stored_matrix, store, folder, ids, name) for name in sorted(vectors)})


def are_compacted(shards: int, rows: int) -> bool:
    """Whether the files of so many shards of a run, which has so many rows, become blocks."""
    return shards > LEAST_SHARDS and rows <= LARGE_ROWS * shards


def compact(store: Store, driver: Driver, rows: Rows, folders: Sequence[str | None]) -> None:
    """Makes blocks of what passes over all shards of a run have written to these folders. Raises ShardmillError for a block that
    cannot be written."""
    if not are_compacted(len(rows.shard_ids), rows.total):
        return
    indexes = {folder: fresh_index(store, folder) for folder in folders if folder is not None}
    wanted = {folder: wanted_blocks(index, folder, rows) for folder, index in indexes.items()}
    missing = [block for folder, blocks in wanted.items() for block in blocks if not store.exists(f"{folder}/{block.name}.parquet")]
    if missing:
        driver.must("blocks", Compact(store), missing)
    for folder, blocks in wanted.items():
        with driver.phase("files that are in blocks"):
            tidy(store, folder, {block.name for block in blocks}, indexes[folder])


def wanted_blocks(index: Index, folder: str, rows: Rows) -> list[Block]:
    """The blocks that a folder should have, beside those that are at least half full: of the shards that are in none of these, in
    the order of the run."""
    counts = dict(zip(rows.shard_ids, rows.counts, strict=True))
    blocks = index.shards_by_block().values()
    full = {s for shard_ids in blocks if sum(counts.get(s, 0) for s in shard_ids) >= BLOCK_ROWS // 2 for s in shard_ids}
    return list(cut_into_blocks(folder, rows, full))


def cut_into_blocks(folder: str, rows: Rows, full: set[str]) -> Iterator[Block]:
    """Neighbours that are not in `full`, up to BLOCK_ROWS together."""
    shards: list[str] = []
    total = 0
    for shard_id, count in zip(rows.shard_ids, rows.counts, strict=True):
        if shards and (shard_id in full or total + count > BLOCK_ROWS):
            yield Block(folder, tuple(shards), total)
            shards, total = [], 0
        if shard_id not in full:
            shards.append(shard_id)
            total += count
    if shards:
        yield Block(folder, tuple(shards), total)


def tidy(store: Store, folder: str, wanted: AbstractSet[str], before: Index | None = None) -> None:
    """Writes the index of a folder and removes the files that it replaces: those of shards that are in blocks, and blocks whose
    shards are all in others. Where a shard is in several, a `wanted` one has it, else the largest. `before`: as in `Index`."""
    index = fresh_index(store, folder, before)
    size = {block: len(shards) for block, shards in index.shards_by_block().items()}
    places: dict[str, Entry] = {}
    for entry in index.entries():
        other = places.setdefault(entry.shard_id, entry)
        if _rank(entry, wanted, size) > _rank(other, wanted, size):
            places[entry.shard_id] = entry
    used = {entry.place.block for entry in places.values()}
    names = store.names(folder)
    replaced = [name for name in names if _replaced(name, used, places.keys())]
    if not (replaced or not index.complete or len(places) < len(index.ids)):
        return
    write_index(store, folder, places.values())
    with ThreadPoolExecutor(REMOVALS if store.local is None else 1) as pool:
        for wave in (True, False):   # what says that vectors are there goes before them
            list(pool.map(store.remove, [f"{folder}/{name}" for name in replaced if name.endswith(".parquet") is wave]))
    forget_indexes(store, folder)


def take_out(store: Store, folder: str, shard_ids: AbstractSet[str]) -> None:
    """Takes shards out of the blocks of a folder: what else those have is written as blocks anew."""
    if not blocks_with(store, folder, store.names(folder), shard_ids):
        return
    index, work = fresh_index(store, folder), Compact(store)
    kept = [entry for entry in index.entries() if entry.shard_id not in shard_ids]
    for block, shards in index.shards_by_block().items():
        left = [entry for entry in kept if entry.place.block == block]
        if 0 < len(left) < len(shards):
            left.sort(key=lambda entry: entry.place.first)
            made = Block(folder, tuple(entry.shard_id for entry in left), sum(entry.place.rows for entry in left))
            work.run(made)
            kept = [entry for entry in kept if entry.place.block != block] + entries_of(store, folder, made.name)
    write_index(store, folder, kept)
    used = {entry.place.block for entry in kept}
    for name in sorted(store.names(folder), key=lambda name: not name.endswith(".parquet")):
        if block_of(name) not in {None, *used}:
            store.remove(f"{folder}/{name}")


def _rank(entry: Entry, wanted: AbstractSet[str], size: Mapping[str, int]) -> tuple[bool, int, str]:
    block = entry.place.block
    return block in wanted, size[block], block


def _replaced(name: str, used: set[str], in_blocks: AbstractSet[str]) -> bool:
    block = block_of(name)
    if block is not None:
        return block not in used
    if name == INDEX or name in BESIDE_SHARDS or not name.endswith((".parquet", ".npy")):
        return False
    shard_id = name.removesuffix(".parquet") if name.endswith(".parquet") else name.rsplit(".", 2)[0]
    return shard_id in in_blocks
