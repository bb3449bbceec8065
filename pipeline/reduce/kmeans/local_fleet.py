"""A fleet in this process: for rows that fit one machine, for arrays, and for tests of what the distributed one must equal."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.kmeans import partition as looks
from pipeline.reduce.kmeans import seeding
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fit import Fleet, Look, Seeded, Seen
from pipeline.reduce.kmeans.owner import Owner, slices
from pipeline.reduce.kmeans.partition import Assigner, Block, Far, Partition, Share
from pipeline.reduce.kmeans.schedule import COARSE, NEAR, Schedule
from pipeline.search.nearest import Centres, kernel, nearest
from pipeline.search.threads import eager_switches, loaded_libraries, single_threaded
from pipeline.store.store import Store
from pipeline.vectors import Floats, unit

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class LocalFleet(Fleet[Floats]):
    """Partitions, as many at a time as there are `threads`, and owners of slices. A handle is the array itself.

    Threads of Python, each with single-threaded kernels, also share the work between the products of matrices.
    """

    partitions: Sequence[Partition]
    owners: int = 1
    threads: int = 1
    _slices: list[Owner] = field(default_factory=list, init=False)

    @classmethod
    def of(cls, blocks: Sequence[Block], *, partitions: int = 1, owners: int = 1, threads: int = 1) -> "LocalFleet":
        made: list[Partition] = []
        for run in runs(blocks, partitions):
            made.append(Partition(run, sum(len(one) for one in made)))
        return cls(made, owners, threads)

    @property
    def rows(self) -> int:
        return sum(len(one) for one in self.partitions)

    @property
    def dimension(self) -> int:
        return self.partitions[0].dimension if self.partitions else 0

    def placed(self, centres: Floats) -> Seeded[Floats]:
        return Seeded(unit(centres), len(centres))

    def seeded(self, k: int, schedule: Schedule, seed: int) -> Seeded[Floats]:
        if not schedule.cells:
            sample = self._sampled(plain_share(k, schedule, seed, self.rows))
            found = self._alone(lambda: seeding.seeds(sample, k, seed=seed))
            return Seeded(found, len(found))
        coarse = kernel()(self.coarse(k, seed))
        share = cell_share(k, schedule, seed, self.rows)
        parts = self._map(lambda one: seeding.Cells.parted(one.sample(share), coarse), self.partitions)
        many = seeding.allotted(cell_sizes(parts), k)
        cells = [int(cell) for cell in np.flatnonzero(many)]
        found = np.concatenate(self._map(lambda cell: seeding.cell_seeds(parts, cell, int(many[cell]), seed=seed), cells))
        return Seeded(found, len(found))

    def coarse(self, k: int, seed: int) -> Floats:
        cells = seeding.cells_for(k)
        sample = self._sampled(coarse_share(cells, seed, self.rows))
        return self._alone(lambda: seeding.coarse_cells(sample, cells, seed=seed))

    def _sampled(self, share: Share) -> Floats:
        return unit(np.concatenate(self._map(lambda one: one.sample(share), self.partitions)))

    def _alone(self, function: Callable[[], Result]) -> Result:
        return self._map(lambda _: function(), [None])[0]

    def _map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        if self.threads == 1:
            return [function(item) for item in items]
        # numpy's BLAS has one number of threads for the process; two callers with two threads each wait for each other
        one_thread = loaded_libraries().limit(limits=1, user_api="blas")
        with one_thread, eager_switches(), ThreadPoolExecutor(self.threads, initializer=single_threaded) as pool:
            return list(pool.map(function, items))

    def look(self, look: Look[Floats]) -> Seen:
        assigner = assigner_of(look, kernel()(look.centres), self._lists(look))
        self._slices = [Owner(*part) for part in slices(look.k, self.owners)]
        for owner in self._slices:
            owner.begin(look.turn, look.centres)
        changed = looked = 0
        found = self._map(lambda one: one.assign(assigner, look.k, look.share), self.partitions)
        for number, (sums, more, seen) in enumerate(found):
            changed, looked = changed + more, looked + seen
            for owner in self._slices:
                owner.add(look.turn, number, sums.slice(owner.start, owner.stop))
        counted = [owner.counted() for owner in self._slices]
        return Seen(np.concatenate([counts for counts, _ in counted]), sum(total for _, total in counted), changed, looked)

    def _lists(self, look: Look[Floats]) -> NDArray[np.int32] | None:
        """The centres that a pass which is not exact looks at: i32[cells, m] or i32[k, m]."""
        of = look.cells if look.kind == COARSE else look.centres
        if look.kind not in (COARSE, NEAR) or of is None:
            return None
        ready, m = kernel()(look.centres), min(look.neighbours, look.k)
        return np.concatenate(self._map(lambda part: nearest(of[slice(*part)], ready, m)[0], slices(len(of), self.threads)))

    def farthest(self, look: Look[Floats], m: int) -> Far:
        return Far.joined(self._map(lambda one: one.farthest(look.centres, m, look.share), self.partitions)).first(m)

    def moved(self, look: Look[Floats], ids: NDArray[np.int64], rows: Floats | None, beyond: float = 0.0) -> Floats:
        return np.concatenate([owner.moved(ids, rows, beyond) for owner in self._slices])

    def without(self, centres: Floats, keep: NDArray[np.bool_]) -> Floats:
        return centres[keep]

    def save(self, checkpoint: Checkpoint, turn: int, now: Seeded[Floats]) -> None:
        for start, stop in slices(now.k, self.owners):
            checkpoint.write_slice(turn, start, now.centres[start:stop])
        for one in self.partitions:
            save_assignment(one, checkpoint, turn)

    def restore(self, checkpoint: Checkpoint, turn: int) -> Seeded[Floats]:
        for one in self.partitions:
            restore_assignment(one, checkpoint, turn)
        centres = checkpoint.centres(turn)
        return Seeded(centres, len(centres))

    def write(self, centres: Floats, store: Store, path: str) -> None:
        write_matrix(store, path, centres)

    def assignment(self) -> NDArray[np.int32]:
        """i32[n]"""
        return np.concatenate([one.assignment for one in self.partitions if one.assignment is not None])


def runs(blocks: Sequence[Block], parts: int) -> list[Sequence[Block]]:
    """Consecutive blocks, as many runs as asked for or as there are blocks."""
    return [blocks[start:stop] for start, stop in slices(len(blocks), parts)] if blocks else []


def plain_share(k: int, schedule: Schedule, seed: int, rows: int) -> Share:
    """The rows that one-level seeding draws from."""
    return Share(seed, max(seeding.MIN_ROWS, schedule.seed_rows * k) / max(1, rows))


def cell_share(k: int, schedule: Schedule, seed: int, rows: int) -> Share:
    """The rows that seeding within cells looks at."""
    return Share(seed, max(seeding.MIN_ROWS, schedule.seed_rows * k) / max(1, rows))


def coarse_share(cells: int, seed: int, rows: int) -> Share:
    return Share(seed, max(seeding.ROWS_PER_SEED * cells, 1) / max(1, rows))


def cell_sizes(parts: Sequence[seeding.Cells]) -> NDArray[np.int64]:
    return sum((np.diff(part.ends, prepend=0) for part in parts), np.zeros(1, np.int64))


def assigner_of(look: Look[Floats], centres: Centres, lists: NDArray[np.int32] | None) -> Assigner:
    if look.keep is not None:
        return looks.remaining(centres, look.keep)
    if lists is None:
        return looks.exact(centres)
    return looks.near(centres, lists) if look.cells is None else looks.coarse(centres, kernel()(look.cells), lists)


def write_matrix(store: Store, path: str, matrix: Floats) -> None:
    """As .npy, without a copy in memory."""
    with store.create(path) as file:
        np.save(file, matrix, allow_pickle=False)


def save_assignment(one: Partition, checkpoint: Checkpoint, turn: int) -> None:
    if one.assignment is not None:
        for block, some in zip(one.blocks, np.split(one.assignment, one.ends[:-1]), strict=True):
            checkpoint.write_assignment(turn, block.name, some)


def restore_assignment(one: Partition, checkpoint: Checkpoint, turn: int) -> None:
    """As saved; that of a fit before its first pass is none."""
    parts = [checkpoint.read_assignment(turn, block.name) for block in one.blocks] if turn else []
    one.assignment = np.concatenate(parts) if parts else None
