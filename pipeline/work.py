"""What an executor runs: a value that opens a function over small items, and what comes back.

The unit of work, retry and commit is one item (an input shard, an output shard). Items travel, data do not. Executors
(`pipeline/distributed/`) know nothing of what the work does; the work knows nothing of where it runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pipeline.bottleneck import Means
from pipeline.clock import accounted

if TYPE_CHECKING:
    from pipeline.reduce.kmeans.fit import Fleet
    from pipeline.reduce.kmeans.partition import Block
    from pipeline.store.store import Store

Item = TypeVar("Item")
Facts = dict[str, Any]
"""A small JSON-able account of one item: rows, counts, seconds."""

_beats = 0


def beat() -> None:
    """A work calls this whenever it got somewhere (a batch, a file), so that slow is not taken for hung. From any thread."""
    global _beats
    _beats += 1   # two threads at once may count one: it moves all the same


def beats() -> int:
    """How often this process has got somewhere."""
    return _beats


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
    """Opened once per worker, then called with one item after another. Running an item again gives the same files."""

    @property
    def place(self) -> Place:
        """What of a cluster it needs."""
        return Place.CPU

    @abstractmethod
    def open(self) -> AbstractContextManager[Callable[[Item], Facts]]: ...

    @abstractmethod
    def name(self, item: Item) -> str:
        """A name for people: progress, log, quarantine."""

    def careful(self) -> "Work[Item]":
        """The same work with every precaution, whatever they cost: what the last try of an item runs."""
        return self

    def means(self) -> Means:
        """What it computes with, for advice."""
        return Means()


@dataclass(frozen=True)
class Accounted(Work[Item]):
    """A work that also says where the seconds of each item went."""

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
        with self.work.open() as run:
            yield lambda item: accounted(run, item)


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """One item is done (`error` is None), or was given up after `attempts` tries."""

    item: Item
    facts: Facts = field(default_factory=dict)
    error: str | None = None
    attempts: int = 1


class Executor(Protocol):
    """Runs every item and yields each outcome as it comes, in no particular order."""

    @property
    def workers(self) -> int: ...

    @property
    def actors_per_gpu(self) -> int:
        """How many workers share a GPU; 1 where none has one."""

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]: ...

    def machines(self) -> tuple[int, int | None]:
        """Nodes, and the bytes of memory that the smallest has for workers (None: not known)."""

    def fleet(
        self, blocks: "Sequence[Block]", store: "Store", scratch: str, *, alone: bool
    ) -> "AbstractContextManager[Fleet[Any]]":
        """What a clustering of these rows runs on. `scratch`: a folder of the store for it; `alone`: it is little work, which this
        process may as well do. Where it runs changes no bit."""
