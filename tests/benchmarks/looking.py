"""What it costs to look at a root without an index, and to draw it: every embedding compared with queries, and the map of many."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from pipeline.queries.neighbours.best import nearest_of
from pipeline.reduce.layout.plane import plane
from pipeline.search.index.trained import one_thread
from tests.benchmarks.embeddings import planted
from tests.benchmarks.figures import Figure

DIMENSION, NEIGHBOURS = 512, 10


def measure(rows: int, points: int) -> list[Figure]:
    """By processor time of this process, one thread."""
    vectors = planted(rows, DIMENSION, 0, np.float16).astype(np.float16)
    queries = planted(64, DIMENSION, 1)
    with one_thread():
        compared = [
            Figure(f"a million compared with {count} quer{'y' if count == 1 else 'ies'} at once",
                   seconds(partial(nearest_of, queries[:count], vectors, NEIGHBOURS)) * 1e6 / rows, "s")
            for count in (1, 64)
        ]
        return [*compared, Figure(f"the map of {points:,}", seconds(lambda: plane(vectors[:points])), "s")]


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began
