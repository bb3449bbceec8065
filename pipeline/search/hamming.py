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
    """Rows already decided on, searchable by hash."""

    positions: list[Ints] = field(default_factory=list)
    index: Any = field(default_factory=lambda: faiss.IndexBinaryFlat(64))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def add(self, positions: Ints, hashes: Bytes) -> None:
        self.positions.append(positions)
        self.index.add(np.ascontiguousarray(hashes))

    def candidates(self, hashes: Bytes, radius: int) -> tuple[Ints, Ints, NDArray[np.int32]]:
        """(query, position found, bits that differ) of all pairs within the radius."""
        if not len(self) or not len(hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32)
        limits, distances, found = self.index.range_search(np.ascontiguousarray(hashes), radius + 1)   # exclusive
        query = np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64)))
        return query, np.concatenate(self.positions)[found], distances.astype(np.int32)
