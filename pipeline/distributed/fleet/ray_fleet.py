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
from ray.exceptions import ObjectLostError, RayError, RayTaskError

from pipeline.distributed.attempts import ATTEMPTS, Patience
from pipeline.distributed.fleet.actors import (
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
from pipeline.distributed.fleet.crew import Crew, Ref, answer
from pipeline.distributed.ray_cluster import nodes
from pipeline.distributed.worker import WATCH, reason
from pipeline.errors import ShardmillError
from pipeline.reduce.kmeans import seeding
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fit import Fitted, Fleet, Look, Seeded, Seen
from pipeline.reduce.kmeans.local_fleet import cell_share, coarse_share, plain_share, runs
from pipeline.reduce.kmeans.owner import slices
from pipeline.reduce.kmeans.partition import Block, Far
from pipeline.reduce.kmeans.schedule import COARSE, NEAR, Schedule
from pipeline.store.store import Store
from pipeline.vectors import Floats

NO_CPU = 0
"""What works for moments between the passes holds no CPU: the partitions hold them all."""


class RayFleet(Fleet[Ref]):
    """As many partitions as there are seats on the cluster. Their number changes no bit of a fit.

    `scratch` is a folder in a store that all nodes reach, for the sample of two-level seeding. `close` ends the actors.
    """

    def __init__(
        self, blocks: Sequence[Block], store: Store, scratch: str, seats: Seats = Seats(),   # noqa: B008 (frozen)
        patience: Patience = Patience(),   # noqa: B008
    ) -> None:
        self._store, self._scratch = store, scratch
        self._runs = runs(blocks, seats.workers or nodes().seats(seats.cpus, seats.gpus))
        options: dict[str, Any] = {
            "num_cpus": seats.cpus, "num_gpus": seats.gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD",
            "concurrency_groups": {WATCH: 1},
        }
        partition: Any = ray.remote(**options)(PartitionActor)
        self._owner: Any = ray.remote(num_cpus=NO_CPU, max_restarts=0, scheduling_strategy="SPREAD")(OwnerActor)
        self._owners: list[Any] = []
        self._bounds: list[tuple[int, int]] = []
        self._saved: tuple[Checkpoint, int] | None = None
        self._since: list[tuple[Look[None], Ref, Ref, Ref]] = []
        self._first_rows: list[int] = []
        self._crew = Crew(
            len(self._runs), lambda number: partition.remote(self._runs[number], seats.cpus, seats.place),
            self._recalled, self._name, patience,
        )
        sizes = self._crew.all(lambda actor: actor.size.remote())
        self._rows: int = sum(n for n, _ in sizes)
        self._dimension: int = next((d for n, d in sizes if n), 0)
        self._first_rows = [sum(n for n, _ in sizes[:i]) for i in range(len(sizes))]
        for seat, first in zip(self._crew.seats, self._first_rows, strict=True):
            seat.actor.number.remote(first)

    @property
    def rows(self) -> int:
        return self._rows

    @property
    def dimension(self) -> int:
        return self._dimension

    def close(self) -> None:
        self._crew.close()
        for owner in self._owners:
            ray.kill(owner)

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
            found, many = _task(plain_seeds, 2, k, seed, *self._crew.all(lambda actor: actor.sample.remote(share), keep=True))
            return Seeded(found, answer(many))
        share, coarse = cell_share(k, schedule, seed, self.rows), self.coarse(k, seed)
        where = (self._store, f"{self._scratch}/seeds")
        parts = [part for found in self._crew.all(lambda actor: actor.part.remote(where, share, coarse)) for part in found]
        many = seeding.allotted(sum((part.sizes for part in parts), np.zeros(1, np.int64)), k)
        pieces = self._crew.each(cell_runs(many, 4 * self._crew.count), lambda actor, run: actor.cell_seeds.remote(
            where, [part.name for part in parts], run, seed))
        self._store.remove(where[1])
        return Seeded(_task(joined, 1, *pieces), int(many.sum()))

    def coarse(self, k: int, seed: int) -> Ref:
        cells = seeding.cells_for(k)
        share = coarse_share(cells, seed, self.rows)
        return _task(coarse_centres, 1, cells, seed, *self._crew.all(lambda actor: actor.sample.remote(share), keep=True))

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
        told: list[tuple[int, int]] = [(0, 0)] * self._crew.count

        def send(number: int, answers: list[Ref]) -> None:
            told[number] = answer(answers[0])
            self._crew.seats[number].deaths = 0
            for owner, sums in zip(self._owners, answers[1:], strict=False):
                owner.add.remote(look.turn, number, sums)

        self._crew.each(range(self._crew.count), lambda actor, _: actor.look.options(num_returns=1 + len(self._bounds)).remote(
            *turn, self._bounds), done=send)
        self._since.append(turn)
        counted = [self._of_owner(i, look, lambda owner: owner.counted.remote(self._crew.count)) for i in range(len(self._bounds))]
        counts = np.concatenate([counts for counts, _ in counted])
        return Seen(counts, sum(total for _, total in counted), sum(one for one, _ in told), sum(one for _, one in told))

    def _lists(self, look: Look[Ref]) -> Ref:
        """The centres near each cell or centre, found by the actors, a slice each."""
        if look.kind not in (COARSE, NEAR) or look.keep is not None:
            return None
        of, many = (look.cells, seeding.cells_for(look.k)) if look.kind == COARSE else (look.centres, look.k)
        pieces = self._crew.each(slices(many, self._crew.count), lambda actor, part: actor.neighbours.remote(
            of, part, look.centres, min(look.neighbours, look.k)))
        return _task(joined, 1, *pieces)

    def farthest(self, look: Look[Ref], m: int) -> Far:
        parts: list[Far] = self._crew.all(lambda actor: actor.farthest.remote(look.centres, m, look.share))
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
        self._crew.all(lambda actor: actor.save.remote(checkpoint, turn))
        for one in written:
            answer(one)
        self._saved, self._since = (checkpoint, turn), []

    def restore(self, checkpoint: Checkpoint, turn: int) -> Seeded[Ref]:
        centres, k = _task(joined_slices, 2, checkpoint, turn)
        self._saved, self._since = (checkpoint, turn), []
        self._crew.all(lambda actor: actor.restore.remote(checkpoint, turn))
        return Seeded(centres, answer(k))

    def write(self, centres: Ref, store: Store, path: str) -> None:
        answer(_task(write_centres, 1, centres, store, path))

    # --- what dies

    def _name(self, number: int) -> str:
        return f"{self._runs[number][0].name} to {self._runs[number][-1].name}"

    def _recalled(self, number: int, actor: Any) -> list[Ref]:
        """A fresh process for a partition gets the assignment that the one before had."""
        made = [] if not self._first_rows else [actor.number.remote(self._first_rows[number])]
        if self._saved is not None:
            made.append(actor.restore.remote(*self._saved))
        return made + [actor.again.remote(*turn) for turn in self._since]

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
        again = self._crew.all(lambda actor: actor.sums.remote(look.k, look.share, self._bounds[i]), keep=True)
        for number, sums in enumerate(again):
            owner.add.remote(look.turn, number, sums)


def _task(function: Callable[..., Any], returns: int, *arguments: Any) -> Any:
    """References to what a task on the cluster returns; Ray runs it again where its process dies."""
    return ray.remote(function).options(num_cpus=NO_CPU, num_returns=returns).remote(*arguments)
