"""Several items at once in threads, their answers in order: for what waits for a store, or computes outside of Python's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def ahead(pool: Executor, function: Callable[[A], B], items: Iterable[A], depth: int) -> Iterator[B]:
    """`map(function, items)` in order, with at most `depth` items in the pool or waiting there: neither the items nor their answers
    are ever all in memory."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Threads(NamedTuple):
    """Where several items are done at once."""

    pool: Executor
    depth: int
    """Items in hand, at most."""

    def each(self, function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """As `ahead`."""
        return ahead(self.pool, function, items, self.depth)

    def faults(self, function: Callable[[A], Iterable[str]], items: Iterable[A]) -> Iterator[str]:
        """What `function` yields of each item, one after another; that of an item is made in one thread."""
        for found in self.each(lambda item: list(function(item)), items):
            yield from found


@contextmanager
def threads(count: int, name: str) -> Iterator[Threads]:
    """So many threads, and twice as many items in hand."""
    with ThreadPoolExecutor(count, name) as pool:
        yield Threads(pool, 2 * count)
