"""What an executor runs: a value that opens a function over small items, and what comes back.

The unit of work, retry and commit is one item (an input shard, an output shard). Items travel, data do not. Executors
(`pipeline/distributed/`) know nothing of what the work does; the work knows nothing of where it runs.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pipeline.timing.bottleneck import Means
from pipeline.timing.clock import accounted

Item = TypeVar("Item")
Facts = dict[str, Any]
"""A small JSON-able account of one item: rows, counts."""

_beats = 0
_rows = 0
_listener: Callable[[int], None] | None = None


def beat(rows: int = 0) -> None:
    """Says that the work got somewhere (a batch, a file), so that slow is not taken for hung, and that so many more rows of the
    item in hand are done. May be called from any thread."""
    global _beats, _rows
    _beats += 1   # two threads at once may count one: it moves all the same
    _rows += rows
    if rows:
        in_hand(_rows)


def rows_in_hand() -> int:
    """Rows that are done of the item that this process works on."""
    return _rows


def in_hand(rows: int) -> None:
    """Tells who listens in this process how many rows are done of all items that are in hand."""
    if _listener is not None:
        _listener(rows)


@contextmanager
def heard(listener: Callable[[int], None]) -> Iterator[None]:
    """`listener` is called with the rows that are done of the items in hand, now and then, from any thread."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def beats() -> int:
    """How often this process has got somewhere."""
    return _beats


@contextmanager
def collector_paused() -> Iterator[None]:
    """While many small objects are made that stay (modules, weights, an index): the collector would look at all of them again and
    again, and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class Units:
    """What is counted, in the singular; nothing where it is empty."""

    item: str = ""
    """What is done in one go."""
    row: str = ""
    """What an item has many of."""


SHARDS = Units("shard", "sample")


class Place(StrEnum):
    """Where a work runs. Where that is changes no byte."""

    CPU = "cpu"
    """On a CPU of any node, and no GPU."""
    MODEL = "model"
    """Where the plan's numeric route can be had; if that takes a GPU, on a CPU beside one, which several of them share."""
    GPU = "gpu"
    """On a whole GPU where the route takes them, for it fills one by itself; else on a CPU."""


@dataclass(frozen=True)
class Work(ABC, Generic[Item]):
    """What is done to each item: it is opened once per worker, then called with one item after another. Running an item again gives
    the same files."""

    @property
    def place(self) -> Place:
        """The part of a cluster that it needs."""
        return Place.CPU

    @abstractmethod
    def open(self) -> AbstractContextManager[Callable[[Item], Facts]]:
        """Loads what the work needs on its worker, and yields the function that does one item and returns an account of it."""

    def open_together(self) -> AbstractContextManager[Callable[[Sequence[Item]], list[Facts]]]:
        """As `open`, for several items at a time: what each says, in order. Those that belong together may be done together."""
        return one_by_one(self)

    def share(self, item: Item) -> float:
        """How much of a group of items this one makes, 0..1: small ones travel together. 1: it travels alone."""
        return 1.0

    def kind(self, item: Item) -> Hashable:
        """Items of one kind may be in one group."""
        return None

    def name(self, item: Item) -> str:
        """A name for people (progress, log, quarantine), by which a pass also knows what an earlier run has done."""
        return str(item)

    def careful(self) -> "Work[Item]":
        """The same work with every precaution, whatever they cost: what the last try of an item runs."""
        return self

    def means(self) -> Means:
        """What it computes with, for advice."""
        return Means()

    @property
    def units(self) -> Units:
        """What its items and their rows are, for people."""
        return SHARDS

    def rows_of(self, item: Item) -> int | None:
        """How many rows an item has, where that is known before it is done."""
        return None


@contextmanager
def one_by_one(work: Work[Item]) -> Iterator[Callable[[Sequence[Item]], list[Facts]]]:
    """`Work.open_together` of a work that knows single items alone."""
    with work.open() as run:
        yield lambda items: [run(item) for item in items]


@dataclass(frozen=True)
class WorkTogether(Work[Item]):
    """A work whose items are done together where several come."""

    @contextmanager
    def open(self) -> Iterator[Callable[[Item], Facts]]:
        with self.open_together() as run:
            yield lambda item: run([item])[0]

    @abstractmethod
    def open_together(self) -> AbstractContextManager[Callable[[Sequence[Item]], list[Facts]]]: ...


@dataclass(frozen=True)
class PlainWork(Work[Item]):
    """A work that has nothing to open."""

    @contextmanager
    def open(self) -> Iterator[Callable[[Item], Facts]]:
        yield self.run

    @abstractmethod
    def run(self, item: Item) -> Facts: ...


@dataclass(frozen=True)
class Accounted(Work[Item]):
    """A work that also says how many seconds each item took, and where they went: the one place where items are timed."""

    work: Work[Item]

    def name(self, item: Item) -> str:
        return self.work.name(item)

    @property
    def place(self) -> Place:
        return self.work.place

    def careful(self) -> "Accounted[Item]":
        return Accounted(self.work.careful())

    def means(self) -> Means:
        return self.work.means()

    @contextmanager
    def open(self) -> Iterator[Callable[[Item], Facts]]:
        with ExitStack() as stack:
            with collector_paused():
                run = stack.enter_context(self.work.open())

            def from_the_first_row(item: Item) -> Facts:
                global _rows
                _rows = 0
                return run(item)

            yield lambda item: accounted(from_the_first_row, item)


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """What became of an item: it is done (`error` is None), or was given up after `attempts` tries."""

    item: Item
    facts: Facts = field(default_factory=dict)
    error: str | None = None
    attempts: int = 1
