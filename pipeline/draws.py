"""Samples by seed. `drawn` and `uids_below` go by nothing but what is drawn (a hash of a key, a seed and what the draw is for; a
uid), so neither partitions nor the order of the work change them; how many they draw is about right. `sampled` draws an exact
number, of rows that are all counted."""

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Bools, Ints

Draws = NDArray[np.uint64]
"""u64 [n]: uniform random numbers."""

ROOT, SAMPLE, PAIRS, PREFERRED, QUERIES, FILTERED = -1, -2, -3, -4, -5, -6
"""Streams: rows of a balanced sample, of a sample to fit on, of pairs to count, the order of preference among duplicates, rows that
are held out as queries, rows that a filter would leave.
Levels of a hierarchy are 0, 1, …"""


def drawn(keys: NDArray[np.integer], seed: int, stream: int, part: float) -> Bools:
    """bool[n]: which keys (integers [n]) belong to a part of them (expected share 0..1); the keys of a smaller part are among those
    of a larger one."""
    return np.asarray((draws(keys, seed, stream) >> np.uint64(11)) < part * 2.0**53)


def sampled(rows: Ints, count: int, seed: int | np.random.Generator) -> Ints:
    """At most `count` of these row numbers i64[n], each as likely, in their order (ascending rows stay ascending)."""
    return rows[drawn_places(len(rows), count, seed)]


def drawn_places(total: int, count: int, seed: int | np.random.Generator) -> Ints:
    """i64, ascending: at most `count` of so many places, each as likely, as `sampled` takes rows. Memory goes by `count` where that
    is small (numpy then draws into a set)."""
    if total <= count:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def uids_below(share: float) -> str:
    """The hexadecimal uids below this text are about that share (0..1) of all, the same ones in every root."""
    return "g" if share >= 1 else f"{int(share * 16**8):08x}"


def draws(keys: NDArray[np.integer], seed: int, stream: int) -> Draws:
    """u64[n]: a uniform number for each key (integers [n]), seed and stream: one pass of SplitMix64's output function (Steele, Lea
    and Flood 2014) over each. A bijection of the keys, so different keys never tie."""
    start = _mixed(_mixed(np.array([seed], np.int64).view(np.uint64)) + np.array([stream], np.int64).view(np.uint64))
    return _mixed(np.ascontiguousarray(keys).astype(np.uint64) ^ start)


def _mixed(value: Draws) -> Draws:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
