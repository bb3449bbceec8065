"""Whose fault a failure was: an item's tries, and what is counted against it (design decision 8). No Ray here."""

import errno
import re
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from pipeline.errors import InputError, OutputError, ShardmillError, SourceError
from pipeline.work import Item

ATTEMPTS = 3
ALIKE = 8
"""Items that may fail in the same way before any is done; then it is none of theirs."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})
"""How a machine says that it has no more room or files for anybody."""


@dataclass(frozen=True)
class Patience:
    """How long silence is taken for work, in seconds."""

    stall: float = 600.0
    """A worker that shows no progress for so long is hung."""
    opening: float = 3600.0
    """A worker that has not opened its work after so long is hung: opening may fetch a model."""
    detection: float = 30.0
    """Ray knows that a node is dead at most so long after its processes are (12 s with its default health checks)."""


@dataclass(frozen=True)
class Failure:
    """One failed try of an item: what was said, on which node, and when."""

    message: str
    node: str
    at: float
    """time.monotonic() of the driver."""
    death: bool = True
    """The process went. An error that was raised is never its node's fault."""
    memory: bool = False
    """It raised for want of memory: what else the process holds may be to blame."""


class Blame:
    """What fails for all items alike is no item's fault, and the pass stops: what says so itself, a machine that is full, and what
    has failed for ALIKE items in the same words before any was done."""

    def __init__(self) -> None:
        self._anything_done = False
        self._words = ""
        self._items: set[str] = set()

    def done(self) -> None:
        """An item was done: what fails from now on may be its own fault."""
        self._anything_done = True

    def check(self, name: str, error: BaseException) -> None:
        """Raises ShardmillError where this error of an item is no fault of the item."""
        if isinstance(error, OutputError | SourceError):
            raise error from None
        if isinstance(error, OSError) and error.errno in FULL:
            raise ShardmillError(f"{name}: {error}: its machine has no more of this; see to it, then run again") from None
        if self._anything_done or isinstance(error, InputError):   # of an input that is there, while another was read
            return
        words = re.sub(r"\S*[\d/]\S*", "…", f"{type(error).__name__}: {error}".replace(name, "…"))
        if words != self._words:
            self._words, self._items = words, set()
        self._items.add(name)
        if len(self._items) >= ALIKE:
            raise ShardmillError(
                f"{len(self._items)} shards failed in the same way and none was done, so none is given up: "
                f"{type(error).__name__}: {error}; see to it, then run the same command again"
            ) from None


@dataclass(frozen=True)
class Attempt(Generic[Item]):
    """An item on its way, with the failures that count against it."""

    item: Item
    failures: tuple[Failure, ...] = ()

    @property
    def number(self) -> int:
        """Which try this is, from 1 on."""
        return len(self.failures) + 1

    @property
    def careful(self) -> bool:
        """The last try: alone in a process that has run nothing before, which opens `work.careful()`."""
        return self.number >= ATTEMPTS

    @property
    def apart(self) -> bool:
        """Needs a process of its own."""
        return self.careful or (bool(self.failures) and self.failures[-1].memory)

    @property
    def spent(self) -> bool:
        """Whether all tries are used up."""
        return self.number > ATTEMPTS

    def with_failure(self, failure: Failure) -> "Attempt[Item]":
        """The next try, with this failure counted."""
        return replace(self, failures=(*self.failures, failure))

    def without_node_deaths(self, alive: Container[str]) -> "Attempt[Item]":
        """The attempt without the deaths on nodes that are not `alive`: the node took its processes with it."""
        return replace(self, failures=tuple(f for f in self.failures if not f.death or f.node in alive))

    def may_be_of_node(self, driver_node: str, since: float) -> bool:
        """Whether there was a death later than `since` on another node than the driver's: that node may be dead, and nobody knows
        yet."""
        return any(f.death and f.node != driver_node and f.at > since for f in self.failures)


class Backlog(Generic[Item]):
    """What is not in hand: each item at most once, in the order in which it is to be handed out."""

    def __init__(self, items: Sequence[Item], driver_node: str, detection: float) -> None:
        self._untried, self._left = iter(items), len(items)
        self._returned: deque[Attempt[Item]] = deque()   # only waited where something died: they go first
        self._retries: deque[Attempt[Item]] = deque()    # go after all others: what failed may be well by then
        self._held: list[Attempt[Item]] = []
        self._here, self._detection = driver_node, detection
        self.apart: deque[Attempt[Item]] = deque()
        """Each needs a process of its own."""

    def __len__(self) -> int:
        """Attempts that any worker may take."""
        return len(self._returned) + self._left + len(self._retries)

    @property
    def empty(self) -> bool:
        """Whether nothing is left to hand out or to decide."""
        return not (len(self) or self.apart or self._held)

    def next(self) -> Attempt[Item]:
        """Takes the next attempt that any worker may make. There must be one (`len`)."""
        if self._returned:
            return self._returned.popleft()
        if self._left:
            self._left -= 1
            return Attempt(next(self._untried))
        return self._retries.popleft()

    def put_back(self, attempts: Iterable[Attempt[Item]]) -> None:
        """Takes back attempts, oldest first, that were only waiting where something died."""
        self._returned.extendleft(reversed(list(attempts)))

    def add(self, attempt: Attempt[Item]) -> None:
        """Takes an attempt that failed. One that is spent is held until it is known whether a node was to blame."""
        if attempt.spent:
            self._held.append(attempt)
        elif attempt.apart:
            self.apart.append(attempt)
        else:
            (self._retries if attempt.failures else self._returned).append(attempt)

    def given_up(self, alive: Container[str], now: float) -> Iterator[Attempt[Item]]:
        """Yields the held attempts whose failures are their own. What a node took is tried again, what may be so stays held. `now`:
        time.monotonic() of the driver."""
        held, self._held = self._held, []
        for attempt in held:
            fair = attempt.without_node_deaths(alive)
            if fair.spent and not fair.may_be_of_node(self._here, now - self._detection):
                yield fair
            else:
                self.add(fair)
