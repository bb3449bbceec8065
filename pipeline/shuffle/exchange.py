"""The two passes of work by key. In the first, an item is some consecutive shards: their rows are written to one file, a part for
each partition of the keys. In the second, an item is a partition: it reads its part of every such file, in order, and writes one
file with what it found: its own table, or an answer for each of the items of the first pass.

How many groups and partitions there are follows from the rows alone, so neither workers nor kills change a byte; a file that
exists is done. A process holds one group, or what a partition's rows are boiled down to, whatever the run's size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.columns import Rows, RunShard
from pipeline.driver import Driver
from pipeline.shuffle.parts import Parts, parts_file, read_parts
from pipeline.store.store import PARTIAL, Store
from pipeline.vectors import Ints
from pipeline.work import Facts, PlainWork, Units

GROUP_ROWS = 1 << 19
"""Rows of a group of shards: what a worker holds of the first pass, a few columns of each."""
PARTITION_ROWS = 1 << 22
"""Rows of a partition, about: what a worker holds of the second pass is some 50 bytes of each."""


class Group(NamedTuple):
    """Some consecutive shards, as an item of work."""

    number: int
    shards: tuple[RunShard, ...]
    rows: int

    @property
    def first_row(self) -> int:
        """Global row number of its first row."""
        return self.shards[0].first_row

    def __str__(self) -> str:
        return f"{self.number:06d}"

    def located(self, rows: Ints) -> Iterator[tuple[RunShard, Ints]]:
        """Of global rows of the group, i64 [n] ascending, those of each shard that has some, counted from its first."""
        ends = [*(shard.first_row for shard in self.shards[1:]), self.first_row + self.rows]
        for shard, end in zip(self.shards, ends, strict=True):
            local = rows[slice(*np.searchsorted(rows, [shard.first_row, end]))] - shard.first_row
            if len(local):
                yield shard, local


def groups_of(rows: Rows, size: int = GROUP_ROWS) -> tuple[Group, ...]:
    """The shards of a run in groups of at most `size` rows, in row-id order; a shard is never cut, and may be more by itself."""
    groups: list[Group] = []
    held: list[RunShard] = []
    count = 0
    for shard, shard_rows in zip(rows.shards, rows.counts, strict=True):
        if held and count + shard_rows > size:
            groups.append(Group(len(groups), tuple(held), count))
            held, count = [], 0
        held.append(shard)
        count += shard_rows
    return (*groups, Group(len(groups), tuple(held), count)) if held else tuple(groups)


def partitions_of(rows: Rows) -> int:
    """How many partitions the keys of a run are cut into."""
    return max(1, -(-rows.total // PARTITION_ROWS))


class Partition(NamedTuple):
    """One partition of the keys, as an item of work."""

    number: int

    def __str__(self) -> str:
        return f"{self.number:06d}"


Scattered = tuple[pa.Table, Ints]
"""Rows of a group, and the partition of each, i64 [n]."""


@dataclass(frozen=True)
class Exchange:
    """Where the files of one exchange are. `name` says what for, e.g. the folder of the output that it is made for."""

    store: Store
    name: str
    groups: tuple[Group, ...]
    partitions: int

    @property
    def folder(self) -> str:
        """In the making, so none of what is promised; `gc` removes it where a run never came back."""
        return f"{PARTIAL}/{self.name.rpartition('/')[2]}-{len(self.groups)}x{self.partitions}"

    def scattered(self, group: Group) -> str:
        """The path of a group's rows, by partition."""
        return f"{self.folder}/rows-{group}.arrow"

    def gathered(self, partition: int) -> str:
        """The path of what a partition came to."""
        return f"{self.folder}/found-{Partition(partition)}.arrow"

    def done(self, kind: str) -> set[str]:
        """Numbers of the files (`rows` or `found`) that are there, as the items say them."""
        names = self.store.names(self.folder)
        return {name.removeprefix(f"{kind}-").removesuffix(".arrow") for name in names if name.startswith(f"{kind}-")}

    def answers(self, group: Group) -> Parts:
        """What every partition has for a group, where each answers the groups one by one."""
        return Parts(self.store, [self.gathered(p) for p in range(self.partitions)], group.number)

    def results(self, partitions: range) -> Iterator[pa.Table]:
        """What some of the partitions found, one after another, where that is a table in so many parts as it takes."""
        for partition in partitions:
            yield from read_parts(self.store, self.gathered(partition))

    def remove(self) -> None:
        """Once what it was for is written."""
        self.store.remove(self.folder)


class GroupWork(PlainWork[Group]):
    """What is done of every row of a group of shards."""

    @property
    def units(self) -> Units:
        return Units("group", "sample")

    def rows_of(self, item: Group) -> int:
        return item.rows


@dataclass(frozen=True)
class Scatter(GroupWork):
    """Writes the rows of one group, by partition."""

    exchange: Exchange
    rows: Callable[[Group], Scattered]
    """A value that travels, e.g. a frozen dataclass with `__call__`."""

    def run(self, item: Group) -> Facts:
        table, partition = self.rows(item)
        order = np.argsort(partition, kind="stable")
        table = table.take(pa.array(order)).combine_chunks()
        ends = np.searchsorted(partition[order], np.arange(self.exchange.partitions + 1))
        with parts_file(self.exchange.store, self.exchange.scattered(item), table.schema) as add:
            for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
                add(table.slice(start, end - start))
        return {"rows": item.rows}


@dataclass(frozen=True)
class Gather(PlainWork[Partition]):
    """Writes what one partition comes to."""

    exchange: Exchange
    answer: Callable[[Parts], Iterator[pa.Table]]
    """From the partition's rows, group by group, to the parts of its file, at least one, all of one schema. It travels."""

    @property
    def units(self) -> Units:
        return Units("partition")

    def run(self, item: Partition) -> Facts:
        exchange = self.exchange
        parts = Parts(exchange.store, [exchange.scattered(group) for group in exchange.groups], item.number)
        tables = self.answer(parts)
        first = next(tables)
        with parts_file(exchange.store, exchange.gathered(item.number), first.schema) as add:
            add(first)
            for table in tables:
                add(table)
        return {}


def through(
    driver: Driver, title: str, exchange: Exchange, rows: Callable[[Group], Scattered],
    answer: Callable[[Parts], Iterator[pa.Table]],
) -> None:
    """Both passes, as far as they are not done. The caller removes the exchange once it has used what the partitions found."""
    partitions = [Partition(number) for number in range(exchange.partitions)]
    found = exchange.done("found")
    if len(found) < len(partitions):
        alone = len(exchange.groups) == 1
        driver.complete(title, Scatter(exchange, rows), exchange.groups, exchange.done("rows"), alone=alone)
        driver.complete(f"{title}, by key", Gather(exchange, answer), partitions, found, alone=alone)
