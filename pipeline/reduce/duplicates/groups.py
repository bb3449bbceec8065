"""Rows that are equal: the preferred one of each group, and the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Bools, Ints


class Copies(NamedTuple):
    """Places i64[p] of rows, and for each the place of the preferred row of its group; the preferred rows are not among them."""

    place: Ints
    of: Ints


def preferred_first(pixels: Ints, rows: Ints) -> Ints:
    """i64[n]: the places of the rows, most pixels first, then by row number."""
    return np.lexsort((rows, -pixels))


def copies(keys: Sequence[NDArray[Any]], pixels: Ints, rows: Ints) -> Copies:
    """The rows whose keys, arrays [n], are all those of a preferred row. Memory grows with the rows, whatever the groups' sizes."""
    order = np.lexsort((rows, -pixels, *keys))
    first: Bools = np.ones(len(order), bool)
    if len(order):
        first[1:] = np.any([key[order[1:]] != key[order[:-1]] for key in keys], axis=0)
    leaders = order[first][np.cumsum(first) - 1]
    return Copies(order[~first], leaders[~first])
