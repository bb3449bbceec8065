"""A fleet on Ray: actors hold partitions of the rows, others own slices of the centres; the driver holds references.

Centres are one object in Ray's store, one copy per node, mapped by every actor there. A process that dies is replaced: a
partition takes its assignment from the last checkpoint and makes the passes since then again, an owner asks the partitions for
their sums once more. Both give the same bits.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Self

import ray
from ray.exceptions import RayError

from pipeline.distributed.attempts import ATTEMPTS, Patience
from pipeline.distributed.fleet import actors
from pipeline.distributed.fleet.actors import OwnerActor, PartitionActor, Seats
from pipeline.distributed.fleet.crew import Crew, Ref, answer
from pipeline.distributed.ray_cluster import nodes
from pipeline.distributed.worker import WATCH, reason
from pipeline.errors import ShardmillError
from pipeline.reduce.kmeans.checkpoint import Checkpoint
from pipeline.reduce.kmeans.fleet import AssignmentStep, Fleet, FleetCentres, restore_assignment, sums_again
from pipeline.reduce.kmeans.local_fleet import runs
from pipeline.reduce.kmeans.partition import Block
from pipeline.reduce.kmeans.seeding import Slice
from pipeline.store.store import Store

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
        self.scratch = store, f"{scratch}/seeds"
        self._runs = runs(blocks, seats.workers or nodes().seats(seats.cpus, seats.gpus))
        self.parts = self.owners = len(self._runs)
        options: dict[str, Any] = {
            "num_cpus": seats.cpus, "num_gpus": seats.gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD",
            "concurrency_groups": {WATCH: 1},
        }
        partition: Any = ray.remote(**options)(PartitionActor)
        self._owner: Any = ray.remote(num_cpus=NO_CPU, max_restarts=0, scheduling_strategy="SPREAD")(OwnerActor)
        self._owners: list[Any] = []
        self._bounds: Sequence[Slice] = ()
        self._step: AssignmentStep[Ref] | None = None
        self._since: list[tuple[Any, ...]] = []
        """Calls that give a fresh partition the assignment of the one before: that of the checkpoint, and the passes since."""
        self._first_rows: list[int] = []
        self._crew = Crew(
            len(self._runs), lambda number: partition.remote(self._runs[number], seats.cpus, seats.place),
            self._recalled, self._name, patience,
        )
        sizes = [answer(size) for size in self._crew.each(self._runs, lambda actor, _: actor.do.remote(actors.size))]
        self.rows = sum(n for n, _ in sizes)
        self.dimension = next((d for n, d in sizes if n), 0)
        self._first_rows = [sum(n for n, _ in sizes[:i]) for i in range(len(sizes))]
        for seat, first in zip(self._crew.seats, self._first_rows, strict=True):
            seat.actor.do.remote(actors.number, first)

    def close(self) -> None:
        self._crew.close()
        for owner in self._owners:
            ray.kill(owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the primitives

    def each_partition(self, function: Callable[..., Any], *arguments: Any, items: Sequence[Any] | None = None) -> list[Ref]:
        if items is None:
            return self._crew.each(range(self.parts), lambda actor, _: actor.do.remote(function, *arguments))
        return self._crew.each(items, lambda actor, item: actor.do.remote(function, item, *arguments))

    def each_owner(self, function: Callable[..., Any], *arguments: Any) -> list[Ref]:
        return [self._of_owner(i, function, *arguments) for i in range(len(self._bounds))]

    def alone(self, function: Callable[..., Any], *arguments: Any, outputs: int = 1) -> Any:
        """By a task, which Ray runs again where its process dies."""
        return ray.remote(function).options(num_cpus=NO_CPU, num_returns=outputs).remote(*arguments)

    def value(self, handle: Ref) -> Any:
        return answer(handle)

    def reduced(
        self, step: AssignmentStep[Ref], bounds: Sequence[Slice], function: Callable[..., Any], *arguments: Any
    ) -> list[Any]:
        """Sums go from the partitions to the owners as each partition is through; the driver sees the facts alone."""
        self._step, self._bounds = step, bounds
        while len(self._owners) < len(bounds):
            self._owners.append(self._owner.remote())
        for owner, part in zip(self._owners, bounds, strict=False):
            owner.begin.remote(part, step.turn, step.centres)
        facts: list[Any] = [None] * self.parts

        def send(number: int, answers: Ref | list[Ref]) -> None:
            fact, *sums = answers if isinstance(answers, list) else [answers]
            facts[number] = answer(fact)
            self._crew.seats[number].deaths = 0
            for owner, part_sums in zip(self._owners, sums, strict=False):
                owner.add.remote(step.turn, number, part_sums)

        self._crew.each(range(self.parts), lambda actor, _: actor.do.options(num_returns=1 + len(bounds)).remote(
            function, *arguments, bounds), done=send)
        self._since.append((function, *arguments, ()))   # made again, its sums are no news
        return facts

    # --- what dies

    def save(self, checkpoint: Checkpoint, turn: int, centres: FleetCentres[Ref]) -> None:
        super().save(checkpoint, turn, centres)
        self._since = [(restore_assignment, checkpoint, turn)]

    def restore(self, checkpoint: Checkpoint, turn: int) -> FleetCentres[Ref]:
        self._since = [(restore_assignment, checkpoint, turn)]   # first: the centres of later passes may be lost
        return super().restore(checkpoint, turn)

    def _name(self, number: int) -> str:
        return f"{self._runs[number][0].name} to {self._runs[number][-1].name}"

    def _recalled(self, number: int, actor: Any) -> list[Ref]:
        """A fresh process for a partition gets the assignment that the one before had."""
        first = [(actors.number, self._first_rows[number])] if self._first_rows else []
        return [actor.do.remote(*call) for call in [*first, *self._since]]

    def _of_owner(self, i: int, function: Callable[..., Any], *arguments: Any) -> Ref:
        """What the owner of slice i answers; where it, or what was sent to it, is lost, everything is sent again."""
        for attempt in count():
            handle = self._owners[i].do.remote(function, *arguments)
            try:
                ray.get(handle)
            except RayError as error:
                if attempt == ATTEMPTS:
                    where = "{} to {}".format(*self._bounds[i])
                    raise ShardmillError(f"clustering stopped: the owner of centres {where} failed: {reason(error)}") from error
                self._resend(i)
            else:
                return handle

    def _resend(self, i: int) -> None:
        step = self._step
        assert step is not None   # an owner is asked only after a pass
        ray.kill(self._owners[i])
        owner = self._owners[i] = self._owner.remote()
        owner.begin.remote(self._bounds[i], step.turn, step.centres)
        for number, sums in enumerate(self.each_partition(sums_again, step.k, step.sample, self._bounds[i])):
            owner.add.remote(step.turn, number, sums)
