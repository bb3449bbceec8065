"""Packs loose images and captions into shards: deterministic tars of a bounded size, each whole or not there, in one pass.

The same input gives the same tars, whatever happened between. A shard is done when its `_stats.json` is there, which is written
after its tar; a pack that goes on compares what the shard was made of with what is there now.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from pipeline.errors import InputError, RootError
from pipeline.input.loose.below import Below
from pipeline.input.loose.columns import Columns
from pipeline.input.loose.folders import folder_items
from pipeline.input.loose.items import Item
from pipeline.input.loose.loading import Ahead, Read, versions
from pipeline.input.loose.tables import TABLES, is_table, table_items
from pipeline.input.loose.tally import Digest, Loaded, Tally
from pipeline.input.tar import write_tar
from pipeline.store.store import Store, absolute, exists, is_folder
from schemas.answers.packs import Packed

MANIFEST = "pack.json"
VERSION = 1
"""Of how samples become tars: a pack of another version does not go on."""


@dataclass(frozen=True)
class Packing:
    """What is packed, and how."""

    inputs: tuple[str, ...]
    """Folders and tables."""
    root: str = ""
    """Folder that names of tables begin at, and that no name or link may leave; empty: the input's own folder."""
    image_column: str = ""
    caption_column: str = ""
    encoding: str = ""
    """Of tables of text; empty: UTF-8, or what a byte order mark says."""
    shard_samples: int = 10_000
    shard_bytes: int = 256 << 20
    """A shard ends after the sample that reaches either."""

    def settings(self) -> dict[str, Any]:
        """All of it as JSON holds it, with absolute names."""
        root = absolute(self.root) if self.root else ""
        return {"version": VERSION, **asdict(self), "inputs": [absolute(one) for one in self.inputs], "root": root}


def pack(packing: Packing, output: str, tell: Callable[[str], None] = lambda _: None) -> Packed:
    """Packs, or goes on. `tell` gets a line for each shard. Raises InputError for what is not loose and for a changed input,
    RootError for a folder that holds something else."""
    sources = [_Source(packing, url, f"{number}/" if number else "") for number, url in enumerate(packing.inputs)]
    for source in sources:
        source.check(absolute(output))   # all of them before anything is written
    store = Store(output)
    finished = _claimed(store, packing.settings())
    store.clear_partial()
    items = (pair for source in sources for pair in source.items())
    tell(f"packing {', '.join(packing.inputs)} into {output}")
    total, shards = _done(store, items)
    written = 0
    with Ahead(items) as stream:
        while (shard := _Shard(stream, packing)).tally.samples:
            if finished:
                raise _changed(store)
            shard.write(store, f"{shards:06d}")
            total.add(shard.tally)
            shards, written = shards + 1, written + 1
            tell(f"{shards - 1:06d}.tar: {shard.tally.samples:,} samples, {total.samples:,} in all")
        total.add(shard.tally)   # what comes after the last sample
    answer = total.answer(store.url, shards, written)
    store.write_json(MANIFEST, {**packing.settings(), "finished": answer.as_json()})
    return answer


class _Source:
    """One input."""

    def __init__(self, packing: Packing, url: str, prefix: str) -> None:
        self._packing, self._prefix = packing, prefix
        self.url = absolute(url)
        if self.url.startswith(("http://", "https://")):
            raise InputError(f"input {url!r}: pack reads folders and tables of files, not web servers: download it first")
        self._is_folder = is_folder(self.url)
        if not self._is_folder and not exists(self.url):
            raise InputError(f"input {url!r}: no such file or folder")
        if not self._is_folder and not is_table(self.url):
            raise InputError(f"input {url!r}: neither a folder nor a table ({', '.join(TABLES)})")
        folder = self.url if self._is_folder else self.url.rpartition("/")[0]
        root = packing.root or folder
        self._below = Below(root, folder if self._is_folder else root)
        if self._is_folder and not self._below.holds_base:
            raise InputError(f"input {url!r} does not lie below --root {packing.root}")

    def check(self, output: str) -> None:
        """Raises InputError where this cannot be packed."""
        real = os.path.realpath if self._below.is_local and Store(output).local is not None else str
        if self._is_folder and f"{real(output)}/".startswith(f"{real(self.url).rstrip('/')}/"):
            raise InputError(f"--output {output} lies inside the input {self.url}: choose a folder outside of it")
        if not self._is_folder:
            next(self._items(), None)

    def items(self) -> Iterator[tuple[Item, Below]]:
        """What it holds, and where to read it."""
        return ((item, self._below) for item in self._items())

    def _items(self) -> Iterator[Item]:
        packing = self._packing
        columns = Columns(packing.image_column, packing.caption_column)
        return folder_items(self._below, self._prefix) if self._is_folder else table_items(
            self.url, columns, packing.encoding, self._prefix)


def _claimed(store: Store, settings: dict[str, Any]) -> bool:
    """Writes the settings into an empty folder; else says whether an earlier pack with these settings came to its end."""
    names = store.names()
    if MANIFEST not in names:
        if names or store.folders():
            raise RootError(f"--output {store.url} is not empty: choose a new folder")
        if store.create_new(MANIFEST, json.dumps(settings).encode()):   # else somebody else packs into it at this moment
            return False
    try:
        known = store.read_json(MANIFEST)
    except ValueError as error:
        raise RootError(f"{store.url}/{MANIFEST} is damaged: remove {store.url} and pack again") from error
    finished = known.pop("finished", None) if isinstance(known, dict) else None
    if known != settings:
        raise RootError(f"--output {store.url} holds a pack of other inputs or with other options: choose a new folder")
    return finished is not None


def _done(store: Store, items: Iterator[tuple[Item, Below]]) -> tuple[Tally, int]:
    """Passes over what is packed already; its counts, and how many shards it is. Raises InputError where the input has changed."""
    names, total, shards = set(store.names()), Tally(), 0
    while {f"{shards:06d}.tar", f"{shards:06d}_stats.json"} <= names:
        try:
            stats = store.read_json(f"{shards:06d}_stats.json")
            tally, digest = Tally.of_stats(stats), Digest()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RootError(f"{store.url}/{shards:06d}_stats.json is damaged: remove it, and pack again") from error
        for item, below in islice(items, tally.items):
            digest.add(item, versions(item, below))
        if digest.hexdigest() != stats.get("digest"):
            raise _changed(store)
        total.add(tally)
        shards += 1
    return total, shards


def _changed(store: Store) -> InputError:
    return InputError(f"{store.url} was packed from something else than the input is now, or shards are gone there: remove that "
                      "folder, or choose a new one")


class _Shard:
    """The next shard of a stream, its counts and what it was made of."""

    def __init__(self, stream: Iterator[Read], packing: Packing) -> None:
        self._stream, self._packing = stream, packing
        self._digest = Digest()
        self.tally = Tally()
        self._first = self._next()

    def write(self, store: Store, name: str) -> None:
        """The tar, and then its stats."""
        with store.create(f"{name}.tar") as file:
            write_tar(file, self._members())
        store.write_json(f"{name}_stats.json", self.tally.stats(self._digest.hexdigest()))

    def _next(self) -> Loaded | None:
        for read in self._stream:
            self.tally.items += 1
            self._digest.add(read.item, read.versions)
            if isinstance(read.result, Loaded):
                self.tally.add_sample(read.result)
                return read.result
            self.tally.add_left_out(read.result)
        return None

    def _members(self) -> Iterator[tuple[str, str, bytes, bytes | None, bytes | None]]:
        sample, tally, packing = self._first, self.tally, self._packing
        while sample is not None:
            yield sample.candidate.key, sample.extension, sample.image, sample.caption, sample.json
            full = tally.samples >= packing.shard_samples or tally.bytes >= packing.shard_bytes
            sample = None if full else self._next()
