"""Where the seconds of an item go, counted inside its worker.

An `Account` divides *thread-seconds*: the computing threads times the time that the item takes. Each of these threads is at any
moment either in a named activity (`with spent("model"):`), or computing something unnamed (`other`), or idle; an idle one is
charged to what the thread that feeds them is doing: `read` (waiting for the next batch), `write` (committing), else `wait` (for
each other: the ends of a shard). So the activities of an item add up to threads x seconds, and reading that is hidden behind
computing costs nothing.

What overlaps with that, such as the seconds that a GPU was busy, stands beside it (`add_seconds`). No clock that jumps is asked.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time
from typing import Any, TypeVar

T = TypeVar("T")

READ, WRITE, WAIT, OTHER = "read", "write", "wait", "other"
DEVICE = "device"
"""Beside the activities: seconds that the GPU was busy for this worker."""
READING, READING_CPU, COMPUTING_CPU = "reading", "reading cpu", "computing cpu"
"""Beside the activities: seconds in the reader, hidden or not, those of them on a CPU, and those of the computing threads on a CPU.
The difference was spent waiting: for storage, or for a CPU."""


class _Marks:
    """What one thread has named since it began to compute."""

    __slots__ = ("beside", "inner", "spent")

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.beside: defaultdict[str, float] = defaultdict(float)
        self.inner = 0.0
        """Seconds of the activities that ended inside the one that is open."""


class _ThreadMarks(threading.local):
    def __init__(self) -> None:
        self.marks = _Marks()   # belongs to no account: what is named outside of one is counted nowhere


_thread = _ThreadMarks()


class spent:
    """`with spent("model"):` names what this thread does meanwhile; what is named inside is not counted twice. In any thread, with
    or without an account; no generator may yield inside. Costs less than a microsecond."""

    __slots__ = ("_began", "_marks", "_name", "_outer")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        marks = self._marks = _thread.marks
        self._outer = marks.inner
        marks.inner = 0.0
        self._began = perf_counter()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        took = perf_counter() - self._began
        marks = self._marks
        marks.spent[self._name] += took - marks.inner
        marks.inner = self._outer + took


def timed(name: str, items: Iterable[T]) -> Iterator[T]:
    """Yields the items; the time that each takes to come is counted as this activity."""
    source, end = iter(items), object()
    while True:
        with spent(name):
            item = next(source, end)
        if item is end:
            return
        yield item  # type: ignore[misc]


def add_seconds(name: str, seconds: float) -> None:
    """Adds seconds that overlap with the activities (`DEVICE`) to the account of this thread."""
    _thread.marks.beside[name] += seconds


class Account:
    """The thread-seconds of one item, from its making to `facts`."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._beside: defaultdict[str, float] = defaultdict(float)
        self._computing = 0
        self._feeding = WAIT
        self._until = perf_counter()

    def facts(self) -> dict[str, Any]:
        """`spent` and `beside` in seconds by name, and the `threads` that they are of."""
        with self._lock:
            self._settle()
            spent_seconds, beside = (
                {name: round(seconds, 4) for name, seconds in sums.items()} for sums in (self._spent, self._beside)
            )
        return {"threads": self._threads, "spent": spent_seconds, "beside": beside}

    @contextmanager
    def computing(self) -> Iterator[None]:
        """This thread is one of the computing threads meanwhile."""
        outer, marks = _thread.marks, _Marks()
        with self._lock:
            self._settle()
            self._computing += 1
            began = self._until
        _thread.marks, cpu = marks, thread_time()
        try:
            yield
        finally:
            _thread.marks, cpu = outer, thread_time() - cpu
            with self._lock:
                self._settle()
                self._computing -= 1
                self._spent[OTHER] += max(self._until - began - sum(marks.spent.values()), 0.0)
                self._beside[COMPUTING_CPU] += cpu
                for named, totals in ((marks.spent, self._spent), (marks.beside, self._beside)):
                    for name, seconds in named.items():
                        totals[name] += seconds

    @contextmanager
    def feeding(self, name: str) -> Iterator[None]:
        """Idle threads wait meanwhile because the one that feeds them does this."""
        with self._lock:
            self._settle()
            outer, self._feeding = self._feeding, name
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                self._feeding = outer

    def reading(self, items: Iterable[T]) -> Iterator[T]:
        """The items, while the time that each takes to come is the reader's."""
        source, end = iter(items), object()
        while True:
            began, cpu = perf_counter(), thread_time()
            with self.feeding(READ):
                item = next(source, end)
            self._beside[READING] += perf_counter() - began
            self._beside[READING_CPU] += thread_time() - cpu
            if item is end:
                return
            yield item  # type: ignore[misc]

    def _settle(self) -> None:
        """Charges the idle threads for the time since the last change. Under the lock."""
        now = perf_counter()
        self._spent[self._feeding] += (self._threads - self._computing) * (now - self._until)
        self._until = now


def accounted(run: Callable[[T], dict[str, Any]], item: T) -> dict[str, Any]:
    """What `run` says of the item, the `seconds` that it took, and where they went; a work with threads of its own keeps its own
    account of that."""
    account, began = Account(), perf_counter()
    with account.computing():
        facts = run(item)
    return {**account.facts(), "seconds": perf_counter() - began, **facts}
