"""An index of a file, opened by memory map: only the pages that searches touch are read, and who opens it holds no copy.

A search among a part of the vectors goes by how large that part is:

- down to a quarter of them, more neighbours are asked for and the others dropped;
- below that FAISS compares the allowed ones alone, in more lists the rarer they are, as it was measured for a tenth and a hundredth
  (`Measured.share`); below a hundredth in all lists, which finds whatever there is.
- From some EXACT_BELOW allowed vectors on down, whoever asks does better to read these vectors themselves and to compare them
  exactly: that is a search without loss, and as fast. It is left to the caller, who knows where the vectors are.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from pipeline.errors import InputError, RootError
from pipeline.search.index.choice import HNSW
from pipeline.search.index.ids import NOTHING
from pipeline.search.index.neighbours import Neighbours
from pipeline.vectors import Floats, Ints
from schemas.indexes import IndexFile, Measured

EXACT_BELOW = 10_000
"""Allowed vectors that are compared exactly, one by one, in a few milliseconds."""
BROAD = 0.25
"""Share of the vectors from which on others are found too, and dropped: a set of all that are allowed would take longer to make."""
PIECE = 1 << 22
PARAMETERS: Any = faiss
"""Of one search each, so that none is shared; FAISS's stubs do not know what they take."""


@dataclass(frozen=True, eq=False)
class OpenIndex:
    """See `neighbours.VectorIndex`."""

    index: Any
    """FAISS's; it is never changed, whoever searches."""
    kind: str
    efforts: Sequence[Measured] = ()
    """The effort for each share of the vectors that was measured; none: as much as there is."""

    @property
    def size(self) -> int:
        return int(self.index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self.index.d)

    @property
    def most(self) -> int:
        """The effort beyond which a search finds no more: all lists; of a graph, all vertices."""
        return max(1, self.size) if self.kind == HNSW else int(self.index.nlist)

    def search(self, queries: Floats, k: int, *, allowed: Ints | None = None, effort: int | None = None) -> Neighbours:
        """See `VectorIndex.search`. Beside the answer it holds, where some ids are allowed, some 60 bytes of each of these."""
        queries = self._checked(queries, k, effort)
        if not self.size or not len(queries) or (allowed is not None and not len(allowed)):
            return nobody(len(queries), k)
        if allowed is None:
            return self._found(queries, k, effort or self.effort(1.0), None)
        share = min(1.0, len(allowed) / self.size)
        if share >= BROAD:
            found = self._overfetched(queries, k, allowed, effort or self.effort(1.0), share)
            if found is not None:
                return found
        ids = np.ascontiguousarray(allowed, np.int64)
        return self._found(queries, k, effort or self.effort(share), ids)

    def effort(self, share: float) -> int:
        """The effort for a search among this share of the vectors, 0..1: as it was measured; between two, a mean by logarithms."""
        known = sorted((one.share, one.effort) for one in self.efforts)
        if not known or share < known[0][0]:
            return self.most
        for (low, more), (high, less) in pairwise(known):
            if share < high:
                part = math.log(share / low) / math.log(high / low)
                return min(self.most, math.ceil(math.exp((1 - part) * math.log(more) + part * math.log(less))))
        return min(self.most, known[-1][1])

    def _checked(self, queries: Floats, k: int, effort: int | None) -> Floats:
        if k < 1 or (effort is not None and effort < 1):
            raise InputError(f"neighbours asked for (k) and the effort of a search are 1 or more, not {k} and {effort}")
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise InputError(f"the index has vectors of {self.dimension} values, the queries are {list(queries.shape)}")
        queries = np.ascontiguousarray(queries, np.float32)
        if not np.isfinite(queries).all():
            raise InputError("a query has values that are not finite")
        return queries

    def _overfetched(self, queries: Floats, k: int, allowed: Ints, effort: int, share: float) -> Neighbours | None:
        """None where a query finds fewer than it might: others are in the way, or its lists have no more."""
        wide = min(self.size, math.ceil(1.5 * k / share) + 16)
        found = self._found(queries, wide, effort, None)
        right = np.isin(found.ids, allowed) & (found.ids != NOTHING)
        if (right.sum(axis=1) < min(k, len(allowed))).any():
            return None
        order = np.argsort(~right, axis=1, kind="stable")[:, :k]   # best first, those that are allowed before the others
        there = np.take_along_axis(right, order, 1)
        answer, width = nobody(len(queries), k), order.shape[1]
        answer.ids[:, :width] = np.where(there, np.take_along_axis(found.ids, order, 1), NOTHING)
        answer.similarities[:, :width] = np.where(there, np.take_along_axis(found.similarities, order, 1), -np.inf)
        return answer

    def _found(self, queries: Floats, k: int, effort: int, allowed: Ints | None) -> Neighbours:
        selector = None if allowed is None else faiss.IDSelectorBatch(allowed)
        k, wanted = min(k, self.size), k
        parameters: Any
        if self.kind == HNSW:
            parameters = PARAMETERS.SearchParametersHNSW(efSearch=max(effort, k), sel=selector)
        else:
            parameters = PARAMETERS.SearchParametersIVF(nprobe=min(effort, self.most), sel=selector)
        similarities, ids = self.index.search(queries, k, params=parameters)
        similarities[ids < 0] = -np.inf
        if k == wanted:
            return Neighbours(ids, similarities)
        padded = nobody(len(queries), wanted)
        padded.ids[:, :k], padded.similarities[:, :k] = ids, similarities
        return padded


def nobody(queries: int, k: int) -> Neighbours:
    """No neighbour at all, for each of the queries."""
    return Neighbours(np.full((queries, k), NOTHING, np.int64), np.full((queries, k), -np.inf, np.float32))


def opened(path: Path, record: IndexFile, *, hashed: bool = True) -> OpenIndex:
    """The index in this local file, mapped. Raises RootError where the file is gone or not as its record says.

    FAISS's reader is made for files that one trusts; so the bytes are held against the hash in index.json before it sees them,
    which reads the file once. `hashed` False looks at the size alone: for who has just written it."""
    where = f"{path}: remove its folder and run the root's command again, which makes it anew"
    try:
        size = os.path.getsize(path)
        if size != record.bytes:
            raise RootError(f"an index file has {size:,} bytes instead of {record.bytes:,} ({where})")
        if hashed and sha256_of(path) != record.sha256:
            raise RootError(f"an index file is damaged, its bytes are not those that were written ({where})")
    except FileNotFoundError:
        raise RootError(f"an index file is missing ({where})") from None
    return OpenIndex(mapped(path, record.kind), record.kind, record.measured)


def mapped(path: Path, kind: str) -> Any:
    """FAISS's index of a file, mapped. Raises RootError for what is none."""
    flags = faiss.IO_FLAG_MMAP_IFC if kind == HNSW else faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
    try:
        index: Any = faiss.read_index(str(path), flags)
    except RuntimeError as error:
        raise RootError(f"{path} is no index that FAISS reads ({str(error).strip().splitlines()[-1][-200:]}): "
                        "remove its folder and run the root's command again") from error
    return index


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a local file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
