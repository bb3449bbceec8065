"""The nearest other rows of each row, all of them in memory: exact for some thousands, from an inverted file beyond."""

from typing import NamedTuple

import faiss
import numpy as np

from pipeline.vectors import Floats, Ints

EXACT_ROWS = 20_000
"""Beyond, comparing all pairs costs more than an inverted file does (100,000 x 50 on one core: 40 s and 8 s)."""
PROBED = 8
"""Lists that a row looks into, of the root of n: about a tenth of the neighbours are missed, which a drawing does not show."""


class Nearest(NamedTuple):
    """Of n rows, the k nearest others."""

    rows: Ints
    """i64 [n, k], nearest first; an inverted file may find fewer, and the row itself then fills its places"""
    distances: Floats
    """f32 [n, k], Euclidean; 0 where the row itself stands"""


def nearest_others(rows: Floats, k: int, seed: int = 0) -> Nearest:
    """The k (1..n - 1) nearest other rows of each of f32 [n, d]. Single-threaded where the calling thread's FAISS is."""
    rows = np.ascontiguousarray(rows, np.float32)
    squared, found = _index(rows, seed).search(rows, k + 1)
    own = np.arange(len(rows))[:, None]
    # Among equal rows, a row need not be the first of its own list: it is taken out where it stands, else the farthest is.
    out = np.where((found == own).any(axis=1), (found == own).argmax(axis=1), k)
    kept = np.ones(found.shape, bool)
    kept[np.arange(len(rows)), out] = False
    found, squared = found[kept].reshape(-1, k), squared[kept].reshape(-1, k)
    missing = found < 0
    distances = np.sqrt(np.maximum(np.where(missing, 0, squared), 0))
    return Nearest(np.where(missing, own, found), np.asarray(distances, np.float32))


def _index(rows: Floats, seed: int) -> "faiss.Index":
    n, dimension = rows.shape
    flat = faiss.IndexFlatL2(dimension)
    if n <= EXACT_ROWS:
        flat.add(rows)
        return flat
    lists = faiss.IndexIVFFlat(flat, dimension, int(n**0.5))
    lists.cp.seed, lists.cp.niter, lists.nprobe = seed, 10, PROBED
    lists.train(rows)
    lists.add(rows)
    return lists
