"""The state machine of a k-means fit: it decides, a fleet of partitions and owners computes.

The driver holds counts (i64[k]), a few rows for empty clusters, and handles to centres that live elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.kmeans.checkpoint import Checkpoint, State
from pipeline.reduce.kmeans.fleet import AssignmentStep, CentresLost, Fleet, FleetCentres, StepResult
from pipeline.reduce.kmeans.partition import RowSample
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
    """Centres and the record of their fit; the rows' exact assignment is with the fleet."""

    centres: H
    sizes: NDArray[np.int64]
    """i64[k], none below the schedule's `min_size`, none empty."""
    objective: float
    """Mean similarity of all rows to their centre."""
    history: State
    """Objective, changes and kinds of all passes."""
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
    """f32[k, d], with the driver: centres to start from instead of seeds."""
    told: Callable[[State], None] | None = None
    """Called after every pass over the rows."""

    def run(self) -> Fitted[H]:
        """Fits. Raises InputError where there is nothing to cluster, and CentresLost where centres are lost without a checkpoint,
        or more than RESUMED times."""
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
        state, centres = self._initial()
        while True:
            step = self._next(state, centres)
            result = self.fleet.run_step(step)
            state = self._recorded(state, step, result)
            if self.told is not None:
                self.told(state)
            stop, empty = self._convergence(state, result)
            at = state.position - 1
            closing = at == len(self.schedule.kinds) - 1
            repairing = self.schedule.closing and closing and empty > 0 and state.extra < EXTRA
            if self.schedule.closing and ((closing and not repairing) or (stop and step.kind == EXACT)):
                return self._finished(step, result, state, converged=stop)
            centres, moved = self._updated(step, result, state, self.schedule.beyond(at, stop))
            if not self.schedule.closing and closing:
                return Fitted(centres.handle, result.counts, result.objective, moved, stop, 0, self._reason(step, 0, 0))
            if repairing and not moved.refilled[-1]:
                return self._finished(step, result, state, converged=False)
            if repairing:
                moved = replace(moved, position=at, extra=state.extra + 1)
            elif stop:
                moved = replace(moved, position=self.schedule.next_phase(at))
            state = moved
            self._save(state, centres)

    def _initial(self) -> tuple[State, FleetCentres[H]]:
        state = None if self.checkpoint is None else self.checkpoint.latest()
        if self.checkpoint is not None and state is not None:
            return state, self.fleet.restore(self.checkpoint, state.turns)
        state = State()
        centres = self.fleet.seeded(self.k, self.schedule, self.seed) if self.start is None else self.fleet.placed(self.start)
        self._save(state, centres)
        return state, centres

    def _save(self, state: State, centres: FleetCentres[H]) -> None:
        if self.checkpoint is not None:
            self.fleet.save(self.checkpoint, state.turns, centres)
            self.checkpoint.commit(state)

    def _next(self, state: State, centres: FleetCentres[H]) -> AssignmentStep[H]:
        kind = self.schedule.kinds[state.position]
        step = AssignmentStep(state.turns, kind, centres.handle, centres.k, self._sample(kind), neighbours=self.schedule.neighbours)
        if kind == COARSE:
            cells = self.fleet.coarse(centres.k, self.seed)
            return replace(step, cells=cells, neighbours=4 * self.schedule.neighbours)
        return step

    def _sample(self, kind: str) -> RowSample:
        part = self.schedule.sample_rows * self.k / self.fleet.rows if kind == SAMPLE else 1.0
        return RowSample(self.seed, part)

    def _recorded(self, state: State, step: AssignmentStep[H], result: StepResult) -> State:
        return replace(
            state, position=state.position + 1, turns=state.turns + 1, objective=(*state.objective, result.objective),
            changed=(*state.changed, result.changed / max(1, result.compared)), looked=(*state.looked, result.compared),
            kinds=(*state.kinds, step.kind),
        )

    def _convergence(self, state: State, result: StepResult) -> tuple[bool, int]:
        """Whether this phase has converged, and how many clusters are empty. A pass is compared with one over the same rows."""
        empty = int((result.counts == 0).sum())
        if empty or state.turns < 2 or (SAMPLE in state.kinds[-2:] and state.kinds[-2] != state.kinds[-1]):
            return False, empty
        gain = state.objective[-1] - state.objective[-2]
        return gain <= self.schedule.tolerance * abs(state.objective[-1]) or state.changed[-1] <= self.schedule.changed, empty

    def _updated(self, step: AssignmentStep[H], result: StepResult, state: State, beyond: float) -> tuple[FleetCentres[H], State]:
        empty = np.flatnonzero(result.counts == 0)[:REPAIRS]
        rows = self.fleet.farthest(step, len(empty)).vectors if len(empty) else None
        filled = 0 if rows is None else len(rows)
        updated = self.fleet.updated(step, empty[:filled], rows, beyond)
        return FleetCentres(updated, step.k), replace(state, refilled=(*state.refilled, filled))

    def _finished(self, step: AssignmentStep[H], result: StepResult, state: State, *, converged: bool) -> Fitted[H]:
        keep = result.counts >= max(1, self.schedule.min_size)
        keep[np.argmax(result.counts)] = True
        dropped = int((~keep).sum())
        if dropped:
            centres = self.fleet.without(step.centres, keep)
            step = AssignmentStep(step.turn + 1, EXACT, centres, int(keep.sum()), step.sample, keep=keep)
            emptied = int((result.counts == 0).sum())
            result = self.fleet.run_step(step)
        return Fitted(step.centres, result.counts, result.objective, state, converged, dropped,
                      self._reason(step, dropped, emptied if dropped else 0))

    def _reason(self, step: AssignmentStep[H], dropped: int, emptied: int) -> str | None:
        reasons = []
        if step.k + dropped < self.k:
            directions = step.k + dropped
            reasons.append(f"asked for {self.k} clusters, but the {self.fleet.rows} rows "
                           f"have only {directions} different directions")
        if emptied:
            reasons.append(f"{emptied} clusters stayed empty")
        if dropped > emptied:
            reasons.append(f"{dropped - emptied} clusters had fewer than {self.schedule.min_size} rows")
        return "; ".join(reasons) or None
