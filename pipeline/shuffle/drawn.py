"""Rows drawn from all of a run that meet something, and what is stored of them: workers count what meets it in their shards, the
driver draws, workers read the rows that were drawn. As many are held as are drawn."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.columns import Columns, RunShard, bundles
from pipeline.draws import drawn_places
from pipeline.driver import Driver
from pipeline.shuffle.exchange import Group, GroupWork
from pipeline.shuffle.parts import parts_file, read_part
from pipeline.store.store import PARTIAL
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.vectors import Bools, Ints
from pipeline.work import Facts, Item, PlainWork, Units, Work


@dataclass(frozen=True)
class Drawable(ABC):
    """Which rows may be drawn, and what is read of them. It travels."""

    columns: Columns

    @abstractmethod
    def eligible(self, shards: Sequence[RunShard]) -> Bools:
        """bool [rows of these shards]"""

    @abstractmethod
    def fetched(self, shards: Sequence[RunShard], rows: Ints) -> pa.Table:
        """What is stored of these rows, i64 [n] ascending, that count through the shards."""


class Picks(NamedTuple):
    """Shards of which rows were drawn, as an item of work."""

    number: int
    shards: tuple[RunShard, ...]
    places: tuple[tuple[int, ...], ...]
    """Of each shard, which of its eligible rows, ascending."""

    def __str__(self) -> str:
        return f"{self.number:06d}"


@dataclass(frozen=True)
class CountEligible(GroupWork):
    """Writes how many rows of each shard of a group may be drawn, int64 [shards]."""

    source: Drawable
    folder: str

    def run(self, item: Group) -> Facts:
        self.source.columns.store.write(f"{self.folder}/count-{item}.npy", npy_bytes(eligible_counts(self.source, item.shards)))
        return {"rows": item.rows}


@dataclass(frozen=True)
class Fetch(PlainWork[Picks]):
    """Writes what is stored of the rows that were drawn."""

    source: Drawable
    folder: str

    @property
    def units(self) -> Units:
        return Units("group", "sample")

    def run(self, item: Picks) -> Facts:
        table = pa.concat_tables(_fetched(self.source, item.shards, item.places))
        with parts_file(self.source.columns.store, f"{self.folder}/drawn-{item}.arrow", table.schema) as add:
            add(table)
        return {"rows": table.num_rows}


@dataclass(frozen=True)
class Drawing:
    """Draws rows of a run by its workers. `name`: of the folder for what is passed on."""

    driver: Driver
    name: str
    groups: Sequence[Group]

    @property
    def folder(self) -> str:
        """Where what is passed on is; to be removed once it was used (`remove`)."""
        return f"{PARTIAL}/{self.name}-drawn-{len(self.groups)}"

    def drawn(self, source: Drawable, count: int, seed: int | np.random.Generator) -> pa.Table | None:
        """What is stored of at most `count` of the eligible rows, each as likely, in row-id order; None where there is none."""
        store, shards = source.columns.store, [shard for group in self.groups for shard in group.shards]
        self._complete("rows to draw from", CountEligible(source, self.folder), self.groups, "count-")
        counts = [np.asarray(read_npy(store, f"{self.folder}/count-{group}.npy")) for group in self.groups]
        places = _by_shard(np.concatenate(counts) if counts else np.zeros(0, np.int64), count, seed)
        items, start = [], 0
        for group in self.groups:
            numbers = [at for at in range(start, start + len(group.shards)) if len(places[at])]
            chosen, start = tuple(shards[at] for at in numbers), start + len(group.shards)
            if numbers:
                items.append(Picks(group.number, chosen, tuple(tuple(places[at].tolist()) for at in numbers)))
        self._complete("rows drawn", Fetch(source, self.folder), items, "drawn-")
        tables = [read_part(store, f"{self.folder}/drawn-{item}.arrow", 0) for item in items]
        return pa.concat_tables(tables) if tables else None

    def _complete(self, what: str, work: Work[Item], items: Sequence[Item], prefix: str) -> None:
        names = self.driver.root.names(self.folder)
        done = {name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)}
        self.driver.complete(what, work, items, done, alone=len(self.groups) == 1)

    def remove(self) -> None:
        """Once what was drawn is used."""
        self.driver.root.remove(self.folder)


def drawn_here(shards: Sequence[RunShard], source: Drawable, count: int, seed: int | np.random.Generator) -> pa.Table | None:
    """As `Drawing.drawn`, in this process and without a file: for who only looks at a root."""
    places = _by_shard(eligible_counts(source, shards), count, seed)
    chosen = [at for at in range(len(shards)) if len(places[at])]
    tables = list(_fetched(source, [shards[at] for at in chosen], [places[at].tolist() for at in chosen]))
    return pa.concat_tables(tables) if tables else None


def _by_shard(counts: Ints, count: int, seed: int | np.random.Generator) -> list[Ints]:
    """Which of the eligible rows of each shard are drawn, given how many each has."""
    ends = np.cumsum(counts)
    places = drawn_places(int(counts.sum()), count, seed)
    at = np.searchsorted(places, ends)
    return [part - start for part, start in zip(np.split(places, at[:-1]), ends - counts, strict=True)] if len(counts) else []


def _fetched(source: Drawable, shards: Sequence[RunShard], places: Sequence[Sequence[int]]) -> Iterator[pa.Table]:
    left = iter(places)
    for bundle in bundles(shards):
        rows = np.flatnonzero(source.eligible(bundle))
        firsts = np.searchsorted(rows, np.cumsum([0, *(shard.rows for shard in bundle[:-1])]))
        yield source.fetched(bundle, rows[np.concatenate([first + np.array(next(left), np.int64) for first in firsts])])


def eligible_counts(source: Drawable, shards: Sequence[RunShard]) -> Ints:
    """i64 [shards]: how many rows of each may be drawn."""
    counts = [np.zeros(0, np.int64)]
    for bundle in bundles(shards):
        before = np.cumsum([0, *source.eligible(bundle)])
        counts.append(np.diff(before[np.cumsum([0, *(shard.rows for shard in bundle)])]))
    return np.concatenate(counts)
