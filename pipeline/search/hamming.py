"""Neighbours of 64-bit hashes by the bits in which they differ."""

from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Bytes, Ints

CANDIDATES = 2**22   # pairs of one search, at most: 50 MB


@dataclass
class HashSearch:
    """Rows of 64-bit hashes that can be searched by Hamming distance."""

    positions: list[Ints] = field(default_factory=list)
    index: Any = field(default_factory=lambda: faiss.IndexBinaryFlat(64))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def add(self, positions: Ints, hashes: Bytes) -> None:
        """Adds hashes u8[n, 8] under the positions i64[n] that a search shall give for them."""
        self.positions.append(positions)
        self.index.add(np.ascontiguousarray(hashes))

    def candidates(self, hashes: Bytes, radius: int) -> tuple[Ints, Ints, NDArray[np.int32]]:
        """All pairs within the radius (bits, inclusive) of hashes u8[n, 8] and added ones: the query i64[p] by its place among
        `hashes`, the position i64[p] of its partner, and the bits in which they differ, i32[p]."""
        if not len(self) or not len(hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)
        limits, distances, partners = self.index.range_search(np.ascontiguousarray(hashes), radius + 1)   # exclusive
        queries = np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64)))
        return queries, np.concatenate(self.positions)[partners], distances.astype(np.int32)
