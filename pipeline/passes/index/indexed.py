"""What an index has: which rows of which shards, under which numbers."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.columns import RunShard
from pipeline.driver import Driver
from pipeline.passes.embeddings import Embeddings
from pipeline.search.index.ids import ShardNumbers, ids_of
from pipeline.search.index.stored import SHARDS, read_numbers
from pipeline.shuffle.exchange import Group, GroupWork
from pipeline.stage import digest
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import read_facts, read_table, write_table
from pipeline.vectors import Floats, Ints, unit
from pipeline.work import Facts
from schemas.tables import INDEXED_SHARDS

IMAGE, TEXT = "image", "text"


class Member(NamedTuple):
    """A shard of an index: see INDEXED_SHARDS."""

    shard_id: str
    rows: int
    vectors: str
    members: str


@dataclass(frozen=True)
class Indexed:
    """The rows of a run that an index has. It travels."""

    store: Store
    columns: str
    """Folder of the embeddings."""
    verdicts: str | None
    """Folder of the verdicts; None: all that have an embedding."""
    folder: str
    """Of the index."""
    seed: int

    @property
    def scratch(self) -> str:
        """For what is passed on within the pass."""
        return f"{PARTIAL}/{self.folder.rpartition('/')[2]}-made"

    def embeddings(self, shard_id: str, modality: str) -> Embeddings:
        """The vectors of one shard, of which nobody asks how many rows it has."""
        return Embeddings(self.store, self.columns, (RunShard(shard_id, 0),), self.verdicts, f"{modality}_embedding")

    def rows(self, shard_id: str) -> Ints:
        """Rows of the shard that are in the index, ascending."""
        return self.embeddings(shard_id, IMAGE).rows().astype(np.int64)

    def vectors(self, shard_id: str, modality: str, rows: Ints) -> Floats:
        """f32 [n, d], of unit length: the vectors of these rows, i64 [n] ascending."""
        return unit(self.embeddings(shard_id, modality).read(rows))

    def member(self, shard_id: str) -> Member:
        """What a shard has for the index."""
        rows = self.rows(shard_id)
        files = read_facts(self.store, f"{self.columns}/{shard_id}.parquet").get("files", {})
        members = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()[:12]
        return Member(shard_id, len(rows), digest(sorted(files.items())), members)

    def numbers(self) -> ShardNumbers:
        """The numbers of all shards, by the table of the index: some 100 bytes for each."""
        return stored_numbers(self.store, self.folder)

    def ids(self, shard_id: str, rows: Ints) -> Ints:
        """i64 [n]: the ids of rows of a shard."""
        number = self.numbers().number(shard_id)
        assert number is not None
        return ids_of(number, rows)


class Site(NamedTuple):
    """Where an index is made: what it has, who has it made, and the shards of the run in groups."""

    indexed: Indexed
    driver: Driver
    groups: tuple[Group, ...]


@lru_cache(maxsize=2)
def stored_numbers(store: Store, folder: str) -> ShardNumbers:
    """The table of shards of an index, read once in a process."""
    return read_numbers(store, folder)


@dataclass(frozen=True)
class CountMembers(GroupWork):
    """Writes what each shard of a group has for an index."""

    indexed: Indexed

    def run(self, item: Group) -> Facts:
        found = [self.indexed.member(shard.shard_id) for shard in item.shards]
        table = pa.Table.from_pylist([member._asdict() for member in found], schema=INDEXED_SHARDS)
        write_table(self.indexed.store, f"{self.indexed.scratch}/members-{item}.parquet", table, {})
        return {"rows": item.rows}


def members_of(site: Site) -> list[Member]:
    """What every shard of the run has for the index, in row-id order. Workers look; some 200 bytes of each shard are held."""
    indexed, driver, groups = site
    store, prefix = indexed.store, "members-"
    done = {name.removeprefix(prefix).removesuffix(".parquet") for name in store.names(indexed.scratch) if name.startswith(prefix)}
    driver.complete("index: what belongs to it", CountMembers(indexed), groups, done, alone=len(groups) == 1)
    tables = [read_table(store, f"{indexed.scratch}/members-{group}.parquet") for group in groups]
    return [Member(**row) for table in tables for row in table.to_pylist()]


class Numbered(NamedTuple):
    """The shards of an index by number, and what is to be done for it."""

    members: list[Member]
    """By number; those that are no longer there have no rows."""
    added: set[str]
    """shard_ids whose vectors are to be added."""
    removed: int
    """Vectors of the base that go."""


def numbered(current: Sequence[Member], base: Sequence[Member] = ()) -> Numbered:
    """The table of an index that goes on from the table of another one (none: a new one). A shard whose vectors and members are as
    they were keeps its number; one that changed gets a new one, and what the base has of it goes."""
    last = {member.shard_id: number for number, member in enumerate(base)}
    wanted = {member.shard_id: member for member in current}
    stays = {number for shard_id, number in last.items() if shard_id in wanted and base[number] == wanted[shard_id]}
    removed = sum(member.rows for number, member in enumerate(base) if number not in stays)
    members = [member if number in stays else member._replace(rows=0) for number, member in enumerate(base)]
    new = [member for member in current if last.get(member.shard_id, -1) not in stays]
    return Numbered([*members, *new], {member.shard_id for member in new}, removed)


def read_members(store: Store, folder: str) -> list[Member]:
    """The table of shards of an index."""
    return [Member(**row) for row in read_table(store, f"{folder}/{SHARDS}").to_pylist()]


def write_members(store: Store, folder: str, members: Sequence[Member]) -> None:
    """Writes the table of shards of an index."""
    table = pa.Table.from_pylist([member._asdict() for member in members], schema=INDEXED_SHARDS)
    write_table(store, f"{folder}/{SHARDS}", table, {})
