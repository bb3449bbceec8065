"""The processes of a fleet on Ray: thin shells around a partition and an owner, and tasks between passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from pipeline.distributed.worker import WATCH
from pipeline.reduce.kmeans import seeding
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.device import Accelerator
from pipeline.reduce.kmeans.fit import Look
from pipeline.reduce.kmeans.local_fleet import assigner_of, restore_assignment, save_assignment, write_matrix
from pipeline.reduce.kmeans.owner import Owner, slices
from pipeline.reduce.kmeans.partition import Assigner, Block, Far, Partition, Share
from pipeline.reduce.kmeans.sums import Sums
from pipeline.search.kernels import give
from pipeline.search.nearest import kernel, nearest
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy
from pipeline.vectors import Floats, Matrix, unit
from pipeline.work import beat, beats

BEAT_ROWS = 8192
"""Searched between two signs of life."""
PART_BYTES = 64 << 20
"""Of sampled rows in one file."""

Where = tuple[Store, str]


@dataclass(frozen=True)
class Part:
    """One file of sampled rows."""

    name: str
    sizes: NDArray[np.int64]
    """Rows of each cell."""


@dataclass(frozen=True)
class Seats:
    """How many actors, and what each gets."""

    workers: int | None = None
    """None: as many as fit."""
    cpus: int = 1
    gpus: float = 0
    device: str | None = None
    """Where its passes run, as torch names it. None: on the CPU, or on the GPU that it has."""

    @property
    def place(self) -> str | None:
        return self.device or ("cuda" if self.gpus else None)


class PartitionActor:
    """Holds one partition in its own process."""

    def __init__(self, blocks: Sequence[Block], threads: int, device: str | None = None) -> None:
        """`device` is the actor's own, as torch names it. Without one it uses no GPU, though it may see some: Ray hides them from
        actors without GPUs only until `RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO` says otherwise."""
        from pipeline.models.process import limit_threads, tune  # torch: only who holds rows pays for it

        tune()
        limit_threads(threads)
        self._held = Partition(blocks, accelerator=Accelerator.of(device) if device and give(device) else None)

    @ray.method(concurrency_group=WATCH)
    def beats(self) -> int:
        """How often this process got somewhere."""
        return beats()

    def size(self) -> tuple[int, int]:
        """Rows, and values of each."""
        return len(self._held), self._held.dimension

    def number(self, first_row: int) -> None:
        """The global number of its first row."""
        self._held.first_row = first_row

    def sample(self, share: Share) -> Matrix:
        return self._held.sample(share)

    def part(self, where: Where, share: Share, coarse: Floats) -> list[Part]:
        """Writes the rows of the share, sorted by cell, and says what there is."""
        store, folder = where
        cells, found = kernel()(coarse), []
        for i, rows in enumerate(self._held.samples(share, PART_BYTES)):
            beat()
            sorted_rows, name = seeding.Cells.parted(rows, cells), f"{self._held.first_row:012d}-{i:05d}"
            for kind, array in (("rows", sorted_rows.rows), ("ends", sorted_rows.ends)):
                store.write(f"{folder}/{name}.{kind}.npy", npy_bytes(array))
            found.append(Part(name, np.diff(sorted_rows.ends, prepend=0)))
        return found

    def cell_seeds(self, where: Where, parts: Sequence[str], run: Sequence[tuple[int, int]], seed: int) -> Floats:
        """Centres of (cell, how many) one after another."""
        store, folder = where
        opened = [seeding.Cells(*(read_npy(store, f"{folder}/{name}.{kind}.npy") for kind in ("rows", "ends")))
                  for name in parts]
        found = []
        for cell, count in run:
            found.append(seeding.cell_seeds(opened, cell, count, seed=seed))
            beat()
        return np.concatenate(found)

    def neighbours(self, of: Floats, part: tuple[int, int], centres: Floats, m: int) -> NDArray[np.int32]:
        ready, found = kernel()(centres), []
        for start in range(*part, BEAT_ROWS):
            found.append(nearest(of[start : min(start + BEAT_ROWS, part[1])], ready, m)[0])
            beat()
        return np.concatenate(found)

    def look(
        self, look: Look[None], centres: Floats, cells: Floats | None, lists: NDArray[np.int32] | None,
        bounds: Sequence[tuple[int, int]],
    ) -> tuple[Any, ...]:
        """(rows that changed their centre, rows looked at), and the sums of each slice of the centres."""
        sums, changed, looked = self._held.assign(_assigner(look, centres, cells, lists), look.k, look.share)
        return (changed, looked), *(sums.slice(*part) for part in bounds)

    def again(self, look: Look[None], centres: Floats, cells: Floats | None, lists: NDArray[np.int32] | None) -> None:
        self._held.assign(_assigner(look, centres, cells, lists), look.k, look.share)

    def sums(self, k: int, share: Share, part: tuple[int, int]) -> Sums:
        return self._held.sums(k, share).slice(*part)

    def farthest(self, centres: Floats, m: int, share: Share) -> Far:
        return self._held.farthest(centres, m, share)

    def save(self, checkpoint: Checkpoint, turn: int) -> None:
        save_assignment(self._held, checkpoint, turn)

    def restore(self, checkpoint: Checkpoint, turn: int) -> None:
        restore_assignment(self._held, checkpoint, turn)


def _assigner(look: Look[None], centres: Floats, cells: Floats | None, lists: NDArray[np.int32] | None) -> Assigner:
    return assigner_of(look.at(centres, cells), kernel()(centres), lists)


class OwnerActor:
    """Owns a slice of the centres, another one in every pass if need be."""

    def begin(self, bounds: tuple[int, int], turn: int, centres: Floats) -> None:
        self._held = Owner(*bounds)
        self._held.begin(turn, centres)

    def add(self, turn: int, partition: int, sums: Sums) -> None:
        self._held.add(turn, partition, sums)

    def counted(self, partitions: int) -> tuple[NDArray[np.int64], int]:
        """Raises ValueError where a partition's sums did not come."""
        if self._held.heard != partitions:
            raise ValueError(f"sums of {self._held.heard} partitions came, not of {partitions}")
        return self._held.counted()

    def moved(self, ids: NDArray[np.int64], rows: Floats | None, beyond: float) -> Floats:
        return self._held.moved(ids, rows, beyond)


def cell_runs(many: NDArray[np.int64], runs: int) -> list[list[tuple[int, int]]]:
    """(cell, how many centres) of all cells that get any, in so many runs of cells."""
    wanted = [(int(cell), int(many[cell])) for cell in np.flatnonzero(many)]
    return [wanted[start:stop] for start, stop in slices(len(wanted), runs)]


def plain_seeds(k: int, seed: int, *samples: Matrix) -> tuple[Floats, int]:
    found = seeding.seeds(unit(np.concatenate(samples)), k, seed=seed)
    return found, len(found)


def coarse_centres(cells: int, seed: int, *samples: Matrix) -> Floats:
    return seeding.coarse_cells(unit(np.concatenate(samples)), cells, seed=seed)


def joined(*pieces: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(pieces)


def joined_slices(checkpoint: Checkpoint, turn: int) -> tuple[Floats, int]:
    centres = checkpoint.centres(turn)
    return centres, len(centres)


def selected(centres: Floats, keep: NDArray[np.bool_]) -> Floats:
    return centres[keep]


def write_slice(checkpoint: Checkpoint, turn: int, part: tuple[int, int], centres: Floats) -> None:
    checkpoint.write_slice(turn, part[0], centres[slice(*part)])


def write_centres(centres: Floats, store: Store, path: str) -> None:
    write_matrix(store, path, centres)
