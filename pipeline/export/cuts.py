"""Where the order of each class is cut, so that a given number of its samples is taken: counts and ranks, no files."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Ids

RANKED = np.dtype([("place", np.int32), ("rank", np.uint64), ("row", np.int64)])
"""A kept sample: position of its class, its rank there (lower is taken first), its row of the run (breaks ties)."""
CUT = np.dtype([("class_id", np.int32), ("samples", np.int64), ("taken", np.int64), ("rank", np.uint64), ("row", np.int64)])
"""A class: its samples are each taken `taken // samples` times, those up to (rank, row) once more."""
Ranked = NDArray[Any]
Cuts = NDArray[Any]
HELD = 1 << 22
"""Ranks, and counts of them, that are held."""


def cuts(parts: Callable[[], Iterable[Ranked]], ids: Ids, share: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Cuts:
    """CUT [classes], by position. `parts` iterates the samples (RANKED) anew with each call, in pieces whose order changes
    nothing but which rows tie; `share` says how many to take of each class, int64 [classes], given their sizes. It holds one
    piece, a few numbers per class, and HELD ranks."""
    table = np.zeros(len(ids), CUT)
    table["class_id"], table["row"] = ids, -1
    for part in parts():
        np.add.at(table["samples"], part["place"], 1)
    table["taken"] = share(table["samples"])
    remainders = table["taken"] % np.maximum(table["samples"], 1)
    begun = _settled(parts, remainders, np.where(remainders, table["samples"], 0))
    ends = np.cumsum(np.where(remainders, begun.left, 0))
    ranks, start = _by_class(parts(), begun, ends), 0
    tied = np.zeros(len(ids), np.int64)   # rows of the cut's own rank that are taken
    for place in np.flatnonzero(remainders).tolist():
        class_ranks, start = ranks[start : ends[place]], int(ends[place])
        wanted = remainders[place] - begun.below[place]
        class_ranks.partition(wanted - 1)
        rank = class_ranks[wanted - 1]
        tied[place] = wanted - np.count_nonzero(class_ranks < rank)
        table[place]["rank"] = rank
    rows = _tied_rows(parts(), table["rank"], tied)
    for place, class_rows in rows.items():
        table[place]["row"] = np.sort(class_rows)[tied[place] - 1]
    return table


class Begun(NamedTuple):
    """How the rank of each class's cut begins: its first `bits`."""

    bits: int
    first: NDArray[np.uint64]
    below: NDArray[np.int64]
    """Samples whose ranks begin lower."""
    left: NDArray[np.int64]
    """Samples whose ranks begin so; 0 for a class that is not cut inside."""

    def of(self, part: Ranked) -> Ranked:
        """The samples of the part whose ranks begin so."""
        part = part[self.left[part["place"]] > 0]
        if not self.bits:
            return part
        begins_so: NDArray[np.bool_] = part["rank"] >> np.uint64(64 - self.bits) == self.first[part["place"]]
        return part[begins_so]


def _settled(parts: Callable[[], Iterable[Ranked]], wanted: NDArray[np.int64], samples: NDArray[np.int64]) -> Begun:
    """As many bits of each cut's rank as it takes for few samples to be left. `wanted`: the number of the rank in its class, from
    1; `samples`: those of the classes that are cut inside."""
    begun = Begun(0, np.zeros(len(wanted), np.uint64), np.zeros(len(wanted), np.int64), samples)
    digit = min(16, max(2, (HELD // max(1, len(wanted))).bit_length() - 1))
    while begun.left.sum() > HELD and begun.bits < 64:
        bits = min(64, begun.bits + digit)
        width = 1 << (bits - begun.bits)
        counts = np.zeros(len(wanted) * width, np.int64)
        for part in parts():
            members = begun.of(part)
            digits = (members["rank"] >> np.uint64(64 - bits)) & np.uint64(width - 1)
            counts += np.bincount(members["place"].astype(np.int64) * width + digits.astype(np.int64), minlength=len(counts))
        ends = np.cumsum(counts.reshape(-1, width), axis=1)
        at = (ends < (wanted - begun.below)[:, None]).sum(axis=1)
        place, at = np.arange(len(wanted)), np.minimum(at, width - 1)
        left = np.where(begun.left > 0, counts.reshape(-1, width)[place, at], 0)
        first = (begun.first << np.uint64(bits - begun.bits)) | at.astype(np.uint64)
        begun = Begun(bits, first, begun.below + ends[place, at] - left, left)
    return begun


def _by_class(parts: Iterable[Ranked], begun: Begun, ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The ranks that are left of each class's samples, class after class up to `ends`."""
    ranks = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
    free = ends.copy()
    for part in parts:
        members = begun.of(part)
        members = members[np.argsort(members["place"], kind="stable")]
        places, first, counts = np.unique(members["place"], return_index=True, return_counts=True)
        free[places] -= counts
        ranks[np.repeat(free[places] - first, counts) + np.arange(len(members))] = members["rank"]
    return ranks


def _tied_rows(parts: Iterable[Ranked], rank: NDArray[np.uint64], tied: NDArray[np.int64]) -> Mapping[int, NDArray[np.int64]]:
    """The rows that have the rank of the cut, for each class that is cut inside: one row, but for exact duplicates."""
    by_class: dict[int, list[int]] = {}
    for part in parts:
        members = part[(tied[part["place"]] > 0) & (part["rank"] == rank[part["place"]])]
        for place, row in zip(members["place"].tolist(), members["row"].tolist(), strict=True):
            by_class.setdefault(place, []).append(row)
    return {place: np.array(rows, np.int64) for place, rows in by_class.items()}


def copies(members: Ranked, cut: Cuts) -> NDArray[np.int32]:
    """int32 [n]: how often each of the n samples (RANKED) is taken; `cut` is CUT of every class."""
    class_cuts = cut[members["place"]]
    at_cut = (members["rank"] == class_cuts["rank"]) & (members["row"] <= class_cuts["row"])
    once_more = (members["rank"] < class_cuts["rank"]) | at_cut
    times: NDArray[np.int32] = (class_cuts["taken"] // np.maximum(class_cuts["samples"], 1) + once_more).astype(np.int32)
    return times


def farther(cosine: NDArray[np.float64]) -> NDArray[np.uint64]:
    """uint64 [n] below 2**32 that rises as the cosine (float64 [n]) falls, in steps of 2**-30."""
    return np.round((1 - np.clip(cosine, -1, 1)) * 2**30).astype(np.uint64)


def content_keys(uids: list[str]) -> NDArray[np.uint64]:
    """uint64 [n]: the first 64 bits of each uid of 32 hex digits."""
    return np.frombuffer(bytes.fromhex("".join(uid[:16] for uid in uids)), ">u8").astype(np.uint64)
