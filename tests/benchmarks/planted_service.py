"""The service of `serving.py`, in a process of its own, without torch:

    python -m tests.benchmarks.planted_service ROOT INDEX EFFORT
"""

import json
import sys
from typing import Any

import faiss
import numpy as np

from pipeline.queries.neighbours.catalogue import Catalogue, Found
from pipeline.queries.neighbours.query import Query, checked_vectors
from pipeline.serve.settings import Settings
from pipeline.vectors import Floats, Ints
from tests.serve.running import running

DIMENSION, K = 512, 10


def probed(index: Any, queries: Floats, effort: int) -> tuple[Floats, Ints]:
    """Similarities and ids, by FAISS's own call with parameters of this search alone."""
    parameters: Any = faiss
    found: tuple[Floats, Ints] = index.search(queries, K, params=parameters.SearchParametersIVF(nprobe=effort))
    return found


def mapped(path: str) -> Any:
    """The index, its lists where they are in the file."""
    flags: Any = faiss
    return faiss.read_index(path, flags.IO_FLAG_MMAP_IFC)


class Planted(Catalogue):
    """The sample's root, whose neighbours are found by an index over planted vectors."""

    index: Any
    effort: int
    rows: list[int]

    @property
    def dimension(self) -> int:
        return DIMENSION

    def vector(self, query: Query) -> Floats:
        vector: Floats = checked_vectors(np.asarray([query.vector]), DIMENSION)[0]
        return vector

    def nearest(self, vectors: Floats, k: int, **wanted: Any) -> Found:
        similarities, ids = probed(self.index, vectors, wanted["effort"] or self.effort)
        return Found(np.array(self.rows, np.int64)[ids[:, :k] % len(self.rows)], similarities[:, :k], exact=False)


def serve(root: str, index: str, effort: int) -> None:
    """Says its port, and runs until its standard input ends."""
    with running([f"root={root}"], Settings(encoder=False)) as server:
        [opened] = server.roots.all()
        shards = opened.catalogue.plan.shards
        catalogue = Planted(opened.catalogue.plan)
        object.__setattr__(catalogue, "index", mapped(index))
        object.__setattr__(catalogue, "effort", effort)
        object.__setattr__(catalogue, "rows", [
            number << 32 | row for number, shard in enumerate(shards) for row in range(opened.listing.counts[shard.shard_id])])
        object.__setattr__(opened, "catalogue", catalogue)
        print(json.dumps({"port": server.port}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
