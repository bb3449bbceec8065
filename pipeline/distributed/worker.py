"""One actor as the driver sees it: is it there, is its work open, what waits at it, does it get on."""

import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Generic

import ray
from ray.exceptions import OutOfMemoryError, RayError, RaySystemError, RayTaskError

from pipeline.distributed.attempts import Attempt, Patience
from pipeline.work import Item

WATCH = "watch"
"""Ray's concurrency group of an actor's method `beats`, which answers while another one runs."""
DETAIL = "Worker exit detail:"
"""In what Ray says of a dead actor, before the sentence that matters."""


@dataclass(eq=False)
class Heartbeat:
    """Whether an actor gets somewhere: it is asked now and then how often it did, and how far it is."""

    actor: Any
    silence: float = 0.0
    """Seconds without a sign of progress, counted while the driver looked."""
    rows: int = 0
    """Of its item, that it has done, when it last answered."""
    _question: Any = None
    _beats: int = -1

    def poll(self, *, ask: bool) -> None:
        """Reads the last answer if it is there, and asks again; never waits."""
        if self._question is not None and ray.wait([self._question], timeout=0)[0]:
            beats, self.rows = _answer(self._question)
            if beats != self._beats:
                self.silence, self._beats = 0.0, beats
            self._question = None
        if self._question is None and ask:
            self._question = self.actor.beats.remote()


@dataclass(eq=False)
class Worker(Generic[Item]):
    """An actor of a pass. It gets no item before its work is open, so that no item is blamed for the opening."""

    actor: Any
    node_ref: Any
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
    heartbeat: Heartbeat = field(init=False)

    def __post_init__(self) -> None:
        self.heartbeat = Heartbeat(self.actor)

    def awaited(self) -> Any:
        """The answer that comes next; None when it has nothing to do."""
        if self.node is None:
            return self.node_ref
        if not self.ready:
            return self.opening
        return self.tasks[0][0] if self.tasks else None

    def free(self, seat: int) -> bool:
        """Whether it may take an item while at most `seat` others wait at it."""
        return self.ready and self.only is None and len(self.tasks) <= seat

    def give(self, attempt: Attempt[Item]) -> None:
        """Sends it an attempt, which waits behind those that it has."""
        if not self.tasks:
            self.heartbeat.silence = 0.0
        self.tasks.append((self.actor.run.remote(attempt.item), attempt))

    def take(self) -> Attempt[Item]:
        """The oldest attempt, which is over; the next one's time begins."""
        self.heartbeat.silence, self.heartbeat.rows = 0.0, 0
        return self.tasks.popleft()[1]

    def overdue(self, patience: Patience) -> bool:
        """Whether it showed no progress for so long that it counts as hung."""
        if self.node is None:
            return self.reused and self.heartbeat.silence > patience.stall
        if not self.ready:
            return self.heartbeat.silence > patience.opening
        return bool(self.tasks) and self.heartbeat.silence > patience.stall


def _answer(question: Any) -> tuple[int, int]:
    try:
        beats, rows = ray.get(question)
        return int(beats), int(rows)
    except RayError:   # it is dead: the answer to its oldest item says so
        return -1, 0


def reason(error: RayError) -> str:
    """One line for people on why an actor or its work failed."""
    if isinstance(error, RayTaskError):
        cause = error.cause if isinstance(error.cause, BaseException) else error
        return _unread(cause) if isinstance(cause, RaySystemError) else f"{type(cause).__name__}: {cause}"
    if isinstance(error, OutOfMemoryError):
        return "its worker process was ended because its node had no memory left"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    detail = next((line.partition(DETAIL)[2] for line in lines if DETAIL in line), lines[0])
    return f"its worker process died: {detail.partition(' Some common causes')[0].strip()}"


def _unread(error: RaySystemError) -> str:
    """Why a process could not read the work that it was sent: Ray gives the whole traceback, whose last line matters."""
    last = str(error).strip().splitlines()[-1]
    missing = re.search(r"ModuleNotFoundError: No module named '([^']+)'", last)
    return f"its machine lacks the Python package {missing[1]}: install it on every machine of the cluster" if missing else last


def wants_memory(error: RayTaskError) -> bool:
    """Raised for want of memory. torch's error is known by its name: the driver need not have torch."""
    names = {base.__name__ for base in type(error.cause).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"})
