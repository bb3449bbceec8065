"""What a fit asks of the partitions that hold the rows and the owners that hold the centres: each round is written here, once.

A fleet says how a function reaches them (three primitives: each partition, each owner, alone) and how a pass goes from the first
to the second. What comes back is a handle, which is passed on as it is; only `value` brings anything to the driver: counts, sizes
and a few rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ShardmillError
from pipeline.reduce.kmeans import partition as passes
from pipeline.reduce.kmeans import seeding
from pipeline.reduce.kmeans.checkpoint import Checkpoint, read_centres, write_centres, write_matrix
from pipeline.reduce.kmeans.owner import Owner, slices
from pipeline.reduce.kmeans.partition import Assigner, FarthestRows, Partition, RowSample
from pipeline.reduce.kmeans.schedule import COARSE, NEAR, Schedule
from pipeline.reduce.kmeans.seeding import Slice, StoreFolder
from pipeline.reduce.kmeans.sums import OBJECTIVE_SCALE, Sums
from pipeline.search.nearest import Centres, kernel, nearest
from pipeline.store.store import Store
from pipeline.vectors import Bools, Floats, Ids, Ints, unit
from pipeline.work import beat

Handle = TypeVar("Handle")
H = TypeVar("H")
"""A handle to centres f32[k, d]: the array itself, or a reference to it."""

BEAT_ROWS = 8192
"""Searched between two signs of life."""


class CentresLost(ShardmillError):
    """Centres that were nowhere else went with the node that held them: a fit goes on from its checkpoint."""


@dataclass(frozen=True)
class AssignmentStep(Generic[H]):
    """The assignment step of one pass: which rows are compared with which centres."""

    turn: int
    kind: str
    centres: H
    k: int
    sample: RowSample
    cells: H | None = None
    """A handle to the coarse centres f32[cells, d], in a coarse pass."""
    neighbours: int = 0
    """Centres listed for each cell or centre, in a pass that is not exact."""
    keep: Bools | None = None
    """bool[k before]: the clusters that stay, in the pass after others were dropped."""

    def with_handles(self, centres: Handle, cells: Handle | None) -> "AssignmentStep[Handle]":
        """The same step with other handles to its centres."""
        return AssignmentStep(self.turn, self.kind, centres, self.k, self.sample, cells, self.neighbours, self.keep)


@dataclass(frozen=True)
class StepResult:
    """What an assignment step counted."""

    counts: Ints
    """i64[k]: rows of each centre."""
    similarity: int
    """The cosines of the rows to their centres, summed, in units of 1 / OBJECTIVE_SCALE."""
    changed: int
    """Rows that got another centre."""
    compared: int
    """Rows compared."""

    @property
    def objective(self) -> float:
        """Mean cosine of the rows compared to their centre."""
        return self.similarity / OBJECTIVE_SCALE / max(1, self.compared)


@dataclass(frozen=True)
class FleetCentres(Generic[H]):
    """Centres where the fleet can use them."""

    handle: H
    k: int
    """May be lower than asked for."""


@dataclass(frozen=True)
class Candidates:
    """The centres that a pass which is not exact compares."""

    lists: Ids
    """i32[cells, m] or i32[k, m]: the nearest of the centres to each cell or centre."""
    cells: Floats | None
    """The cells f32[cells, d]; None where the lists are of the centres."""


class Fleet(ABC, Generic[H]):
    """Partitions and owners. Every method is a whole round over all of them; where they are changes no bit."""

    rows: int
    """Rows of all partitions."""
    dimension: int
    """Values of each row; 0 where there are no rows."""
    parts: int
    """Number of partitions."""
    owners: int
    """Number of slices of the centres, at most."""
    scratch: StoreFolder | None = None
    """Where sampled rows are written for whoever seeds their cells; None: they stay in memory."""

    # --- the primitives. Handles among `arguments` arrive as what they refer to.

    @abstractmethod
    def each_partition(self, function: Callable[..., Any], *arguments: Any, items: Sequence[Any] | None = None) -> list[Any]:
        """Handles to function(partition, *arguments) of each partition; with `items`, to function(partition, item, *arguments)
        of each item, by whichever partition."""

    @abstractmethod
    def each_owner(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Handles to function(owner, *arguments) of each owner of the last pass."""

    @abstractmethod
    def alone(self, function: Callable[..., Any], *arguments: Any, outputs: int = 1) -> Any:
        """A handle to function(*arguments), or one for each of its outputs."""

    @abstractmethod
    def value(self, handle: Any) -> Any:
        """What a handle refers to, brought here."""

    @abstractmethod
    def reduced(self, step: AssignmentStep[H], bounds: Sequence[Slice], function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """function(partition, *arguments, bounds) of each partition gives a fact and the sums of each slice of the centres. The
        sums go to the owners of the slices, who start anew with this step; returned are the facts, by partition."""

    def packed(self, centres: H) -> Any:
        """A handle to centres as partitions look at them; packed once, where all are in one process."""
        return centres

    # --- seeds

    def placed(self, centres: Floats) -> FleetCentres[H]:
        """The driver's centres f32[k, d], brought to length 1 and to the fleet."""
        return FleetCentres(self.alone(unit, centres), len(centres))

    def seeded(self, k: int, schedule: Schedule, seed: int) -> FleetCentres[H]:
        """k-means++ seeds from a sample of the rows: of all of it, or cell by cell."""
        sample = RowSample(seed, max(seeding.MIN_ROWS, schedule.seed_rows * k) / max(1, self.rows))
        if not schedule.cells:
            centres, count = self.alone(seeding.plain_seeds, k, seed, *self.each_partition(Partition.sample, sample), outputs=2)
            return FleetCentres(centres, self.value(count))
        written = self.each_partition(seeding.write_cells, self.scratch, sample, self.coarse(k, seed))
        parts = [part for handle in written for part in self.value(handle)]
        seeds_per_cell = seeding.allotted_seeds(sum((part.sizes for part in parts), np.zeros(1, np.int64)), k)
        runs = seeding.cell_runs(seeds_per_cell, 4 * self.parts)
        pieces = self.each_partition(seeding.seeds_of_cells, self.scratch, [part.rows for part in parts], seed, items=runs)
        if self.scratch is not None:
            self.scratch[0].remove(self.scratch[1])
        return FleetCentres(self.alone(concatenated, *pieces), int(seeds_per_cell.sum()))

    def coarse(self, k: int, seed: int) -> H:
        """A handle to the coarse centres f32[cells, d] that `seeded` uses; the same ones for the same arguments."""
        cells = seeding.cells_for(k)
        sample = RowSample(seed, max(seeding.ROWS_PER_SEED * cells, 1) / max(1, self.rows))
        centres: H = self.alone(seeding.coarse_centres, cells, seed, *self.each_partition(Partition.sample, sample))
        return centres

    # --- passes

    def run_step(self, step: AssignmentStep[H]) -> StepResult:
        """Assigns each row of the step's sample to its centre, and gives the owners the sums of the rows."""
        bounds = slices(step.k, self.owners)
        facts = self.reduced(step, bounds, assign, step.with_handles(None, None), self.packed(step.centres), self._candidates(step))
        counted = [self.value(handle) for handle in self.each_owner(Owner.counted, self.parts)]
        return StepResult(np.concatenate([counts for counts, _ in counted]), sum(total for _, total in counted),
                    sum(changed for changed, _ in facts), sum(compared for _, compared in facts))

    def _candidates(self, step: AssignmentStep[H]) -> Any:
        """A handle to the `Candidates` of a pass that is not exact, found a slice by each partition; None for one that is."""
        if step.kind not in (COARSE, NEAR) or step.keep is not None:
            return None
        queries, count = (step.cells, seeding.cells_for(step.k)) if step.kind == COARSE else (step.centres, step.k)
        width = min(step.neighbours, step.k)
        pieces = self.each_partition(nearest_lists, queries, self.packed(step.centres), width, items=slices(count, self.parts))
        return self.alone(candidates, step.cells, *pieces)

    def farthest(self, step: AssignmentStep[H], m: int) -> FarthestRows:
        """The m rows least like their centre after this step."""
        parts = self.each_partition(Partition.farthest, step.centres, m, step.sample)
        return FarthestRows.joined([self.value(part) for part in parts]).first(m)

    def updated(self, step: AssignmentStep[H], ids: Ints, rows: Floats | None, beyond: float = 0.0) -> H:
        """The update step, a handle to f32[k, d]: the next centres are the means, over-relaxed by `beyond` (see
        `sums.over_relaxed`), and those of `ids` i64[e] are these rows f32[e, d]."""
        centres: H = self.alone(concatenated, *self.each_owner(Owner.updated, ids, rows, beyond))
        return centres

    def without(self, centres: H, keep: Bools) -> H:
        """A handle to the centres of `keep` (bool[k]) alone."""
        kept: H = self.alone(selected, centres, keep)
        return kept

    # --- files

    def save(self, checkpoint: Checkpoint, turn: int, centres: FleetCentres[H]) -> None:
        """Writes the centres, and the assignment where there was a pass."""
        written = [self.alone(write_centres, checkpoint, turn, part, centres.handle) for part in slices(centres.k, self.owners)]
        for handle in [*written, *self.each_partition(save_assignment, checkpoint, turn)]:
            self.value(handle)

    def restore(self, checkpoint: Checkpoint, turn: int) -> FleetCentres[H]:
        """The centres, and the partitions' assignments, as they were saved."""
        centres, k = self.alone(read_centres, checkpoint, turn, outputs=2)
        for handle in self.each_partition(restore_assignment, checkpoint, turn):
            self.value(handle)
        return FleetCentres(centres, self.value(k))

    def write(self, centres: H, store: Store, path: str) -> None:
        """Writes the centres as one .npy file, f32[k, d]."""
        self.value(self.alone(write_matrix, centres, store, path))


# --- what a partition does


def nearest_lists(_: Partition, part: Slice, queries: Floats, centres: Centres | Floats, m: int) -> Ids:
    """i32[rows of the slice, m]: the centres nearest to each row of this slice of `queries` f32[n, d]."""
    ready, lists = _ready(centres), []
    for start in range(*part, BEAT_ROWS):
        lists.append(nearest(queries[start : min(start + BEAT_ROWS, part[1])], ready, m)[0])
        beat()
    return np.concatenate(lists)


def assign(
    partition: Partition, step: AssignmentStep[None], centres: Centres | Floats, near: Candidates | None, bounds: Sequence[Slice]
) -> tuple[Any, ...]:
    """(rows that changed their centre, rows compared), and then the `Sums` of each slice of the centres."""
    sums, changed, compared = partition.assign(_assigner(step, _ready(centres), near), step.k, step.sample)
    return (changed, compared), *(sums.slice(*part) for part in bounds)


def _assigner(step: AssignmentStep[None], centres: Centres, near: Candidates | None) -> Assigner:
    if step.keep is not None:
        return passes.remaining(centres, step.keep)
    if near is None:
        return passes.exact(centres)
    return passes.near(centres, near.lists) if near.cells is None else passes.coarse(centres, kernel()(near.cells), near.lists)


def _ready(centres: Centres | Floats) -> Centres:
    return kernel()(centres) if isinstance(centres, np.ndarray) else centres


def sums_again(partition: Partition, k: int, sample: RowSample, part: Slice) -> Sums:
    """The sums of the last pass once more, for one slice of the centres."""
    return partition.sums(k, sample).slice(*part)


def save_assignment(partition: Partition, checkpoint: Checkpoint, turn: int) -> None:
    """Writes the assignment of each block; nothing before the first pass."""
    if partition.assignment is not None:
        for block, part in zip(partition.blocks, np.split(partition.assignment, partition.ends[:-1]), strict=True):
            checkpoint.write_assignment(turn, block.name, part)


def restore_assignment(partition: Partition, checkpoint: Checkpoint, turn: int) -> None:
    """Gives the partition the assignment that was saved; before the first pass there was none."""
    parts = [checkpoint.read_assignment(turn, block.name) for block in partition.blocks] if turn else []
    partition.assignment = np.concatenate(parts) if parts else None


# --- what is done alone


def candidates(cells: Floats | None, *pieces: Ids) -> Candidates:
    """The lists of all slices, i32[n, m] each, with the cells that they are of."""
    return Candidates(np.concatenate(pieces), cells)


def concatenated(*pieces: NDArray[Any]) -> NDArray[Any]:
    """The pieces one after another, along their first axis."""
    return np.concatenate(pieces)


def selected(centres: Floats, keep: Bools) -> Floats:
    """The centres f32[k', d] at bool[k]."""
    return centres[keep]
