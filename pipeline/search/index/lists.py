"""The file of an inverted index, made from blocks: FAISS's own format, written and read a few lists at a time.

FAISS writes an index only from memory, or as two files of which one names the other's place. Its format of lists in one file is
simple: the trained index, the sizes of the lists, then for each list its codes and ids. So the lists are put together by workers,
range by range, and the file is their concatenation, in a process that holds one block. FAISS reads it and maps its lists; a test
holds that these are the bytes that FAISS would write.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.errors import RootError
from pipeline.search.index.trained import TrainedIndex, lists_head
from pipeline.vectors import Bytes, Ids, Ints

COUNT_AT = 8
"""Where FAISS has the number of vectors of an index: behind its kind and dimension, 4 bytes each."""
ID = 8


class Entries(NamedTuple):
    """Vectors of some lists."""

    lists: Ids
    """i32 [n]"""
    ids: Ints
    """i64 [n]"""
    codes: Bytes
    """u8 [n, code bytes]"""

    def where(self, chosen: Ints) -> "Entries":
        """Those at these places."""
        return Entries(self.lists[chosen], self.ids[chosen], self.codes[chosen])


def ordered(entries: Entries) -> Entries:
    """By list, and within a list by id: so it does not matter who brought them, nor when."""
    return entries.where(np.lexsort((entries.ids, entries.lists)))


def blocks(entries: Entries, first: int, last: int) -> Iterator[bytes]:
    """The content of each list from `first` to `last` - 1: codes, then ids. The entries are ordered."""
    ends = np.searchsorted(entries.lists, np.arange(first, last + 1))
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        yield entries.codes[start:end].tobytes() + entries.ids[start:end].astype("<i8").tobytes()


def head(trained: TrainedIndex, sizes: Ints) -> bytes:
    """What comes before the lists in a file; `sizes`, i64 [lists]: vectors of each."""
    start = bytearray(trained.head)
    struct.pack_into("<q", start, COUNT_AT, int(sizes.sum()))
    used = np.flatnonzero(sizes)
    sparse = len(used) <= len(sizes) // 2
    numbers = np.column_stack([used, sizes[used]]).ravel() if sparse else sizes
    count = struct.pack("<Q", len(numbers))
    return bytes(start) + lists_head(trained.lists, trained.code_bytes) + (b"sprs" if sparse else b"full") + count + \
        numbers.astype("<i8").tobytes()


@dataclass(frozen=True, eq=False)
class ListFile:
    """A file that was made so, read by ranges: `read(start, end)` gives its bytes."""

    trained: TrainedIndex
    read: Callable[[int, int], bytes]
    sizes: Ints
    starts: Ints
    """i64 [lists + 1]: where each list begins."""

    @classmethod
    def of(cls, trained: TrainedIndex, read: Callable[[int, int], bytes]) -> "ListFile":
        """Raises RootError where it is not of this trained index."""
        at, lists = len(trained.head) + len(lists_head(0, 0)), trained.lists
        begun = read(0, at + 12)
        form, sizes = begun[at : at + 4], np.zeros(lists, np.int64)
        same = begun[: at][COUNT_AT + 8 :] == (trained.head + lists_head(lists, trained.code_bytes))[COUNT_AT + 8 :]
        if not same or form not in (b"sprs", b"full"):
            raise RootError("an index file is not of the trained index beside it: remove the index's folder and run again")
        count = int(struct.unpack("<Q", begun[at + 4 :])[0])
        if count > 2 * lists:
            raise RootError("an index file is damaged: remove the index's folder and run again")
        numbers = np.frombuffer(read(at + 12, at + 12 + 8 * count), "<i8")
        if form == b"full":
            sizes[:] = numbers
        else:
            sizes[numbers[::2]] = numbers[1::2]
        starts = at + 12 + 8 * count + np.concatenate([[0], np.cumsum(sizes * (trained.code_bytes + ID))])
        return cls(trained, read, sizes, starts)

    def entries(self, first: int, last: int) -> Entries:
        """The vectors of the lists from `first` to `last` - 1."""
        width, content = self.trained.code_bytes, self.read(int(self.starts[first]), int(self.starts[last]))
        sizes = self.sizes[first:last]
        total = int(sizes.sum())
        ids, codes, at, done = np.empty(total, np.int64), np.empty((total, width), np.uint8), 0, 0
        for count in sizes.tolist():
            codes[done : done + count] = np.frombuffer(content, np.uint8, count * width, at).reshape(count, width)
            ids[done : done + count] = np.frombuffer(content, "<i8", count, at + count * width)
            at, done = at + count * (width + ID), done + count
        return Entries(np.repeat(np.arange(first, last, dtype=np.int32), sizes), ids, codes)
