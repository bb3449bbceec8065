"""What is told while something is done, and what that comes to in words. How it is shown is `api/progress.py`.

Whoever does something opens it (`start`), tells of it (`moved`, `advance`) and closes it (`finish`); what is opened in between is
a part of it. A `Meter` knows what was told of one such thing.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.quantities import a_second, duration
from pipeline.work import Units

MEASURED = 3.0
"""Seconds of work after which its rate says something about the time left."""
WORTH_SAYING = 1.0
"""Seconds: a start that takes less is not told of at the end."""


@dataclass(frozen=True)
class Scope:
    """How much there is to do."""

    items: int = 0
    """In all; 0: nobody knows, or there is but one thing to do."""
    done: int = 0
    """Of the items: what an earlier run has done."""
    rows: int | None = None
    """Of the items that are left; None: not known."""
    units: Units = Units()   # noqa: RUF009 (frozen)
    at_most: bool = False
    """It may end before."""


@dataclass(frozen=True)
class Step:
    """One item that is done, or several at once."""

    rows: int = 0
    seconds: float = 0.0
    """That it took, without what went before it."""
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """Samples by what became of them: kept, rejected, failed."""
    items: int = 1


class Reporter(Protocol):
    """Who is told."""

    def start(self, title: str, scope: Scope) -> None:
        """Something begins."""

    def moved(self, rows: int) -> None:
        """Of the items in hand so many rows are done."""

    def advance(self, step: Step) -> None:
        """One item is done."""

    def finish(self) -> None:
        """What began last is over."""

    def note(self, text: str) -> None:
        """A sentence for people."""


@contextmanager
def phase(tell: Reporter, title: str, scope: Scope = Scope()) -> Iterator[None]:
    """Tells of what is done meanwhile."""
    tell.start(title, scope)
    try:
        yield
    finally:
        tell.finish()


@dataclass
class Meter:
    """What was told of one thing that is done."""

    title: str
    scope: Scope
    clock: Callable[[], float] = time.monotonic
    items: int = 0
    rows: int = 0
    """Of the items that are done."""
    in_hand: int = 0
    """Rows of the others, as far as somebody told of them."""
    verdicts: Counter[str] = field(default_factory=Counter)
    since: float | None = None
    """When the work itself began: what goes before it, such as processes that start, is none of its rate."""

    def __post_init__(self) -> None:
        self.began = self.clock()

    def moved(self, rows: int) -> None:
        """Takes how many rows of the items in hand are done."""
        self.in_hand = rows
        self.since = self.clock() if self.since is None else self.since

    def advance(self, step: Step) -> None:
        """Takes an item that is done."""
        begun = self.clock() - step.seconds
        self.since = begun if self.since is None else min(self.since, begun)
        self.items, self.rows, self.in_hand = self.items + step.items, self.rows + step.rows, max(0, self.in_hand - step.rows)
        self.verdicts.update(step.verdicts)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self.clock() - self.began

    @property
    def worked(self) -> float:
        """Seconds of work, without the start."""
        return 0.0 if self.since is None else self.clock() - self.since

    @property
    def share(self) -> float | None:
        """The part that is done, 0..1; None where nobody knows."""
        if not self.scope.items:
            return None
        total, left = self._total_rows(), self.scope.items - self.scope.done
        parts = (self.rows + self.in_hand) / total * left if total else self.items
        return min(1.0, (self.scope.done + parts) / self.scope.items)

    def left(self) -> float | None:
        """Seconds that the rest takes at the rate so far; None where that is not known yet."""
        total = self._total_rows()
        done, whole = (self.rows + self.in_hand, total) if total else (self.items, self.scope.items - self.scope.done)
        if self.worked < MEASURED or not done or done > whole:
            return None
        return (whole - done) / done * self.worked

    def _total_rows(self) -> float:
        """Of all items that are left for this run: as it is known, else as the first ones have them; 0 where there are none."""
        if self.scope.rows is not None:
            return self.scope.rows
        return self.rows / self.items * (self.scope.items - self.scope.done) if self.items else 0.0

    def line(self, *, over: bool = False) -> str:
        """All of it in one line: as it is, or as it was when it was over."""
        return f"{self.title}: {', '.join(self.parts(over=over))}"

    def parts(self, *, over: bool = False) -> list[str]:
        """What there is to say, without the title."""
        fates = [f"{count:,} {name}" for name, count in self.verdicts.items() if count]
        said = [*self._items(), *self._rows(), *fates, *self._rate()]
        starting = self.worked == 0.0 and self.scope.units != Units()
        if over:
            start = self.seconds - self.worked
            behind = f" ({start:,.1f} s of them to start)" if self.worked and start >= WORTH_SAYING and self.scope.units.row else ""
            return [*said, f"{self.seconds:,.1f} s{behind}"]
        left = self.left()
        if left is not None:
            return [*said, f"{'at most' if self.scope.at_most else 'about'} {duration(max(1.0, left))} left"]
        return [*said, f"{'starting, ' if starting else ''}{self.seconds:,.0f} s"]

    def _items(self) -> list[str]:
        name, (done, of) = self.scope.units.item, (self.scope.done + self.items, self.scope.items)
        if not name:
            return []
        return [f"{done:,} {_plural(name, done)}" if self.scope.at_most else f"{done:,} of {of:,} {_plural(name, of)}"]

    def _rows(self) -> list[str]:
        name, done = self.scope.units.row, self.rows + self.in_hand
        if not name or not (done or self.scope.rows):
            return []
        if self.scope.rows is None:
            return [f"{done:,} {_plural(name, done)}"]
        return [f"{done:,} of {self.scope.rows:,} {_plural(name, self.scope.rows)}"]

    def _rate(self) -> list[str]:
        name, done = self.scope.units.row, self.rows + self.in_hand
        if not name or not done or self.worked <= 0:
            return []
        return [f"{a_second(done / self.worked)} {_plural(name, 2)}/s"]


def _plural(name: str, count: int) -> str:
    if count == 1:
        return name
    return f"{name}es" if name.endswith("s") else f"{name}s"
