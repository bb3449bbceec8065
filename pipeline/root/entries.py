"""The entries of a manifest, one after another: nobody who reads it holds all of them. How it is made is `manifest.py`."""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RootError
from pipeline.process.ahead import Threads
from pipeline.store.blocks.index import blocks_among, fresh_index
from pipeline.store.store import Store
from schemas.tables import MANIFEST as SCHEMA

MANIFEST, OF_BEFORE = "manifest.parquet", "manifest.json"
"""Roots that were finished before there was the first have the second, which is read as well."""
PIECE = 1 << 20
WHOLE = 8 << 20
"""Bytes of a file that is read in one request."""


class Entry(NamedTuple):
    """A promised file."""

    path: str
    size: int
    sha256: str

    @property
    def folder(self) -> str:
        """Where it is; empty for the root itself."""
        return self.path.rpartition("/")[0]


def manifest_file(store: Store) -> str:
    """The name of the manifest that is there. Raises FileNotFoundError where there is none."""
    top = set(store.names())
    for name in (MANIFEST, OF_BEFORE):
        if name in top:
            return name
    raise FileNotFoundError(f"{store.url}/{MANIFEST}")


def entries(store: Store, name: str | None = None) -> Iterator[Entry]:
    """Every entry of a manifest (`name`, where it is known which one is there), in its order. Raises ValueError when the file is no
    manifest, FileNotFoundError when there is none, RootError for a path that leaves the root: what a manifest names may be
    removed, and another's root may name anything."""
    name = manifest_file(store) if name is None else name
    for entry in _of_table(store) if name == MANIFEST else _of_json(store):
        if any(part in ("", ".", "..") for part in entry.path.split("/")):
            raise RootError(f"{store.url}/{name} names {entry.path!r}, which shardmill never wrote: use another --output")
        yield entry


def _of_table(store: Store) -> Iterator[Entry]:
    try:
        with store.open(MANIFEST) as file:
            table = pq.ParquetFile(file, pre_buffer=False)
            if not table.schema_arrow.equals(SCHEMA):
                raise ValueError(f"{MANIFEST} is not a manifest")
            for batch in table.iter_batches(use_threads=False):
                yield from map(Entry, *(column.to_pylist() for column in batch.columns))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, TypeError) as error:
        raise ValueError(f"{MANIFEST} is not a manifest: {error}") from error


def _of_json(store: Store) -> Iterator[Entry]:
    stored: Any = json.loads(store.read(OF_BEFORE))
    if not isinstance(stored, dict) or not isinstance(stored.get("files"), dict):
        raise ValueError(f"{OF_BEFORE} is not a manifest")
    for path, entry in stored["files"].items():
        yield Entry(path, entry["size"], entry["sha256"])


def folders_of(store: Store) -> Iterator[tuple[str, Iterator[Entry]]]:
    """The entries folder by folder. Raises as `entries`."""
    return groupby(entries(store), lambda entry: entry.folder)


def damaged_sizes(store: Store) -> list[str]:
    """Paths of the manifest that are missing or have another size: what a listing can tell, without reading a byte. One folder's
    listing is held at a time. Raises as `entries`."""
    damaged = []
    for folder, listed in folders_of(store):
        sizes = store.sizes(folder)
        damaged += [entry.path for entry in listed if sizes.get(entry.path.rpartition("/")[2]) != entry.size]
    return damaged


def faults(store: Store, pool: Threads) -> Iterator[str]:
    """One sentence for every file of the manifest that is missing or whose bytes are not those that were written, in its order.
    Raises as `entries`."""
    yield from filter(None, pool.each(partial(fault_of, store), entries(store)))


def fault_of(store: Store, entry: Entry) -> str:
    """What is wrong with a file; empty where it is as it was written."""
    try:
        same = file_record(store, entry.path, entry.size) == {"size": entry.size, "sha256": entry.sha256}
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return f"{entry.path} is missing"
    return "" if same else f"{entry.path}: its bytes are not those that were written"


def file_record(store: Store, path: str, size: int | None = None) -> dict[str, Any]:
    """Size in bytes and SHA-256 (hex) of a file; one that is small by the `size` that is known of it is one request. Raises
    FileNotFoundError."""
    if store.local is None and size is not None and size <= WHOLE:
        content = store.read(path)
        return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    digest, size = hashlib.sha256(), 0
    with store.open(path) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


def unlisted(store: Store, folders: Collection[str], shard_ids: Sequence[str]) -> Iterator[str]:
    """Paths of the tables of these shards, in each of these folders, that neither an entry nor a block that one names has. The
    names of one folder of the manifest are held at a time."""
    missing = dict.fromkeys(folders, shard_ids)
    for folder, listed in folders_of(store):
        if folder in missing:
            there = {entry.path.rpartition("/")[2] for entry in listed}
            lacking = [shard_id for shard_id in missing[folder] if f"{shard_id}.parquet" not in there]
            missing[folder] = _in_no_block(store, folder, there, lacking)
    yield from (f"{folder}/{shard_id}.parquet" for folder, lacking in missing.items() for shard_id in lacking)


def _in_no_block(store: Store, folder: str, names: Collection[str], shard_ids: Sequence[str]) -> Sequence[str]:
    """Those of the shards that are in none of the blocks among these names."""
    blocks = blocks_among(names) if shard_ids else set()
    if not blocks:
        return shard_ids
    index = fresh_index(store, folder)
    places = ((shard_id, index.place(shard_id)) for shard_id in shard_ids)
    return [shard_id for shard_id, place in places if place is None or place.block not in blocks]


def discard(store: Store, path: str) -> None:
    """Removes a damaged file and what says that it is done, so that the run makes it again. Raises RootError where a link
    leads out of the root: nothing is removed behind it."""
    folder, _, name = path.rpartition("/")
    if folder.startswith("tables/"):
        store.remove(folder)
    elif folder.startswith("exports/"):
        stem = name.partition(".")[0].partition("_")[0]
        for part in (f"{stem}_stats.json", f"{stem}.parquet", f"{stem}.tar"):
            store.remove(f"{folder}/{part}")
    elif folder.startswith("columns/") and name.endswith(".npy"):
        store.remove(f"{folder}/{name.rsplit('.', 2)[0]}.parquet")
        store.remove(path)
    else:
        store.remove(path)
