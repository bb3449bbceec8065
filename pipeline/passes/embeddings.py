"""The stored image embeddings of a run as blocks of rows, and a seeded sample of them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.plan import Plan
from pipeline.reduce.kmeans.partition import RowSample
from pipeline.select.stored import kept_rows
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_vector_rows, read_vectors
from pipeline.vectors import Floats, Matrix, unit


@dataclass(frozen=True)
class Embeddings:
    """The image embeddings of one shard as a block: of the kept samples, or of all that have one (`verdicts` None)."""

    store: Store
    folder: str
    shard_id: str
    verdicts: str | None

    @property
    def name(self) -> str:
        return self.shard_id

    def open(self) -> tuple[Matrix, NDArray[np.int64] | None]:
        """float16 [rows of the shard, d], mapped, and which of its rows count, ascending."""
        return self._matrix(), self.rows()

    def rows(self) -> NDArray[np.int64]:
        """Which rows of the shard count, ascending; no embedding is read."""
        if self.verdicts is not None:
            return kept_rows(self.store, self.verdicts, self.shard_id).astype(np.int64)
        valid = read_columns(self.store, self.folder, self.shard_id, ["image_embedding_valid"]).column("image_embedding_valid")
        return np.flatnonzero(np.asarray(valid))

    def read(self, rows: NDArray[np.int64]) -> Matrix:
        """float16 [n, d] of these rows of the shard, ascending, in memory: no other is read."""
        return read_vector_rows(self.store, self.folder, self.shard_id, "image_embedding", rows)

    def _matrix(self) -> Matrix:
        if self.store.local is not None:
            return read_vectors(self.store, self.folder, self.shard_id, "image_embedding")
        return spooled(self.store, self.folder, self.shard_id)


@cache
def spooled(store: Store, folder: str, shard_id: str) -> Matrix:
    """The vectors of a remote store in an unnamed local file, mapped: a fit reads them many times. Gone with the process."""
    array = read_vectors(store, folder, shard_id, "image_embedding")
    if not array.size:
        return array
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes())
        file.flush()
        return np.memmap(file, array.dtype, "r", shape=array.shape)


def fitted_on(plan: Plan, run: Run) -> list[Embeddings]:
    """What the centroids are fitted on, in row-id order."""
    verdicts = None if plan.recipe.classes.fit_on == "all" else plan.selected
    return [embeddings(plan, shard_id, verdicts) for shard_id in run.rows.shard_ids]


def kept_embeddings(plan: Plan, shard_ids: Sequence[str]) -> list[Embeddings]:
    """Of the samples of these shards that are labelled: those that the rules on columns keep."""
    return [embeddings(plan, shard_id, plan.selected) for shard_id in shard_ids]


def embeddings(plan: Plan, shard_id: str, verdicts: str | None) -> Embeddings:
    """Of one shard; `verdicts` as in `Embeddings`."""
    return Embeddings(plan.root, plan.columns.folders["clip"], shard_id, verdicts)


def sampled_embeddings(blocks: Sequence[Embeddings], count: int, seed: int) -> Floats:
    """float32 [about `count`, d]: unit rows, chosen by their numbers and the seed; [0, 0] where none is. Rows are drawn before any
    is read, and one file is open at a time."""
    counts = [len(block.rows()) for block in blocks]
    share, start, parts = RowSample(seed, min(1.0, count / max(1, sum(counts)))), 0, []
    for block, rows in zip(blocks, counts, strict=True):
        drawn = share.chosen(np.arange(start, start + rows)) - start
        if len(drawn):
            parts.append(block.read(block.rows()[drawn]))   # asked for again: those of the whole run would not fit
        start += rows
    return unit(np.concatenate(parts)) if parts else np.zeros((0, 0), np.float32)
