"""A shard has a file of its own in a folder, or is in one of its blocks: who asks need not know which."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar

from pipeline.store.blocks.index import Index, Place, forget_indexes, fresh_index, index_of, known_index
from pipeline.store.blocks.rows import forget_rows
from pipeline.store.store import Store

T = TypeVar("T")
_lock = Lock()


def either(store: Store, path: str, of_file: Callable[[], T], of_block: Callable[[str, Place], T]) -> T:
    """What is asked of the file of a shard, `<folder>/<shard_id>.parquet`: from itself, or from the block that it is in. Where the
    index is known to have it, no file is tried in vain; where that index is older than the folder, it is read anew."""
    folder, _, name = path.rpartition("/")
    shard_id = name.removesuffix(".parquet")
    known = known_index(store, folder)
    place = None if known is None else known.place(shard_id)
    if place is not None:
        with suppress(FileNotFoundError):
            return of_block(folder, place)
    try:
        return of_file()
    except FileNotFoundError:
        place = _newer(store, folder, known).place(shard_id)
        if place is None:
            raise
        return of_block(folder, place)


def together(
    store: Store, folder: str, shard_ids: Sequence[str], of_shard: Callable[[str], T],
    of_block: Callable[[Place, Sequence[str]], T],
) -> list[T]:
    """What is asked of several shards of a folder, in order: of neighbours in a block at once. As `either`, which `of_shard` is to
    go by."""
    found: list[T] = []
    if known_index(store, folder) is None:   # the first by itself: where it is in a block, the others find the index read
        found, shard_ids = [of_shard(shard_id) for shard_id in shard_ids[:1]], shard_ids[1:]
    known, at = known_index(store, folder), 0
    for place, stretch in [(None, shard_ids)] if known is None else known.stretches(shard_ids):
        if place is None:
            found += map(of_shard, stretch)
        else:
            try:
                found.append(of_block(place, stretch))
            except FileNotFoundError:   # the index is older than the folder
                forget_indexes(store, folder)
                return found + together(store, folder, shard_ids[at:], of_shard, of_block)
        at += len(stretch)
    return found


def _newer(store: Store, folder: str, known: Index | None) -> Index:
    """An index that was read after the one that was known: once where several threads want it at the same time."""
    with _lock:
        now = known_index(store, folder)
        return fresh_index(store, folder) if now is None or now is known else now


def told_of(store: Store, path: str, folder: str) -> dict[str, Any]:
    """What the index says of a shard that it has."""
    facts = index_of(store, folder).facts(path.rpartition("/")[2].removesuffix(".parquet"))
    assert facts is not None
    return facts


def forget_blocks(store: Store) -> None:
    """What this process knows of the blocks of a store is asked anew: before a root is looked at that others may have changed."""
    forget_indexes(store)
    forget_rows(store)
