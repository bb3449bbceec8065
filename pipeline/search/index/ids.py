"""What an index calls its vectors: 64 bits, the number of a shard in the upper half and a row of it in the lower one.

Numbers of shards are places in a table that only grows: a shard that comes later is appended, and one whose vectors changed is
appended once more, so an id means the same vector for as long as an index lives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.vectors import Ints

ROW_BITS = 32
NOTHING = -1
"""In place of an id where there are fewer neighbours than were asked for."""


def ids_of(numbers: int | Ints, rows: Ints) -> Ints:
    """i64: the ids of these rows, i64 counted from their shard's first, of the shard with this number, or of one for each row."""
    ids: Ints = (np.asarray(numbers, np.int64) << ROW_BITS) | np.asarray(rows, np.int64)
    return ids


def parted(ids: Ints) -> tuple[Ints, Ints]:
    """Numbers of shards and rows, i64 of the shape of the ids; a number is -1 where there is no neighbour."""
    return ids >> ROW_BITS, ids & ((1 << ROW_BITS) - 1)


def by_number(ids: Ints) -> Iterator[tuple[int, Ints, Ints]]:
    """(number of a shard, places in `ids`, rows of the shard), by ascending numbers: i64 [m] each, places ascending. `ids`, i64 [n]
    in any order; those that stand for no neighbour are left out. One sort, however many shards they are in."""
    numbers, rows = parted(ids)
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    for number, places in zip(found.tolist(), np.split(order, starts[1:]), strict=bool(len(found))):
        if number >= 0:
            yield number, places, rows[places]


@dataclass(frozen=True)
class ShardNumbers:
    """The shards of an index by number. One may be there again with a higher number, after its vectors changed: it then counts by
    that one alone, and no index has ids of the lower one."""

    shard_ids: Sequence[str]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {shard_id: number for number, shard_id in enumerate(self.shard_ids)}   # the last counts

    def number(self, shard_id: str) -> int | None:
        """The number of a shard; None where the index has none of it."""
        return self._numbers.get(shard_id)

    def ids(self, shard_id: str, rows: Ints) -> Ints:
        """i64 [n]: the ids of rows of a shard, i64 [n]; none where the index does not have the shard."""
        number = self.number(shard_id)
        return np.zeros(0, np.int64) if number is None else ids_of(number, rows)

    def located(self, ids: Ints) -> Iterator[tuple[str, Ints, Ints]]:
        """(shard_id, places in `ids`, rows of the shard), shard by shard in the order of their numbers: i64 [m] each, places
        ascending. `ids`, i64 [n] in any order; those that stand for no neighbour are left out. Raises IndexError for an id of no
        shard of the table."""
        return ((self.shard_ids[number], places, rows) for number, places, rows in by_number(ids))
