"""The processes that hold the partitions of a fleet: asked together, watched while they work, replaced when they die or hang."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from pipeline.distributed.attempts import ATTEMPTS, Patience
from pipeline.distributed.worker import Heartbeat, reason
from pipeline.errors import ShardmillError
from pipeline.reduce.kmeans.fleet import CentresLost

Ref = Any   # ray.ObjectRef: Ray ships no types for what it refers to
LOOK = 5.0
"""Seconds between two looks at busy processes."""


@dataclass(eq=False)
class Seat:
    """The place of one partition, and who has it now."""

    heartbeat: Heartbeat
    met: bool = False
    """It has answered: it does not wait for room on the cluster."""
    deaths: int = 0
    """How many of its processes died since one last did what it was asked to."""

    @property
    def actor(self) -> Any:
        """The actor that holds the partition now."""
        return self.heartbeat.actor


@dataclass(eq=False)
class Crew:
    """One actor per partition."""

    count: int
    hire: Callable[[int], Any]
    """A new actor for a partition."""
    recall: Callable[[int, Any], list[Ref]]
    """Makes a new actor what the one before was: what to wait for."""
    name: Callable[[int], str]
    """The name of a partition, for people."""
    patience: Patience
    seats: list[Seat] = field(init=False)
    _looked: float = 0.0

    def __post_init__(self) -> None:
        self.seats = [Seat(Heartbeat(self.hire(number))) for number in range(self.count)]

    def close(self) -> None:
        """Ends all actors."""
        for seat in self.seats:
            ray.kill(seat.actor)

    def each(
        self, items: Sequence[Any], ask: Callable[[Any, Any], Any], done: Callable[[int, Any], None] = lambda i, answers: None
    ) -> list[Any]:
        """References to what `ask(actor, item)` gives for each item, all of them there; partition i takes the items i,
        i + partitions, ... `done` hears the references of each item as they come."""
        answers: list[Any] = [None] * len(items)
        waiting: dict[Ref, int] = {}

        def start(i: int) -> None:
            answers[i] = ask(self.seats[i % self.count].actor, items[i])
            waiting[_first(answers[i])] = i

        def restart(number: int, why: str) -> None:
            self._replace(number, why)
            for ref, i in [(ref, i) for ref, i in waiting.items() if i % self.count == number]:
                del waiting[ref]
                start(i)

        for i in range(len(items)):
            start(i)
        self._looked = time.monotonic()
        while waiting:
            ready, rest = ray.wait(list(waiting), num_returns=1, timeout=self._period)
            for ref in ready:
                i = waiting[ref]
                try:
                    answer(ref)
                except RayActorError as error:
                    restart(i % self.count, reason(error))
                    continue
                del waiting[ref]
                self.seats[i % self.count].met = True
                done(i, answers[i])
            for number in self._hung({waiting[ref] % self.count for ref in rest if ref in waiting}):
                restart(number, self._silence)
        return answers

    # --- who does not answer

    @property
    def _period(self) -> float:
        return min(LOOK, self.patience.stall / 8)

    @property
    def _silence(self) -> str:
        return f"no progress for {self.patience.stall:g} s (hung)"

    def _hung(self, busy: Collection[int]) -> list[int]:
        """Time passes for these partitions; those that got nowhere for too long. Time in which nobody looked does not count."""
        now = time.monotonic()
        passed = min(now - self._looked, 3 * self._period)
        if now - self._looked < self._period:
            return []
        self._looked, hung = now, []
        for number, seat in enumerate(self.seats):
            seat.heartbeat.silence = seat.heartbeat.silence + passed if number in busy else 0.0
            seat.heartbeat.poll(ask=number in busy)
            if seat.heartbeat.silence > (self.patience.stall if seat.met else self.patience.opening):
                hung.append(number)
        return hung

    def _replace(self, number: int, why: str | None) -> None:
        """A fresh process for a partition, that knows what the one before knew."""
        seat = self.seats[number]
        while why is not None:
            seat.deaths += 1
            ray.kill(seat.actor)   # it may only be hung
            if seat.deaths > ATTEMPTS:
                times = f"died {seat.deaths} times"
                raise ShardmillError(f"clustering stopped: the process that holds {self.name(number)} {times}: {why}")
            seat = self.seats[number] = Seat(Heartbeat(self.hire(number)), deaths=seat.deaths)
            why = self._recalled(number)

    def _recalled(self, number: int) -> str | None:
        """None when the new process is ready; why it never will be where it died or hangs."""
        for ref in self.recall(number, self.seats[number].actor):
            while not ray.wait([ref], timeout=self._period)[0]:
                if number in self._hung([number]):
                    return self._silence
            try:
                answer(ref)
            except RayActorError as error:
                return reason(error)
            self.seats[number].met = True
        return None


def answer(ref: Ref) -> Any:
    """What it refers to. An error that was raised for people is raised as it was; CentresLost where a node took it along."""
    try:
        return ray.get(ref)
    except ObjectLostError as error:
        raise _lost(error) from error
    except RayTaskError as error:
        if isinstance(error.cause, ObjectLostError):
            raise _lost(error.cause) from error
        raise (error.cause if isinstance(error.cause, ShardmillError) else error) from None


def _lost(error: ObjectLostError) -> CentresLost:
    return CentresLost(f"clustering stopped: a node was lost with centres that were nowhere else: {reason(error)}")


def _first(answers: Any) -> Ref:
    return answers[0] if isinstance(answers, list) else answers
