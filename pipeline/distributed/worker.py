"""One actor as the driver sees it: is it there, is its work open, what waits at it, does it get on."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Generic

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from pipeline.distributed.attempts import Attempt, Patience
from pipeline.work import Item

WATCH = "watch"
"""Ray's concurrency group of an actor's method `beats`, which answers while another one runs."""
DETAIL = "Worker exit detail:"
"""In what Ray says of a dead actor, before the sentence that matters."""


@dataclass(eq=False)
class Pulse:
    """Whether an actor gets somewhere."""

    actor: Any
    still: float = 0.0
    """Seconds without a sign of progress, counted while the driver looked."""
    _question: Any = None
    _beats: int = -1

    def listen(self, *, ask: bool) -> None:
        """Hears how far it is, and asks again; never waits."""
        if self._question is not None and ray.wait([self._question], timeout=0)[0]:
            beats = _answer(self._question)
            if beats != self._beats:
                self.still, self._beats = 0.0, beats
            self._question = None
        if self._question is None and ask:
            self._question = self.actor.beats.remote()


@dataclass(eq=False)
class Worker(Generic[Item]):
    """Gets no item before its work is open, so that no item is blamed for the opening."""

    actor: Any
    greeting: Any
    """Answered with the node's id once the process is there. A new actor may wait for a free seat for ever."""
    opening: Any
    reused: bool = False
    """Was there before this pass; it may have died since, or with its node."""
    only: Attempt[Item] | None = None
    """The one attempt this process is for."""
    node: str | None = None
    ready: bool = False
    tasks: deque[tuple[Any, Attempt[Item]]] = field(default_factory=deque)
    """(answer, attempt), the oldest first: Ray runs an actor's calls in order."""
    started: float = field(default_factory=time.monotonic)
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.actor)

    def awaited(self) -> Any:
        """The answer that comes next; None when it has nothing to do."""
        if self.node is None:
            return self.greeting
        if not self.ready:
            return self.opening
        return self.tasks[0][0] if self.tasks else None

    def free(self, seat: int) -> bool:
        return self.ready and self.only is None and len(self.tasks) <= seat

    def give(self, attempt: Attempt[Item]) -> None:
        if not self.tasks:
            self.pulse.still = 0.0
        self.tasks.append((self.actor.run.remote(attempt.item), attempt))

    def take(self) -> Attempt[Item]:
        """The oldest attempt, which is over; the next one's time begins."""
        self.pulse.still = 0.0
        return self.tasks.popleft()[1]

    def overdue(self, patience: Patience) -> bool:
        if self.node is None:
            return self.reused and self.pulse.still > patience.stall
        if not self.ready:
            return self.pulse.still > patience.opening
        return bool(self.tasks) and self.pulse.still > patience.stall


def _answer(question: Any) -> int:
    try:
        return int(ray.get(question))
    except RayError:   # it is dead: the answer to its oldest item says so
        return -1


def reason(error: RayError) -> str:
    """One line for people."""
    if isinstance(error, RayTaskError):
        cause = error.cause if isinstance(error.cause, BaseException) else error
        return f"{type(cause).__name__}: {cause}"
    if isinstance(error, OutOfMemoryError):
        return "its worker process was ended because its node had no memory left"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = next((line.partition(DETAIL)[2] for line in lines if DETAIL in line), lines[0])
    return f"its worker process died: {told.partition(' Some common causes')[0].strip()}"


def wants_memory(error: RayTaskError) -> bool:
    """Raised for want of memory. torch's error is known by its name: the driver need not have torch."""
    names = {base.__name__ for base in type(error.cause).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"})
