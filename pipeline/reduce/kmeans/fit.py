"""The state machine of a k-means fit: it decides, a fleet of partitions and owners computes.

The driver holds counts (i64[k]), a few rows for empty clusters, and handles to centres that live elsewhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.kmeans.checkpoint import Checkpoint, State
from pipeline.reduce.kmeans.partition import Far, Share
from pipeline.reduce.kmeans.schedule import COARSE, EXACT, SAMPLE, Schedule
from pipeline.reduce.kmeans.sums import OBJECTIVE_SCALE
from pipeline.store.store import Store
from pipeline.vectors import Floats

Other = TypeVar("Other")
H = TypeVar("H")
"""A handle to centres f32[k, d]: the array itself, or a reference to it."""

REPAIRS = 1024
"""Empty clusters that get a row in one pass, at most: their rows travel through the driver."""
EXTRA = 3
"""Passes beyond the last one, at most, while there are empty clusters and rows for them."""


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
    keep: NDArray[np.bool_] | None = None
    """Of the pass after clusters were dropped: bool [k before]."""

    def at(self, centres: Other, cells: Other | None) -> "Look[Other]":
        """The same pass with other handles to its centres."""
        return Look(self.turn, self.kind, centres, self.k, self.share, cells, self.neighbours, self.keep)


@dataclass(frozen=True)
class Seen:
    """What a pass found."""

    counts: NDArray[np.int64]
    """[k]"""
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


class Fleet(ABC, Generic[H]):
    """Partitions that hold the rows and owners that hold the centres. Every method is a whole round over all of them."""

    @property
    @abstractmethod
    def rows(self) -> int: ...

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @abstractmethod
    def placed(self, centres: Floats) -> Seeded[H]:
        """Centres of the driver's, where the fleet can use them."""

    @abstractmethod
    def seeded(self, k: int, schedule: Schedule, seed: int) -> Seeded[H]: ...

    @abstractmethod
    def coarse(self, k: int, seed: int) -> H:
        """The coarse centres that `seeded` uses; the same ones for the same arguments."""

    @abstractmethod
    def look(self, look: Look[H]) -> Seen: ...

    @abstractmethod
    def farthest(self, look: Look[H], m: int) -> Far:
        """The m rows least like their centre after this look."""

    @abstractmethod
    def moved(self, look: Look[H], ids: NDArray[np.int64], rows: Floats | None, beyond: float = 0.0) -> H:
        """The next centres: means, overshot by `beyond` (see `sums.overshot`), and these rows as those of `ids`."""

    @abstractmethod
    def without(self, centres: H, keep: NDArray[np.bool_]) -> H: ...

    @abstractmethod
    def save(self, checkpoint: Checkpoint, turn: int, now: Seeded[H]) -> None:
        """Writes the centres, and the assignment where there was a pass."""

    @abstractmethod
    def restore(self, checkpoint: Checkpoint, turn: int) -> Seeded[H]:
        """The centres, and the partitions' assignments, as they were saved."""

    @abstractmethod
    def write(self, centres: H, store: Store, path: str) -> None:
        """As one .npy file, f32[k, d]."""

    def fit(
        self, schedule: Schedule, k: int, seed: int, *, checkpoint: Checkpoint | None = None, start: Floats | None = None
    ) -> "Fitted[H]":
        """See `Fit`; `start` are the driver's centres, taken instead of seeds."""
        return Fit(self, schedule, k, seed, checkpoint, None if start is None else self.placed(start)).run()


@dataclass(frozen=True)
class Fitted(Generic[H]):
    """Centres, and what the fit says about itself; the rows' exact assignment is with the fleet."""

    centres: H
    sizes: NDArray[np.int64]
    """i64[k], none below the schedule's `min_size`, none empty."""
    objective: float
    """Mean similarity of all rows to their centre."""
    story: State
    converged: bool
    dropped: int
    """Clusters that stayed empty or too small."""
    reason: str | None
    """Why k is lower than asked for."""


@dataclass
class Fit(Generic[H]):
    """One fit on a fleet. With a checkpoint it starts where an earlier one of the same identity stopped."""

    fleet: Fleet[H]
    schedule: Schedule
    k: int
    seed: int
    checkpoint: Checkpoint | None = None
    start: Seeded[H] | None = None
    """Given centres instead of seeds."""
    said: Callable[[State], None] = lambda state: None
    """Hears of every pass."""

    def run(self) -> Fitted[H]:
        """Raises InputError where there is nothing to cluster."""
        if self.k < 1:
            raise InputError(f"the number of clusters must be at least 1, not {self.k}")
        if not self.fleet.rows:
            raise InputError("there is nothing to cluster: no sample was kept with a valid embedding; loosen the recipe's filters")
        state, now = self._begun()
        while True:
            look = self._next(state, now)
            seen = self.fleet.look(look)
            state = self._told(state, look, seen)
            stop, empty = self._stops(state, seen)
            at = state.position - 1
            closing = at == len(self.schedule.kinds) - 1
            again = self.schedule.closing and closing and empty > 0 and state.extra < EXTRA
            if self.schedule.closing and ((closing and not again) or (stop and look.kind == EXACT)):
                return self._finished(look, seen, state, converged=stop)
            now, moved = self._moved(look, seen, state, self.schedule.beyond(at, stop))
            if not self.schedule.closing and closing:
                return Fitted(now.centres, seen.counts, seen.objective, moved, stop, 0, self._reason(look, 0, 0))
            if again and not moved.refilled[-1]:
                return self._finished(look, seen, state, converged=False)
            if again:
                moved = replace(moved, position=at, extra=state.extra + 1)
            elif stop:
                moved = replace(moved, position=self.schedule.after(at))
            state = moved
            self._save(state, now)

    def _begun(self) -> tuple[State, Seeded[H]]:
        state = None if self.checkpoint is None else self.checkpoint.latest()
        if self.checkpoint is not None and state is not None:
            return state, self.fleet.restore(self.checkpoint, state.turns)
        state = State()
        now = self.start or self.fleet.seeded(self.k, self.schedule, self.seed)
        self._save(state, now)
        return state, now

    def _save(self, state: State, now: Seeded[H]) -> None:
        if self.checkpoint is not None:
            self.fleet.save(self.checkpoint, state.turns, now)
            self.checkpoint.commit(state)

    def _next(self, state: State, now: Seeded[H]) -> Look[H]:
        kind = self.schedule.kinds[state.position]
        look = Look(state.turns, kind, now.centres, now.k, self._share(kind), neighbours=self.schedule.neighbours)
        if kind == COARSE:
            cells = self.fleet.coarse(now.k, self.seed)
            return replace(look, cells=cells, neighbours=4 * self.schedule.neighbours)
        return look

    def _share(self, kind: str) -> Share:
        part = self.schedule.sample_rows * self.k / self.fleet.rows if kind == SAMPLE else 1.0
        return Share(self.seed, part)

    def _told(self, state: State, look: Look[H], seen: Seen) -> State:
        told = replace(
            state, position=state.position + 1, turns=state.turns + 1, objective=(*state.objective, seen.objective),
            changed=(*state.changed, seen.changed / max(1, seen.looked)), looked=(*state.looked, seen.looked),
            kinds=(*state.kinds, look.kind),
        )
        self.said(told)
        return told

    def _stops(self, state: State, seen: Seen) -> tuple[bool, int]:
        """Whether this phase is over, and how many clusters are empty. A pass is compared with one over the same rows."""
        empty = int((seen.counts == 0).sum())
        if empty or state.turns < 2 or (SAMPLE in state.kinds[-2:] and state.kinds[-2] != state.kinds[-1]):
            return False, empty
        gain = state.objective[-1] - state.objective[-2]
        return gain <= self.schedule.tolerance * abs(state.objective[-1]) or state.changed[-1] <= self.schedule.changed, empty

    def _moved(self, look: Look[H], seen: Seen, state: State, beyond: float) -> tuple[Seeded[H], State]:
        empty = np.flatnonzero(seen.counts == 0)[:REPAIRS]
        rows = self.fleet.farthest(look, len(empty)).vectors if len(empty) else None
        filled = 0 if rows is None else len(rows)
        centres = self.fleet.moved(look, empty[:filled], rows, beyond)
        return Seeded(centres, look.k), replace(state, refilled=(*state.refilled, filled))

    def _finished(self, look: Look[H], seen: Seen, state: State, *, converged: bool) -> Fitted[H]:
        keep = seen.counts >= max(1, self.schedule.min_size)
        keep[np.argmax(seen.counts)] = True
        dropped = int((~keep).sum())
        if dropped:
            centres = self.fleet.without(look.centres, keep)
            look = Look(look.turn + 1, EXACT, centres, int(keep.sum()), look.share, keep=keep)
            emptied = int((seen.counts == 0).sum())
            seen = self.fleet.look(look)
        return Fitted(look.centres, seen.counts, seen.objective, state, converged, dropped,
                      self._reason(look, dropped, emptied if dropped else 0))

    def _reason(self, look: Look[H], dropped: int, emptied: int) -> str | None:
        said = []
        if look.k + dropped < self.k:
            found = look.k + dropped
            said.append(f"asked for {self.k} clusters, but the {self.fleet.rows} rows have only {found} different directions")
        if emptied:
            said.append(f"{emptied} clusters stayed empty")
        if dropped > emptied:
            said.append(f"{dropped - emptied} clusters had fewer than {self.schedule.min_size} rows")
        return "; ".join(said) or None
