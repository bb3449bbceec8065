"""A graph of neighbours (HNSW, Malkov and Yashunin 2018) over vectors of half precision, with ids.

Where a vertex is linked follows from those that were there before it, so a graph is made by one thread, in one order: with several,
FAISS links them in the order in which threads come, and makes another graph each time. Nor can FAISS take a vertex out again: an
index of which vectors go is made anew.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from pipeline.search.index.choice import LINKS
from pipeline.search.index.trained import CONSTRUCTION, one_thread, parsed
from pipeline.vectors import Floats, Ints


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph in memory."""

    index: Any

    @classmethod
    def new(cls, dimension: int) -> "Graph":
        """Without vectors."""
        half: Any = faiss.ScalarQuantizer.QT_fp16
        graph: Any = faiss.IndexHNSWSQ(dimension, half, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = CONSTRUCTION
        graph.is_trained = graph.storage.is_trained = True   # half precision has nothing to learn
        index: Any = faiss.IndexIDMap(graph)
        index.own_fields = True
        graph.this.disown()
        return cls(index)

    @classmethod
    def read(cls, content: bytes) -> "Graph":
        """As it was written. Raises RootError for what is none."""
        return cls(parsed(content))

    @property
    def size(self) -> int:
        """Vectors that it has."""
        return int(self.index.ntotal)

    def add(self, rows: Floats, ids: Ints) -> None:
        """Adds vectors, f32 [n, d] of unit length, with these ids, i64 [n]."""
        if len(rows):
            with one_thread():
                self.index.add_with_ids(np.ascontiguousarray(rows, np.float32), np.ascontiguousarray(ids, np.int64))

    def content(self) -> bytes:
        """As FAISS writes it."""
        return bytes(faiss.serialize_index(self.index))
