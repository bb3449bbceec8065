"""A fleet on Ray: actors hold partitions of the rows, others own slices of the centres; the driver holds references.

Centres are one object in Ray's store, one copy per node, mapped by every actor there. A process that dies is replaced: a
partition takes its assignment from the last checkpoint and makes the passes since then again, an owner asks the partitions for
their sums once more. Both give the same bits.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from pipeline.distributed.attempts import ATTEMPTS
from pipeline.distributed.cluster import nodes
from pipeline.distributed.holders import (
    OwnerActor,
    PartitionActor,
    Seats,
    cell_runs,
    coarse_centres,
    joined,
    joined_slices,
    plain_seeds,
    selected,
    write_centres,
    write_slice,
)
from pipeline.distributed.workers import reason
from pipeline.errors import ShardmillError
from pipeline.io.store import Store
from pipeline.reduce import seeding
from pipeline.reduce.checkpoint import Checkpoint
from pipeline.reduce.fitting import Fitted, Fleet, Look, Seeded, Seen
from pipeline.reduce.inprocess import cell_share, coarse_share, plain_share, runs
from pipeline.reduce.nearest import Floats
from pipeline.reduce.owner import slices
from pipeline.reduce.partition import Block, Far
from pipeline.reduce.schedule import COARSE, NEAR, Schedule

Ref = Any   # ray.ObjectRef: Ray ships no types for what it refers to
NO_CPU = 0
"""What works for moments between the passes holds no CPU: the partitions hold them all."""


class RayFleet(Fleet[Ref]):
    """As many partitions as there are seats on the cluster. Their number changes no bit of a fit.

    `scratch` is a folder in a store that all nodes reach, for the sample of two-level seeding. `close` ends the actors.
    """

    def __init__(self, blocks: Sequence[Block], store: Store, scratch: str, seats: Seats = Seats()) -> None:  # noqa: B008 (frozen)
        self._store, self._scratch = store, scratch
        self._runs = runs(blocks, seats.workers or nodes().seats(seats.cpus, seats.gpus))
        options: dict[str, Any] = {
            "num_cpus": seats.cpus, "num_gpus": seats.gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD",
        }
        self._partition: Any = ray.remote(**options)(PartitionActor)
        self._owner: Any = ray.remote(num_cpus=NO_CPU, max_restarts=0, scheduling_strategy="SPREAD")(OwnerActor)
        self._threads = seats.cpus
        self._owners: list[Any] = []
        self._bounds: list[tuple[int, int]] = []
        self._saved: tuple[Checkpoint, int] | None = None
        self._since: list[tuple[Look[None], Ref, Ref, Ref]] = []
        self._first_rows: list[int] = []
        self._deaths = [0] * len(self._runs)   # of each partition's processes, since it last made a pass
        self._actors = [self._partition.remote(run, seats.cpus) for run in self._runs]
        sizes = self._all(lambda actor: actor.size.remote())
        self._rows: int = sum(n for n, _ in sizes)
        self._dimension: int = next((d for n, d in sizes if n), 0)
        self._first_rows = [sum(n for n, _ in sizes[:i]) for i in range(len(sizes))]
        for actor, first in zip(self._actors, self._first_rows, strict=True):
            actor.number.remote(first)

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def dimension(self) -> int:
        return self._dimension

    def close(self) -> None:
        for actor in (*self._actors, *self._owners):
            ray.kill(actor)
        self._actors, self._owners = [], []

    def __enter__(self) -> "RayFleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- seeds

    def placed(self, centres: Floats) -> Seeded[Ref]:
        return Seeded(ray.put(centres), len(centres))

    def seeded(self, k: int, schedule: Schedule, seed: int) -> Seeded[Ref]:
        if not schedule.cells:
            share = plain_share(k, schedule, seed, self.rows)
            found, many = _task(plain_seeds, 2, k, seed, *self._all(lambda actor: actor.sample.remote(share), keep=True))
            return Seeded(found, _got(many))
        share, coarse = cell_share(k, schedule, seed, self.rows), self.coarse(k, seed)
        where = (self._store, f"{self._scratch}/seeds")
        parts = [part for found in self._all(lambda actor: actor.part.remote(where, share, coarse)) for part in found]
        many = seeding.allotted(sum((part.sizes for part in parts), np.zeros(1, np.int64)), k)
        pieces = self._each(cell_runs(many, 4 * len(self._actors)), lambda actor, run: actor.cell_seeds.remote(
            where, [part.name for part in parts], run, seed))
        self._store.remove(where[1])
        return Seeded(_task(joined, 1, *pieces), int(many.sum()))

    def coarse(self, k: int, seed: int) -> Ref:
        cells = seeding.cells_for(k)
        share = coarse_share(cells, seed, self.rows)
        return _task(coarse_centres, 1, cells, seed, *self._all(lambda actor: actor.sample.remote(share), keep=True))

    # --- passes

    def fit(
        self, schedule: Schedule, k: int, seed: int, *, checkpoint: Checkpoint | None = None, start: Floats | None = None
    ) -> Fitted[Ref]:
        """See `Fleet`. Where a node took centres with it that were nowhere else, the fit goes on from the checkpoint."""
        for attempt in count(1):
            try:
                return super().fit(schedule, k, seed, checkpoint=checkpoint, start=start)
            except (ObjectLostError, RayTaskError) as error:
                lost = isinstance(error, ObjectLostError) or isinstance(error.cause, ObjectLostError)
                if checkpoint is None or not lost or attempt > ATTEMPTS:
                    raise
        raise AssertionError

    def look(self, look: Look[Ref]) -> Seen:
        turn = (look.at(None, None), look.centres, look.cells, self._lists(look))
        self._bounds = slices(look.k, len(self._runs))
        while len(self._owners) < len(self._bounds):
            self._owners.append(self._owner.remote())
        for owner, bounds in zip(self._owners, self._bounds, strict=False):
            owner.begin.remote(bounds, look.turn, look.centres)
        told: list[tuple[int, int]] = [(0, 0)] * len(self._actors)

        def send(number: int, answers: list[Ref]) -> None:
            told[number] = _got(answers[0])
            self._deaths[number] = 0
            for owner, sums in zip(self._owners, answers[1:], strict=False):
                owner.add.remote(look.turn, number, sums)

        self._all(lambda actor: actor.look.options(num_returns=1 + len(self._bounds)).remote(*turn, self._bounds), done=send)
        self._since.append(turn)
        counted = [self._of_owner(i, look, lambda owner: owner.counted.remote(len(self._actors))) for i in range(len(self._bounds))]
        counts = np.concatenate([counts for counts, _ in counted])
        return Seen(counts, sum(total for _, total in counted), sum(one for one, _ in told), sum(one for _, one in told))

    def _lists(self, look: Look[Ref]) -> Ref:
        """The centres near each cell or centre, found by the actors, a slice each."""
        if look.kind not in (COARSE, NEAR) or look.keep is not None:
            return None
        of, many = (look.cells, seeding.cells_for(look.k)) if look.kind == COARSE else (look.centres, look.k)
        pieces = self._each(slices(many, len(self._actors)), lambda actor, part: actor.neighbours.remote(
            of, part, look.centres, min(look.neighbours, look.k)))
        return _task(joined, 1, *pieces)

    def farthest(self, look: Look[Ref], m: int) -> Far:
        parts: list[Far] = self._all(lambda actor: actor.farthest.remote(look.centres, m, look.share))
        return Far.joined(parts).first(m)

    def moved(self, look: Look[Ref], ids: NDArray[np.int64], rows: Floats | None, beyond: float = 0.0) -> Ref:
        def ask(owner: Any) -> Ref:
            return owner.moved.remote(ids, rows, beyond)

        pieces = [self._of_owner(i, look, ask, keep=True) for i in range(len(self._bounds))]
        return _task(joined, 1, *pieces)

    def without(self, centres: Ref, keep: NDArray[np.bool_]) -> Ref:
        return _task(selected, 1, centres, keep)

    # --- files

    def save(self, checkpoint: Checkpoint, turn: int, now: Seeded[Ref]) -> None:
        written = [_task(write_slice, 1, checkpoint, turn, part, now.centres) for part in slices(now.k, len(self._runs))]
        self._all(lambda actor: actor.save.remote(checkpoint, turn))
        for one in written:
            _got(one)
        self._saved, self._since = (checkpoint, turn), []

    def restore(self, checkpoint: Checkpoint, turn: int) -> Seeded[Ref]:
        centres, k = _task(joined_slices, 2, checkpoint, turn)
        self._saved, self._since = (checkpoint, turn), []
        self._all(lambda actor: actor.restore.remote(checkpoint, turn))
        return Seeded(centres, _got(k))

    def write(self, centres: Ref, store: Store, path: str) -> None:
        _got(_task(write_centres, 1, centres, store, path))

    # --- processes that die

    def _all(self, ask: Callable[[Any], Any], *, keep: bool = False, done: Callable[[int, Any], None] | None = None) -> list[Any]:
        """What every partition answers to `ask(actor)` (references with `keep`), by partition; `done` hears each as it comes."""
        return self._each(range(len(self._actors)), lambda actor, _: ask(actor), keep=keep or done is not None, done=done)

    def _each(
        self, items: Sequence[Any], ask: Callable[[Any, Any], Any], *, keep: bool = True,
        done: Callable[[int, Any], None] | None = None,
    ) -> list[Any]:
        """The same for items; partition i takes the items i, i + partitions, …"""
        answers: list[Any] = [None] * len(items)
        waiting: dict[Ref, int] = {}

        def start(i: int) -> None:
            answers[i] = ask(self._actors[i % len(self._actors)], items[i])
            waiting[_first(answers[i])] = i

        for i in range(len(items)):
            start(i)
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1)
            i = waiting.pop(ready[0])
            try:
                value = ray.get(ready[0])
            except RayTaskError as error:
                raise _cause(error) from None
            except RayActorError as error:
                self._replace(i % len(self._actors), error)
                for other in [i, *(j for ref, j in waiting.items() if j % len(self._actors) == i % len(self._actors))]:
                    waiting = {ref: j for ref, j in waiting.items() if j != other}
                    start(other)
                continue
            if done is not None:
                done(i, answers[i])
            if not keep:
                answers[i] = value
        return answers

    def _replace(self, number: int, error: RayActorError) -> None:
        """A fresh process for a partition, with the assignment that the one before had."""
        while True:
            self._deaths[number] += 1
            if self._deaths[number] > ATTEMPTS:
                first, last = self._runs[number][0].name, self._runs[number][-1].name
                times = f"died {self._deaths[number]} times"
                raise ShardmillError(f"clustering stopped: the process that holds {first} to {last} {times}: {reason(error)}")
            actor = self._partition.remote(self._runs[number], self._threads)
            self._actors[number] = actor
            made = [] if not self._first_rows else [actor.number.remote(self._first_rows[number])]
            if self._saved is not None:
                made.append(actor.restore.remote(*self._saved))
            made += [actor.again.remote(*turn) for turn in self._since]
            try:
                ray.get(made)
            except RayTaskError as failed:
                raise _cause(failed) from None
            except RayActorError as again:
                error = again
                continue
            return

    def _of_owner(self, i: int, look: Look[Ref], ask: Callable[[Any], Ref], *, keep: bool = False) -> Any:
        """What the owner of slice i answers; where it, or what was sent to it, is lost, everything is sent again."""
        for attempt in count():
            answer = ask(self._owners[i])
            try:
                value = ray.get(answer)
            except RayError as error:
                if attempt == ATTEMPTS:
                    where = "{} to {}".format(*self._bounds[i])
                    raise ShardmillError(f"clustering stopped: the owner of centres {where} failed: {reason(error)}") from error
                self._resend(i, look)
            else:
                return answer if keep else value

    def _resend(self, i: int, look: Look[Ref]) -> None:
        ray.kill(self._owners[i])
        owner = self._owners[i] = self._owner.remote()
        owner.begin.remote(self._bounds[i], look.turn, look.centres)
        for number, sums in enumerate(self._all(lambda actor: actor.sums.remote(look.k, look.share, self._bounds[i]), keep=True)):
            owner.add.remote(look.turn, number, sums)


def _first(answer: Any) -> Ref:
    return answer[0] if isinstance(answer, list) else answer


def _task(function: Callable[..., Any], returns: int, *arguments: Any) -> Any:
    """References to what a task on the cluster returns; Ray runs it again where its process dies."""
    return ray.remote(function).options(num_cpus=NO_CPU, num_returns=returns).remote(*arguments)


def _got(ref: Ref) -> Any:
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise _cause(error) from None


def _cause(error: RayTaskError) -> Exception:
    """What it raised, if it was for people."""
    return error.cause if isinstance(error.cause, ShardmillError) else error
