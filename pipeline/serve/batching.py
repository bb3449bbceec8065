"""Requests that come about together are answered in one call.

The first one waits for others that are on their way, `wait` seconds at most, or for a call that is at work: a busy service makes
large batches, and who asks alone waits for nobody. (Libraries for it, aiobatch, async-batcher and batched, are each one release of
one person.)
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Batcher(Generic[Item, Result]):
    """Puts items of one key together. Used in one event loop; `work` runs in threads of `pool`, in `lanes` of them at a time."""

    work: Callable[[Hashable, Sequence[Item]], Sequence[Result]]
    """results in the order of the items, as many"""
    pool: Executor
    most: int
    """items of a batch"""
    wait: float
    """seconds"""
    lanes: int = 1
    told: Callable[[int], None] = lambda count: None
    """gets the size of each batch"""
    expected: Callable[[], int] = lambda: 1 << 30
    """how many may come: once as many are here, nobody waits any longer"""
    _pending: dict[Hashable, list[tuple[Item, "asyncio.Future[Result]"]]] = field(default_factory=dict)
    _running: int = 0
    _asked: int = 0
    """items of batches that are at work"""
    _timed: set[Hashable] = field(default_factory=set)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def ask(self, key: Hashable, item: Item) -> Result:
        """The result of one item. Raises what `work` raises for the batch that it came into."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        waiting = self._pending.setdefault(key, [])
        waiting.append((item, future))
        if len(waiting) >= min(self.most, self.expected() - self._asked):
            self._timed.discard(key)
            self._start()
        elif key not in self._timed:
            self._timed.add(key)
            loop.call_later(self.wait, self._due, key)   # one that comes too late for its batch makes the next one earlier
        return await future

    def _due(self, key: Hashable) -> None:
        self._timed.discard(key)
        self._start()

    def _start(self) -> None:
        """Begins batches while lanes are free: full ones, and those that have waited; of keys in the order in which they came."""
        for key in list(self._pending):
            if self._running >= self.lanes:
                return
            if key in self._timed and len(self._pending[key]) < self.most:
                continue
            waiting = self._pending[key]
            batch, rest = waiting[: self.most], waiting[self.most :]
            del self._pending[key]
            if rest:
                self._pending[key] = rest   # behind the other keys
            batch = [(item, future) for item, future in batch if not future.done()]   # nobody waits for those any more
            if batch:
                self._running += 1
                self._asked += len(batch)
                task = asyncio.ensure_future(self._run(key, batch))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _run(self, key: Hashable, batch: "list[tuple[Item, asyncio.Future[Result]]]") -> None:
        loop = asyncio.get_running_loop()
        answers = loop.run_in_executor(self.pool, self.work, key, [item for item, _ in batch])
        await asyncio.wait([answers])
        self._running -= 1
        self._asked -= len(batch)
        self.told(len(batch))
        error = answers.exception()
        for place, (_, future) in enumerate(batch):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answers.result()[place])
        self._start()
