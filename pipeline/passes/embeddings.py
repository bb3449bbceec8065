"""The stored embeddings of a run as blocks of rows, and a seeded sample of them."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Run, RunShard, bundles, shard_ids_of, vector_array
from pipeline.plan import Plan
from pipeline.reduce.kmeans.partition import RowSample
from pipeline.select.stored import kept_rows
from pipeline.shuffle.drawn import Drawable
from pipeline.store.blocks.groups import divided
from pipeline.store.blocks.several import columns_of, matrix_rows_of, stored_matrix
from pipeline.store.store import Store
from pipeline.vectors import Bools, Floats, Halves, Ints, Matrix, unit


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of some neighbours as a block: of the kept samples, or of all that have one (`verdicts` None)."""

    store: Store
    folder: str
    shards: tuple[RunShard, ...]
    verdicts: str | None
    column: str = "image_embedding"

    @property
    def name(self) -> str:
        first, *others = self.shards
        return f"{first}-and-{len(others)}" if others else str(first)

    def open(self) -> tuple[Matrix, NDArray[np.int64]]:
        """float16 [N, d], mapped where the store is local, and which of its rows count, ascending. Of a remote store only those are
        read, and kept by `COPIES` as long as there is room."""
        if self.store.local is not None:
            return stored_matrix(self.store, self.folder, shard_ids_of(self.shards), self.column), self.rows()
        matrix = COPIES.of(self)
        if matrix is None:
            matrix = COPIES.kept(self, self.read(self.rows()))
        return matrix, np.arange(len(matrix))   # not None: rows that are taken one by one leave no file mapped

    def rows(self) -> NDArray[np.int64]:
        """Which rows of the shards count, ascending; no embedding is read."""
        if self.verdicts is not None:
            return kept_rows(self.store, self.verdicts, *shard_ids_of(self.shards)).astype(np.int64)
        return np.flatnonzero(embedded(self.store, self.folder, self.shards, self.column))

    def read(self, rows: NDArray[np.int64]) -> Matrix:
        """float16 [n, d] of these rows of the shards, ascending, in memory: no other is read."""
        return embeddings_at(self.store, self.folder, self.shards, self.column, rows)


def embedded(store: Store, folder: str, shards: Sequence[RunShard], column: str = "image_embedding") -> Bools:
    """bool [rows of these shards]: it has an embedding."""
    return np.asarray(columns_of(store, folder, shard_ids_of(shards), [f"{column}_valid"]).column(f"{column}_valid"), bool)


def embeddings_at(store: Store, folder: str, shards: Sequence[RunShard], name: str, rows: Ints) -> Halves:
    """float16 [n, d]: those of these rows, i64 [n] ascending, that count through the shards."""
    return matrix_rows_of(store, folder, {shard.shard_id: shard.rows for shard in shards}, name, rows)


@dataclass
class Copies:
    """Embeddings of a remote root in one local file without a name, for fits, which read them many times from first to last: those
    that came first, up to a bound, for later ones would only push them out. What has no room is read from the store again."""

    limit: int = 32 << 30
    """Bytes, in each process."""
    spare: float = 0.05
    """Share of the disk that is left free."""
    _file: IO[bytes] | None = None
    _places: dict[Embeddings, tuple[int, tuple[int, int]]] = field(default_factory=dict)
    _used: int = 0
    _lock: Lock = field(default_factory=Lock)

    def of(self, block: Embeddings) -> Matrix | None:
        """The rows of a block that count, float16 [n, d], mapped; None where they are not kept."""
        with self._lock:
            if block not in self._places or self._file is None:
                return None
            offset, shape = self._places[block]
            return np.memmap(self._file, np.float16, "r", offset, shape)

    def kept(self, block: Embeddings, matrix: Matrix) -> Matrix:
        """The same rows, after they were copied if there is room."""
        with self._lock:
            if matrix.size and block not in self._places and self._room(matrix.nbytes):
                if self._file is None:
                    self._file = tempfile.TemporaryFile()   # noqa: SIM115 (lives longer)
                self._file.seek(self._used)
                self._file.write(np.ascontiguousarray(matrix).data)
                self._file.flush()
                self._places[block] = self._used, (matrix.shape[0], matrix.shape[1])
                self._used += matrix.nbytes
        return matrix

    def _room(self, size: int) -> bool:
        disk = shutil.disk_usage(tempfile.gettempdir())
        return self._used + size <= self.limit and disk.free - size >= self.spare * disk.total

    def clear(self) -> None:
        """Gives the room back."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file, self._places, self._used = None, {}, 0


COPIES = Copies()
"""Of this process; a worker's go with it."""


def fitted_blocks(plan: Plan, run: Run) -> list[Embeddings]:
    """What the centroids are fitted on, in row-id order, small neighbours as one block. Which rows are one block changes no bit."""
    verdicts = None if plan.recipe.classes.fit_on == "all" else plan.selected
    return [embeddings(plan, shards, verdicts) for shards in divided(run.rows.shards, lambda shard: shard.share)]


def kept_embeddings(plan: Plan, shards: Sequence[RunShard]) -> list[Embeddings]:
    """Of the samples of these shards that are labelled: those that the rules on columns keep."""
    return [embeddings(plan, bundle, plan.selected) for bundle in bundles(shards)]


def embeddings(plan: Plan, shards: tuple[RunShard, ...], verdicts: str | None) -> Embeddings:
    """Of some neighbours; `verdicts` as in `Embeddings`."""
    return Embeddings(plan.root, plan.columns.folders["clip"], shards, verdicts)


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


@dataclass(frozen=True)
class Embedded(Drawable):
    """Embeddings of the samples that have one, float16 [d] by name."""

    names: tuple[str, ...] = ("image_embedding",)

    def eligible(self, shards: Sequence[RunShard]) -> Bools:
        return embedded(self.columns.store, self.columns.folders["clip"], shards)

    def fetched(self, shards: Sequence[RunShard], rows: Ints) -> pa.Table:
        store, folder = self.columns.store, self.columns.folders["clip"]
        there = pa.array(np.ones(len(rows), bool))
        return pa.table({name: vector_array(embeddings_at(store, folder, shards, name, rows), there) for name in self.names})
