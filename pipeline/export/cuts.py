"""Where the order of each class is cut, so that a given number of its samples is taken: counts and ranks, no files."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Ids

RANKED = np.dtype([("place", np.int32), ("rank", np.uint64), ("row", np.int64)])
"""A kept sample: position of its class, its rank there (lower is taken first), its row of the run (breaks ties)."""
CUT = np.dtype([("class_id", np.int32), ("samples", np.int64), ("taken", np.int64), ("rank", np.uint64), ("row", np.int64)])
"""A class: its samples are each taken `taken // samples` times, those up to (rank, row) once more."""
Ranked = NDArray[Any]
Cuts = NDArray[Any]


def cuts(parts: Callable[[], Iterable[Ranked]], ids: Ids, share: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Cuts:
    """CUT of every class, by position. `parts` iterates the samples anew with each call, in pieces whose order changes nothing
    but which rows tie; `share` says how many to take of each class, given its sizes. Held: 8 bytes per sample of a class that
    is cut inside, and one piece."""
    found = np.zeros(len(ids), CUT)
    found["class_id"], found["row"] = ids, -1
    for part in parts():
        np.add.at(found["samples"], part["place"], 1)
    found["taken"] = share(found["samples"])
    more = found["taken"] % np.maximum(found["samples"], 1)
    ends = np.cumsum(np.where(more, found["samples"], 0))
    ranks, start = _by_class(parts(), more > 0, ends), 0
    tied = np.zeros(len(ids), np.int64)   # rows of the cut's own rank that are taken
    for place in np.flatnonzero(more).tolist():
        mine, start = ranks[start : ends[place]], int(ends[place])
        mine.partition(more[place] - 1)
        rank = mine[more[place] - 1]
        tied[place] = more[place] - np.count_nonzero(mine < rank)
        found[place]["rank"] = rank
    rows = _tied_rows(parts(), found["rank"], tied)
    for place, some in rows.items():
        found[place]["row"] = np.sort(some)[tied[place] - 1]
    return found


def _by_class(parts: Iterable[Ranked], chosen: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The ranks of the chosen classes' samples, class after class up to `ends`."""
    ranks = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
    free = ends.copy()
    for part in parts:
        some = part[chosen[part["place"]]]
        some = some[np.argsort(some["place"], kind="stable")]
        places, first, counts = np.unique(some["place"], return_index=True, return_counts=True)
        free[places] -= counts
        ranks[np.repeat(free[places] - first, counts) + np.arange(len(some))] = some["rank"]
    return ranks


def _tied_rows(parts: Iterable[Ranked], rank: NDArray[np.uint64], tied: NDArray[np.int64]) -> Mapping[int, NDArray[np.int64]]:
    """By class that is cut, the rows of its cut's rank: one, but for exact duplicates."""
    found: dict[int, list[int]] = {}
    for part in parts:
        some = part[(tied[part["place"]] > 0) & (part["rank"] == rank[part["place"]])]
        for place, row in zip(some["place"].tolist(), some["row"].tolist(), strict=True):
            found.setdefault(place, []).append(row)
    return {place: np.array(rows, np.int64) for place, rows in found.items()}


def copies(found: Ranked, cut: Cuts) -> NDArray[np.int32]:
    """How often each of these samples is taken."""
    mine = cut[found["place"]]
    more = (found["rank"] < mine["rank"]) | ((found["rank"] == mine["rank"]) & (found["row"] <= mine["row"]))
    times: NDArray[np.int32] = (mine["taken"] // np.maximum(mine["samples"], 1) + more).astype(np.int32)
    return times


def farther(cosine: NDArray[np.float64]) -> NDArray[np.uint64]:
    """u64 below 2**32 that rises as the cosine falls, in steps of 2**-30."""
    return np.round((1 - np.clip(cosine, -1, 1)) * 2**30).astype(np.uint64)


def content_keys(uids: list[str]) -> NDArray[np.uint64]:
    """The first 64 bits of each uid."""
    return np.frombuffer(bytes.fromhex("".join(uid[:16] for uid in uids)), ">u8").astype(np.uint64)
