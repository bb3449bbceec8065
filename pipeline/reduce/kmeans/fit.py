"""The state machine of a k-means fit: it decides, a fleet of partitions and owners computes.

The driver holds counts (i64[k]), a few rows for empty clusters, and handles to centres that live elsewhere.
"""

from dataclasses import dataclass, replace
from itertools import count
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.kmeans.checkpoint import Checkpoint, State
from pipeline.reduce.kmeans.fleet import CentresLost, Fleet, Look, Seeded, Seen
from pipeline.reduce.kmeans.partition import Share
from pipeline.reduce.kmeans.schedule import COARSE, EXACT, SAMPLE, Schedule
from pipeline.vectors import Floats

H = TypeVar("H")
"""A handle to centres: see `fleet.py`."""

REPAIRS = 1024
"""Empty clusters that get a row in one pass, at most: their rows travel through the driver."""
EXTRA = 3
"""Passes beyond the last one, at most, while there are empty clusters and rows for them."""
RESUMED = 3
"""How often a fit goes on from its checkpoint, at most, after its centres were lost."""


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
    """One fit on a fleet. With a checkpoint it starts where an earlier one of the same identity stopped, and goes on from it
    where a node takes centres with it that were nowhere else."""

    fleet: Fleet[H]
    schedule: Schedule
    k: int
    seed: int
    checkpoint: Checkpoint | None = None
    start: Floats | None = None
    """f32[k, d], the driver's: taken instead of seeds."""

    def run(self) -> Fitted[H]:
        """Raises InputError where there is nothing to cluster, CentresLost where they are lost without a checkpoint or again and
        again."""
        if self.k < 1:
            raise InputError(f"the number of clusters must be at least 1, not {self.k}")
        if not self.fleet.rows:
            raise InputError("there is nothing to cluster: no sample was kept with a valid embedding; loosen the recipe's filters")
        for attempt in count(1):
            try:
                return self._fitted()
            except CentresLost:
                if self.checkpoint is None or attempt > RESUMED:
                    raise
        raise AssertionError("count never ends")

    def _fitted(self) -> Fitted[H]:
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
        now = self.fleet.seeded(self.k, self.schedule, self.seed) if self.start is None else self.fleet.placed(self.start)
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
        return replace(
            state, position=state.position + 1, turns=state.turns + 1, objective=(*state.objective, seen.objective),
            changed=(*state.changed, seen.changed / max(1, seen.looked)), looked=(*state.looked, seen.looked),
            kinds=(*state.kinds, look.kind),
        )

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
