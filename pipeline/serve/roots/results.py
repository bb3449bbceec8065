"""Near duplicates within one answer, as clip-retrieval leaves them out."""

import numpy as np

from pipeline.queries.rows.columns import RootColumns
from pipeline.vectors import Floats, Ints, unit

ALIKE = 0.94
"""Cosine above which clip-retrieval takes two results for duplicates."""
BLOCK = 1024
ROW_BITS = 32


def result_vectors(columns: RootColumns, ids: Ints, name: str) -> Floats:
    """f32 [n, d], unit rows: the stored vectors of ids, i64 [n], by a column's name."""
    numbers, rows = ids >> ROW_BITS, ids & ((1 << ROW_BITS) - 1)
    vectors = np.zeros((len(ids), columns.dimension), np.float16)
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        places = places[np.argsort(rows[places])]
        vectors[places] = columns.vector_rows(columns.plan.shards[number].shard_id, name, rows[places])
    return unit(vectors)


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
