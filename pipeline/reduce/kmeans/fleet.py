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
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.owner import Owner, slices
from pipeline.reduce.kmeans.partition import Assigner, Far, Partition, Share
from pipeline.reduce.kmeans.schedule import COARSE, NEAR, Schedule
from pipeline.reduce.kmeans.seeding import Slice, Where
from pipeline.reduce.kmeans.sums import OBJECTIVE_SCALE, Sums
from pipeline.search.nearest import Centres, kernel, nearest
from pipeline.store.store import Store
from pipeline.vectors import Bools, Floats, Ids, Ints, unit
from pipeline.work import beat

Other = TypeVar("Other")
H = TypeVar("H")
"""A handle to centres f32[k, d]: the array itself, or a reference to it."""

BEAT_ROWS = 8192
"""Searched between two signs of life."""


class CentresLost(ShardmillError):
    """Centres that were nowhere else went with the node that held them: a fit goes on from its checkpoint."""


@dataclass(frozen=True)
class Look(Generic[H]):
    """One pass to be made: which rows look at which centres."""

    turn: int
    kind: str
    centres: H
    k: int
    share: Share
    cells: H | None = None
    """Of a coarse pass: the coarse centres."""
    neighbours: int = 0
    """Of a pass that is not exact: centres listed for each cell or centre."""
    keep: Bools | None = None
    """Of the pass after clusters were dropped: bool [k before]."""

    def at(self, centres: Other, cells: Other | None) -> "Look[Other]":
        """The same pass with other handles to its centres."""
        return Look(self.turn, self.kind, centres, self.k, self.share, cells, self.neighbours, self.keep)


@dataclass(frozen=True)
class Seen:
    """What a pass found."""

    counts: Ints
    """i64[k]: rows of each centre."""
    similarity: int
    """Summed, in units of 1 / OBJECTIVE_SCALE."""
    changed: int
    looked: int

    @property
    def objective(self) -> float:
        return self.similarity / OBJECTIVE_SCALE / max(1, self.looked)


@dataclass(frozen=True)
class Seeded(Generic[H]):
    centres: H
    k: int
    """May be lower than asked for."""


@dataclass(frozen=True)
class Candidates:
    """The centres that a pass which is not exact looks at."""

    lists: Ids
    """i32[cells, m] or i32[k, m]: the nearest of the centres to each cell or centre."""
    cells: Floats | None
    """The cells f32[cells, d]; None where the lists are of the centres."""


class Fleet(ABC, Generic[H]):
    """Partitions and owners. Every method is a whole round over all of them; where they are changes no bit."""

    rows: int
    """Of all partitions."""
    dimension: int
    """Values of each row; 0 where there are no rows."""
    parts: int
    """Partitions."""
    owners: int
    """Slices of the centres, at most."""
    scratch: Where | None = None
    """Where sampled rows are written for whoever seeds their cells; None: they stay in memory."""

    # --- the primitives. Handles among `given` arrive as what they refer to.

    @abstractmethod
    def each(self, function: Callable[..., Any], *given: Any, items: Sequence[Any] | None = None) -> list[Any]:
        """Handles to function(partition, *given) of each partition; with `items`, to function(partition, item, *given) of each
        item, by whichever partition."""

    @abstractmethod
    def owned(self, function: Callable[..., Any], *given: Any) -> list[Any]:
        """Handles to function(owner, *given) of each owner of the last pass."""

    @abstractmethod
    def alone(self, function: Callable[..., Any], *given: Any, outputs: int = 1) -> Any:
        """A handle to function(*given), or one for each of its outputs."""

    @abstractmethod
    def value(self, handle: Any) -> Any:
        """What a handle refers to, brought here."""

    @abstractmethod
    def reduced(self, look: Look[H], bounds: Sequence[Slice], function: Callable[..., Any], *given: Any) -> list[Any]:
        """function(partition, *given, bounds) of each partition gives a fact and the sums of each slice; these go to the owners of
        the slices, who begin anew with this look. The facts, by partition."""

    def packed(self, centres: H) -> Any:
        """A handle to centres as partitions look at them; packed once, where all are in one process."""
        return centres

    # --- seeds

    def placed(self, centres: Floats) -> Seeded[H]:
        """Centres of the driver's f32[k, d], at length 1, where the fleet can use them."""
        return Seeded(self.alone(unit, centres), len(centres))

    def seeded(self, k: int, schedule: Schedule, seed: int) -> Seeded[H]:
        """k-means++ seeds of a sample of the rows: of all of it, or cell by cell."""
        share = Share(seed, max(seeding.MIN_ROWS, schedule.seed_rows * k) / max(1, self.rows))
        if not schedule.cells:
            centres, count = self.alone(seeding.plain_seeds, k, seed, *self.each(Partition.sample, share), outputs=2)
            return Seeded(centres, self.value(count))
        written = self.each(seeding.write_cells, self.scratch, share, self.coarse(k, seed))
        parts = [part for handle in written for part in self.value(handle)]
        many = seeding.allotted(sum((part.sizes for part in parts), np.zeros(1, np.int64)), k)
        runs = seeding.cell_runs(many, 4 * self.parts)
        pieces = self.each(seeding.seeds_of_cells, self.scratch, [part.rows for part in parts], seed, items=runs)
        if self.scratch is not None:
            self.scratch[0].remove(self.scratch[1])
        return Seeded(self.alone(joined, *pieces), int(many.sum()))

    def coarse(self, k: int, seed: int) -> H:
        """The coarse centres that `seeded` uses; the same ones for the same arguments."""
        cells = seeding.cells_for(k)
        share = Share(seed, max(seeding.ROWS_PER_SEED * cells, 1) / max(1, self.rows))
        centres: H = self.alone(seeding.coarse_centres, cells, seed, *self.each(Partition.sample, share))
        return centres

    # --- passes

    def look(self, look: Look[H]) -> Seen:
        """Gives the rows of the look's share their centre, and the owners what they add up to."""
        bounds = slices(look.k, self.owners)
        facts = self.reduced(look, bounds, assign, look.at(None, None), self.packed(look.centres), self._candidates(look))
        counted = [self.value(handle) for handle in self.owned(Owner.counted, self.parts)]
        return Seen(np.concatenate([counts for counts, _ in counted]), sum(total for _, total in counted),
                    sum(changed for changed, _ in facts), sum(looked for _, looked in facts))

    def _candidates(self, look: Look[H]) -> Any:
        """A handle to the `Candidates` of a pass that is not exact, found a slice by each partition; None for one that is."""
        if look.kind not in (COARSE, NEAR) or look.keep is not None:
            return None
        of, many = (look.cells, seeding.cells_for(look.k)) if look.kind == COARSE else (look.centres, look.k)
        m = min(look.neighbours, look.k)
        pieces = self.each(neighbours, of, self.packed(look.centres), m, items=slices(many, self.parts))
        return self.alone(candidates, look.cells, *pieces)

    def farthest(self, look: Look[H], m: int) -> Far:
        """The m rows least like their centre after this look."""
        return Far.joined([self.value(far) for far in self.each(Partition.farthest, look.centres, m, look.share)]).first(m)

    def moved(self, look: Look[H], ids: Ints, rows: Floats | None, beyond: float = 0.0) -> H:
        """The next centres: means, overshot by `beyond` (see `sums.overshot`), and these rows as those of `ids`."""
        centres: H = self.alone(joined, *self.owned(Owner.moved, ids, rows, beyond))
        return centres

    def without(self, centres: H, keep: Bools) -> H:
        """The centres of `keep` (bool [k]) alone."""
        rest: H = self.alone(selected, centres, keep)
        return rest

    # --- files

    def save(self, checkpoint: Checkpoint, turn: int, now: Seeded[H]) -> None:
        """Writes the centres, and the assignment where there was a pass."""
        written = [self.alone(write_slice, checkpoint, turn, part, now.centres) for part in slices(now.k, self.owners)]
        for handle in [*written, *self.each(save_assignment, checkpoint, turn)]:
            self.value(handle)

    def restore(self, checkpoint: Checkpoint, turn: int) -> Seeded[H]:
        """The centres, and the partitions' assignments, as they were saved."""
        centres, k = self.alone(joined_slices, checkpoint, turn, outputs=2)
        for handle in self.each(restore_assignment, checkpoint, turn):
            self.value(handle)
        return Seeded(centres, self.value(k))

    def write(self, centres: H, store: Store, path: str) -> None:
        """As one .npy file, f32[k, d]."""
        self.value(self.alone(write_matrix, centres, store, path))


# --- what a partition does


def neighbours(_: Partition, part: Slice, of: Floats, centres: Centres | Floats, m: int) -> Ids:
    """i32[rows of the slice, m]: the centres nearest to each of these rows of `of`."""
    ready, lists = _ready(centres), []
    for start in range(*part, BEAT_ROWS):
        lists.append(nearest(of[start : min(start + BEAT_ROWS, part[1])], ready, m)[0])
        beat()
    return np.concatenate(lists)


def assign(
    one: Partition, look: Look[None], centres: Centres | Floats, near: Candidates | None, bounds: Sequence[Slice]
) -> tuple[Any, ...]:
    """(rows that changed their centre, rows looked at), and the sums of each slice of the centres."""
    sums, changed, looked = one.assign(_assigner(look, _ready(centres), near), look.k, look.share)
    return (changed, looked), *(sums.slice(*part) for part in bounds)


def _assigner(look: Look[None], centres: Centres, near: Candidates | None) -> Assigner:
    if look.keep is not None:
        return passes.remaining(centres, look.keep)
    if near is None:
        return passes.exact(centres)
    return passes.near(centres, near.lists) if near.cells is None else passes.coarse(centres, kernel()(near.cells), near.lists)


def _ready(centres: Centres | Floats) -> Centres:
    return kernel()(centres) if isinstance(centres, np.ndarray) else centres


def sums_again(one: Partition, k: int, share: Share, part: Slice) -> Sums:
    """Those of the last pass, of one slice of the centres."""
    return one.sums(k, share).slice(*part)


def save_assignment(one: Partition, checkpoint: Checkpoint, turn: int) -> None:
    if one.assignment is not None:
        for block, some in zip(one.blocks, np.split(one.assignment, one.ends[:-1]), strict=True):
            checkpoint.write_assignment(turn, block.name, some)


def restore_assignment(one: Partition, checkpoint: Checkpoint, turn: int) -> None:
    """As saved; that of a fit before its first pass is none."""
    parts = [checkpoint.read_assignment(turn, block.name) for block in one.blocks] if turn else []
    one.assignment = np.concatenate(parts) if parts else None


# --- what is done alone


def candidates(cells: Floats | None, *pieces: Ids) -> Candidates:
    return Candidates(np.concatenate(pieces), cells)


def joined(*pieces: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(pieces)


def joined_slices(checkpoint: Checkpoint, turn: int) -> tuple[Floats, int]:
    centres = checkpoint.centres(turn)
    return centres, len(centres)


def selected(centres: Floats, keep: Bools) -> Floats:
    return centres[keep]


def write_slice(checkpoint: Checkpoint, turn: int, part: Slice, centres: Floats) -> None:
    checkpoint.write_slice(turn, part[0], centres[slice(*part)])


def write_matrix(centres: Floats, store: Store, path: str) -> None:
    """As .npy, without a copy in memory."""
    with store.create(path) as file:
        np.save(file, centres, allow_pickle=False)
