"""Near duplicates within one answer, as clip-retrieval leaves them out."""

import numpy as np

from pipeline.vectors import Floats, Ints

ALIKE = 0.94
"""Cosine above which clip-retrieval takes two results for duplicates."""
BLOCK = 1024


def representatives(vectors: Floats) -> Ints:
    """i64, ascending: the first row of each connected component of rows, f32 [n, d], whose cosine is above ALIKE. Holds
    BLOCK x n numbers."""
    parent = np.arange(len(vectors))

    def top(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for at in range(0, len(vectors), BLOCK):
        alike = vectors[at : at + BLOCK] @ vectors.T > ALIKE
        for row, other in zip(*np.nonzero(alike), strict=True):
            if other > at + row:
                first, second = sorted((top(int(at + row)), top(int(other))))
                parent[second] = first
    return np.flatnonzero(parent == np.arange(len(vectors)))
