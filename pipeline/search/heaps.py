"""FAISS's heaps: the largest of many values of a row, given a tile at a time."""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from pipeline.vectors import Floats, Ints


@dataclass(frozen=True, eq=False)
class Heaps:
    """The m largest of the values added so far to each of n rows."""

    ids: Ints
    """i64[n, m]"""
    values: Floats
    """f32[n, m]"""
    arrays: Any
    """FAISS's view of both."""

    @classmethod
    def of(cls, n: int, m: int) -> "Heaps":
        """Empty heaps of m values for n rows."""
        ids, values = np.empty((n, m), np.int64), np.empty((n, m), np.float32)
        arrays: Any = faiss.float_minheap_array_t()
        arrays.k, arrays.nh, arrays.val, arrays.ids = m, n, faiss.swig_ptr(values), faiss.swig_ptr(ids)
        arrays.heapify()
        return cls(ids, values, arrays)

    def add(self, values: Floats, first: int = 0, first_row: int = 0) -> None:
        """Adds values f32[n', width], C-contiguous, to the rows from `first_row` on; their ids count from `first`."""
        self.arrays.addn(values.shape[1], faiss.swig_ptr(values), first, first_row, len(values))

    def best(self) -> tuple[Ints, Floats]:
        """Ids i64[n, m] and values f32[n, m], largest first; id -1 where a row got fewer than m. Nothing can be added after."""
        self.arrays.reorder()
        return self.ids, self.values
