"""FAISS's heaps: the largest of many values of a row, seen some at a time."""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Floats


@dataclass(frozen=True, eq=False)
class Heaps:
    """The m largest values seen of each of n rows."""

    ids: NDArray[np.int64]
    values: Floats
    arrays: Any
    """FAISS's view of both."""

    @classmethod
    def of(cls, n: int, m: int) -> "Heaps":
        ids, values = np.empty((n, m), np.int64), np.empty((n, m), np.float32)
        arrays: Any = faiss.float_minheap_array_t()
        arrays.k, arrays.nh, arrays.val, arrays.ids = m, n, faiss.swig_ptr(values), faiss.swig_ptr(ids)
        arrays.heapify()
        return cls(ids, values, arrays)

    def add(self, values: Floats, first: int = 0, row: int = 0) -> None:
        """Values f32[some, width], C-contiguous, of the rows from `row` on; their ids count from `first`."""
        self.arrays.addn(values.shape[1], faiss.swig_ptr(values), first, row, len(values))

    def best(self) -> tuple[NDArray[np.int64], Floats]:
        """Largest first; id -1 where a row has seen fewer than m. Nothing can be added after."""
        self.arrays.reorder()
        return self.ids, self.values
