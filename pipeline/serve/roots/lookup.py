"""Which row a uid is: by a sorted list of all uids of a root, or by what answers have named lately where the root is too large for
it.

Sixteen bytes a sample (the first 64 bits of its uid, and its row id): 80 MB for five million. What is found is held against the
whole uid, for uids of other people's pictures can be made to begin alike.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock, Semaphore

import numpy as np
from numpy.typing import NDArray

from pipeline.queries.naming import RowId, find_samples
from pipeline.queries.neighbours.hits import row_ids
from pipeline.queries.rows.columns import RootColumns
from pipeline.search.index.ids import ids_of
from pipeline.vectors import Ints

REMEMBERED = 100_000
"""Uids of former answers, at most."""


@dataclass(frozen=True)
class SortedUids:
    """Of n samples, by the first 64 bits of their uids."""

    starts: NDArray[np.uint64]
    """u64 [n], ascending"""
    ids: Ints
    """i64 [n]: the place of a shard in the upper 32 bits, a row of it in the lower; ascending where starts are equal"""

    @classmethod
    def of(cls, columns: RootColumns) -> "SortedUids":
        """Those of a root; reads one column of every shard."""
        starts, ids = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for number, shard in enumerate(columns.plan.shards):
            uids = columns.read(shard.shard_id, ["uid"])["uid"].to_pylist()
            halves = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").reshape(-1, 2)
            starts.append(halves[:, 0].astype(np.uint64))
            ids.append(ids_of(number, np.arange(len(uids))))
        start, id = np.concatenate(starts), np.concatenate(ids)
        order = np.argsort(start, kind="stable")
        return cls(start[order], id[order])

    def candidates(self, uid: str) -> Ints:
        """i64, ascending: ids of the samples whose uid begins as this one does."""
        wanted = np.uint64(int(uid[:16], 16))
        first, last = np.searchsorted(self.starts, wanted, "left"), np.searchsorted(self.starts, wanted, "right")
        return self.ids[first:last]


@dataclass
class Lookup:
    """Rows by uid; safe for many threads."""

    columns: RootColumns
    held: bool
    """whether the sorted list may be made; else a uid that no answer has named is looked for in every shard"""
    scans: Semaphore
    """how many may pass over the root at a time"""
    _seen: OrderedDict[str, RowId] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)
    _making: Lock = field(default_factory=Lock)

    def remember(self, named: Iterable[tuple[str, RowId]]) -> None:
        """What an answer has named: the next question is likely to be about it. The first row of a uid is the one that counts, so
        this is for roots without the list alone."""
        if self.held:
            return
        with self._lock:
            for uid, row_id in named:
                self._seen.setdefault(uid, row_id)
                self._seen.move_to_end(uid)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def rows(self, uid: str) -> tuple[RowId, ...]:
        """The samples with this uid, in the order of the input; none where there is none. Raises InputError where a root without
        the list has none or more than a hundred."""
        if self.held:
            with self._making:
                uids = self._uids
            return tuple(row_ids(self.columns, uids.candidates(uid)))
        with self._lock:
            seen = self._seen.get(uid)
        if seen is not None:
            return (seen,)
        with self.scans:
            return find_samples(self.columns.plan, uid)

    def warm(self) -> None:
        """Makes the list, so that no question waits for it."""
        if self.held:
            _ = self._uids

    @cached_property
    def _uids(self) -> SortedUids:
        return SortedUids.of(self.columns)
