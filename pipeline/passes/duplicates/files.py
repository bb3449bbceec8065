"""Where the files between the steps are, and how the run is cut."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.columns import Rows
from pipeline.search.bands import Band, bands_for
from pipeline.shuffle.exchange import Exchange, Group, groups_of
from pipeline.store.store import Store
from pipeline.vectors import Ints

PARTITION_ROWS = 1 << 20
"""Rows of a partition, or of a part of a band, about: a worker holds some 500 bytes of each."""
SMALLEST = 4
"""Bits that a band keeps within a part, at least."""


@dataclass(frozen=True)
class Cut:
    """How a run is cut for the search: by its rows and the recipe alone, so neither workers nor kills change a byte."""

    store: Store
    name: str
    """The folder of the table."""
    rows: Rows
    radius: int
    correlation: float
    near: bool
    size: int = PARTITION_ROWS
    group_rows: int | None = None

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return groups_of(self.rows) if self.group_rows is None else groups_of(self.rows, self.group_rows)

    @cached_property
    def exchange(self) -> Exchange:
        return Exchange(self.store, self.name, self.groups, max(1, -(-self.rows.total // self.size)))

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        return bands_for(self.rows.total, self.radius) if self.near else ()

    @cached_property
    def fixed(self) -> int:
        """How many bits of a band's value say which part it is in."""
        wanted = (self.exchange.partitions - 1).bit_length()
        return max(0, min(wanted, *(band.width - SMALLEST for band in self.bands), 12)) if self.bands else 0

    def path(self, kind: str, *numbers: int) -> str:
        """The path of a file. `equal`, `loose` and `near` have a part for each group of shards, `band` one for each part of it."""
        return f"{self.exchange.folder}/{kind}-{'-'.join(f'{number:06d}' for number in numbers)}.arrow"

    def done(self, kind: str) -> set[str]:
        """The numbers of the files of a kind that are there."""
        return self.exchange.done(kind)

    def group_of(self, rows: Ints) -> Ints:
        """i64 [n]: the group of each global row."""
        firsts = np.array([group.first_row for group in self.groups])
        return np.searchsorted(firsts, rows, side="right") - 1


class BandPart(NamedTuple):
    """A part of a band, as an item of work."""

    band: int
    part: int

    def __str__(self) -> str:
        return f"{self.band:06d}-{self.part:06d}"


def sliced(table: pa.Table, part: Ints, parts: int) -> list[pa.Table]:
    """The rows of each part, in the order that they have; `part`, i64 [n], is that of each row."""
    order = np.argsort(part, kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    ends = np.searchsorted(part[order], np.arange(parts + 1)).tolist()
    return [table.slice(start, end - start) for start, end in pairwise(ends)]
