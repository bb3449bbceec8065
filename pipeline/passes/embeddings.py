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

from pipeline.columns import Run, vector_array
from pipeline.plan import Plan
from pipeline.reduce.kmeans.partition import RowSample
from pipeline.select.stored import kept_rows
from pipeline.shuffle.drawn import Drawable
from pipeline.store.blocks.groups import divided
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_vector_rows, read_vectors
from pipeline.vectors import Bools, Floats, Ints, Matrix, unit


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of one shard as a block: of the kept samples, or of all that have one (`verdicts` None)."""

    store: Store
    folder: str
    shard_id: str
    verdicts: str | None
    column: str = "image_embedding"

    @property
    def name(self) -> str:
        return self.shard_id

    def open(self) -> tuple[Matrix, NDArray[np.int64]]:
        """float16 [N, d], mapped where the store is local, and which of its rows count, ascending. Of a remote shard only those are
        read, and kept by `COPIES` as long as there is room."""
        if self.store.local is not None:
            return read_vectors(self.store, self.folder, self.shard_id, self.column), self.rows()
        matrix = COPIES.of(self)
        if matrix is None:
            matrix = COPIES.kept(self, self.read(self.rows()))
        return matrix, np.arange(len(matrix))   # not None: rows that are taken one by one leave no file mapped

    def rows(self) -> NDArray[np.int64]:
        """Which rows of the shard count, ascending; no embedding is read."""
        if self.verdicts is not None:
            return kept_rows(self.store, self.verdicts, self.shard_id).astype(np.int64)
        valid = read_columns(self.store, self.folder, self.shard_id, [f"{self.column}_valid"]).column(f"{self.column}_valid")
        return np.flatnonzero(np.asarray(valid))

    def read(self, rows: NDArray[np.int64]) -> Matrix:
        """float16 [n, d] of these rows of the shard, ascending, in memory: no other is read."""
        return read_vector_rows(self.store, self.folder, self.shard_id, self.column, rows)


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


@dataclass(frozen=True)
class Joined:
    """The embeddings of several small shards as one block: a fit writes a file for each block, now and then."""

    parts: tuple[Embeddings, ...]

    @property
    def name(self) -> str:
        return f"{self.parts[0].name}-and-{len(self.parts) - 1}"

    def open(self) -> tuple[Matrix, NDArray[np.int64]]:
        """As `Embeddings.open`, in memory."""
        matrices, rows, start = list[Matrix](), list[NDArray[np.int64]](), 0
        for matrix, counting in (part.open() for part in self.parts):
            matrices.append(matrix)
            rows.append(counting + start)
            start += len(matrix)
        return np.concatenate(matrices), np.concatenate(rows)


def fitted_on(plan: Plan, run: Run) -> list[Embeddings]:
    """What the centroids are fitted on, in row-id order."""
    verdicts = None if plan.recipe.classes.fit_on == "all" else plan.selected
    return [embeddings(plan, shard_id, verdicts) for shard_id in run.rows.shard_ids]


def fitted_blocks(plan: Plan, run: Run) -> list[Embeddings | Joined]:
    """As `fitted_on`, with small neighbours as one block. Which rows are one block changes no bit of a fit."""
    blocks = fitted_on(plan, run)
    groups = divided(run.rows.shards, lambda shard: shard.share)
    whole = iter(blocks)
    parts = [tuple(next(whole) for _ in group) for group in groups]
    return [part[0] if len(part) == 1 else Joined(part) for part in parts]


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


@dataclass(frozen=True)
class Embedded(Drawable):
    """Embeddings of the samples that have one, float16 [d] by name."""

    names: tuple[str, ...] = ("image_embedding",)

    def eligible(self, shard_id: str) -> Bools:
        folder = self.columns.folders["clip"]
        valid = read_columns(self.columns.store, folder, shard_id, ["image_embedding_valid"]).column("image_embedding_valid")
        return np.asarray(valid, bool)

    def fetched(self, shard_id: str, rows: Ints) -> pa.Table:
        store, folder = self.columns.store, self.columns.folders["clip"]
        there = pa.array(np.ones(len(rows), bool))
        return pa.table({name: vector_array(read_vector_rows(store, folder, shard_id, name, rows), there) for name in self.names})
