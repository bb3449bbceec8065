"""Arrays as every room means them: their types by name, rows at length one, and places within groups.

A type gives the dtype; how many dimensions there are and what they count is said where the name is used, e.g. "f32[n, d]".
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""f32, any shape: unit rows [n, d], centres [k, d], cosines and scores [n] or [n, l]."""
Halves = NDArray[np.float16]
"""f16, [n, d]: embeddings as they are stored, nearly unit; zero rows where there is none."""
Doubles = NDArray[np.float64]
"""f64, any shape: what is summed or decided by in more digits than are stored."""
Matrix = NDArray[np.floating]
"""f16, f32 or f64, [n, d]: rows as they are stored, in memory or mapped from a file."""
Ids = NDArray[np.int32]
"""i32, [n] or [n, l]: classes, centres or clusters by number, from 0; -1 where there is none."""
Ints = NDArray[np.int64]
"""i64, any shape: row numbers, places, counts and sizes."""
Bools = NDArray[np.bool_]
"""bool, any shape: a mask."""
Bytes = NDArray[np.uint8]
"""u8, any shape: pixels, packed bits and 8-bit scores."""

CACHED_ROWS = 1024
"""Rows of a few hundred values that are made wider or changed at a time: they stay in a core's cache."""


def unit(rows: NDArray[np.generic]) -> Floats:
    """The rows [n, d] at length 1, f32[n, d], computed in float64: stored float16 embeddings are only nearly unit. Zero rows stay
    zero. A row's bits depend on nothing but the row."""
    result = np.empty(rows.shape, np.float32)
    for at in range(0, len(rows), CACHED_ROWS):
        wide = np.asarray(rows[at : at + CACHED_ROWS], np.float64)
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        result[at : at + CACHED_ROWS] = wide / np.where(length == 0, 1, length)
    return result


def places(groups: NDArray[np.integer]) -> Ints:
    """i64[n]: the place of each element, from 0, among those of its group; `groups`, integers [n], is ascending."""
    return np.asarray(np.arange(len(groups)) - np.searchsorted(groups, groups, side="left"), np.int64)


def ranked(groups: NDArray[np.integer], rank: NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Positions i64[n] in the order of groups (integers [n]), then ranks ([n]), then positions; and the place of each, from 0, in
    its group, i64[n]."""
    order = np.lexsort((rank, groups))
    return order, places(groups[order])
