"""The bytes of exported samples by shard and row. Files are opened for a moment; where samples begin is held for some shards."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError, RootError
from pipeline.export.stored import SIZES
from pipeline.feed.order import Order
from pipeline.input.members import split_name
from pipeline.input.tar import BLOCK, ZEROS, parse_header
from pipeline.queries.places import place
from pipeline.store.store import Store, read_ranges
from pipeline.store.tables import read_known
from pipeline.vectors import Ints
from schemas.exports import EXPORT

OFFSETS = pa.schema([EXPORT.field("tar_offset")])
HELD = 512
"""Shards whose offsets are held at a time, some 80 kB each."""


@dataclass(frozen=True)
class Sample:
    """One exported sample as it lies in its tar. Its bytes come from the web: they may be damaged."""

    shard: str
    key: str
    members: Mapping[str, bytes]
    """By extension, e.g. `jpg`, `txt`, `json`."""

    @property
    def caption(self) -> str:
        """The text; empty where it has none."""
        return self.members.get("txt", b"").decode("utf-8", "replace")

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON object; empty where there is none, or no object."""
        try:
            facts = json.loads(self.members.get("json", b"{}"))
        except ValueError:
            return {}
        return facts if isinstance(facts, dict) else {}


@dataclass
class Tars:
    """Tars in a folder or URL with how many samples each has."""

    store: Store
    names: tuple[str, ...]
    """File names, in order."""
    counts: tuple[int, ...]
    """Samples of each."""
    _offsets: "OrderedDict[int, Ints]" = field(default_factory=OrderedDict)

    @staticmethod
    def of(source: str) -> "Tars":
        """The published shards of a root, or a folder of tars that an export wrote. Raises RootError for a root that has published
        nothing, InputError for a folder without tars or without their counts."""
        folder = place(source, "shards").path if Store(source).exists("run.json") else source
        store = Store(folder)
        if not store.exists(SIZES):
            raise InputError(f"{folder} has no {SIZES}, which says how many samples each tar has: give a root, or its shards")
        counts = {str(name): int(count) for name, count in store.read_json(SIZES).items()}
        if not counts:
            raise RootError(f"{folder} has no samples")
        return Tars(store, tuple(counts), tuple(counts.values()))

    def again(self) -> "Tars":
        """The same for another process: a connection to a store does not outlive a fork."""
        return Tars(Store(self.store.url), self.names, self.counts)

    def order(self, **settings: Any) -> Order:
        """An order over these samples; `settings` as `Order` has them."""
        return Order(self.counts, **settings)

    def samples(self, shard: int, rows: Sequence[int]) -> list[Sample]:
        """The samples of a shard at these rows, ascending; neighbours are one request. Raises InputError for a tar that is not what
        its side files say."""
        name, offsets = self.names[shard], self._offsets_of(shard)
        ranges = [(int(offsets[row]), int(offsets[row + 1])) for row in rows]
        pieces = read_ranges(self._url(name), ranges)
        return [parsed(name, row, piece) for row, piece in zip(rows, pieces, strict=True)]

    def _offsets_of(self, shard: int) -> Ints:
        """i64 [samples + 1]: where each begins in the tar, and where the last one ends."""
        offsets = self._offsets.pop(shard, None)
        if offsets is None:
            offsets = self._read_offsets(shard)
        self._offsets[shard] = offsets
        while len(self._offsets) > HELD:
            self._offsets.popitem(last=False)
        return offsets

    def _read_offsets(self, shard: int) -> Ints:
        name, samples = self.names[shard], self.counts[shard]
        try:
            column = read_known(self.store, f"{name.removesuffix('.tar')}.parquet", OFFSETS).column(0)
        except FileNotFoundError:
            column = None
        begins = self._looked_up(name) if column is None or column.null_count else np.asarray(column, np.int64)
        if len(begins) != samples:
            raise InputError(f"{self._url(name)} has {len(begins)} samples, {SIZES} says {samples}")
        return np.append(begins, self.store.size(name))

    def _looked_up(self, name: str) -> Ints:
        """Where samples begin, by the headers of a tar on this disk."""
        if self.store.local is None:
            raise InputError(
                f"{self._url(name)}: its side files do not say where samples begin ({OFFSETS.names[0]}), and looking for that "
                "would read the whole tar: export again with this version, or copy the shards to a disk")
        begins, before = [], None
        with self.store.open(name) as file:
            for start, member in headers(file):
                key = split_name(member)[0]
                if key != before:
                    begins.append(start)
                before = key
        return np.array(begins, np.int64)

    def _url(self, name: str) -> str:
        return f"{self.store.url.rstrip('/')}/{name}"


def headers(file: Any) -> Iterator[tuple[int, str]]:
    """Where each member's header begins, and its name; the contents are passed over."""
    start = 0
    while (block := file.read(BLOCK)) and block != ZEROS:
        header = parse_header(block)
        if header is None:
            raise InputError(f"no tar header at byte {start}")
        yield start, header.name
        start += BLOCK + header.size + -header.size % BLOCK
        file.seek(start)


def parsed(shard: str, row: int, piece: bytes) -> Sample:
    """The members of one sample out of its bytes in the tar, uint8[b]. Raises InputError where they are none."""
    members: dict[str, bytes] = {}
    found, at = None, 0
    while at + BLOCK <= len(piece) and piece[at : at + BLOCK] != ZEROS:
        header = parse_header(piece[at : at + BLOCK])
        if header is None:
            raise InputError(f"{shard}, sample {row}: its bytes are no tar members; the shard is not what its side files say")
        key, extension = split_name(header.name)
        if found is not None and key != found:
            raise InputError(f"{shard}, sample {row}: members of {found!r} and {key!r}; the shard is not what its side files say")
        found = key
        members[extension] = piece[at + BLOCK : at + BLOCK + header.size]
        at += BLOCK + header.size + -header.size % BLOCK
    if found is None:
        raise InputError(f"{shard}, sample {row}: nothing there; the shard is not what its side files say")
    return Sample(shard, found, members)
