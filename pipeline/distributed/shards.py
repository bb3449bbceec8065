"""Items over Ray actors: bounded in flight, retried in fresh processes, given up by name.

Each actor opens the work once and then receives items (names, never data); actors live on for the next work. Who gets which
item, and who is blamed when something dies, is `dispatch.py`.
"""

import faulthandler
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import ray

from pipeline.distributed import cluster
from pipeline.distributed.attempts import ATTEMPTS, Patience
from pipeline.distributed.cluster import Nodes, ask, connect, disconnect, has_gpu
from pipeline.distributed.dispatch import Dispatch
from pipeline.distributed.holders import Seats
from pipeline.distributed.partitions import RayFleet
from pipeline.distributed.workers import WATCH
from pipeline.io.store import Store
from pipeline.reduce.fitting import Fleet
from pipeline.reduce.inprocess import LocalFleet
from pipeline.reduce.partition import Block
from pipeline.work import Facts, Item, Outcome, Work, beats

__all__ = ["ATTEMPTS", "Patience", "RayExecutor", "ask", "connect", "disconnect", "has_gpu"]

CONFESSION = 0.9
"""The part of the patience after which a process that gets nowhere writes where it is to its log, before it is ended."""


class ShardActor:
    """Holds one opened work in its own process."""

    def __init__(self, stall: float) -> None:
        self._stack = ExitStack()
        self._stall = stall
        self._lock = threading.Lock()
        self._running = False
        self._seen = 0

    def hello(self) -> str:
        """The node it runs on."""
        return cluster.own_node()

    def open(self, work: Work[Any]) -> None:
        """Closes the work before and opens this one."""
        self._stack.close()
        self._run = self._stack.enter_context(work.open())

    def run(self, item: Any) -> Facts:
        self._arm(running=True)
        try:
            return self._run(item)
        finally:
            self._arm(running=False)

    @ray.method(concurrency_group=WATCH)
    def beats(self) -> int:
        """How often this process got somewhere. No answer: something holds Python, or the process is stopped."""
        now = beats()
        if now != self._seen:
            self._seen = now
            self._arm(running=self._running)
        return now

    def _arm(self, *, running: bool) -> None:
        """Sets the alarm anew while an item runs. It needs no Python: it also speaks when C code never comes back."""
        with self._lock:
            self._running = running
            if running:
                faulthandler.dump_traceback_later(self._stall * CONFESSION)
            else:
                faulthandler.cancel_dump_traceback_later()


class RayExecutor:
    """Actors of `cpus` CPUs (and `gpus` GPUs) each on the Ray cluster that this process is connected to: `workers` of them, or as
    many as the cluster has room for at any moment, as nodes come and go.

    Healthy actors are kept between works, so that processes start and libraries load once. `close` ends them.
    """

    def __init__(
        self, workers: int | None = None, *, cpus: float = 1, gpus: float = 0, patience: Patience | None = None
    ) -> None:
        self.patience = patience or Patience()
        self._asked, self._cpus, self._gpus = workers, cpus, gpus
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "concurrency_groups": {WATCH: 1}}
        self._actor_class: Any = ray.remote(**options)(ShardActor)
        self._idle: list[Any] = []

    @property
    def workers(self) -> int:
        """Actors that there would be now."""
        return self.seats(cluster.nodes())

    @property
    def actors_per_gpu(self) -> int:
        return max(1, round(1 / self._gpus)) if self._gpus else 1

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        if not items:
            return
        dispatch = Dispatch(self, work, items)
        try:
            yield from dispatch.outcomes()
        except BaseException:
            dispatch.kill()
            raise
        self._idle += dispatch.release()

    def machines(self) -> tuple[int, int | None]:
        nodes = cluster.nodes()
        return len(nodes.resources), nodes.least("memory")

    def fleet(
        self, blocks: Sequence[Block], store: Store, scratch: str, *, alone: bool
    ) -> AbstractContextManager[Fleet[Any]]:
        """Actors that hold the rows; they take the seats of the idle ones. `alone`: none, it is done here."""
        if alone:
            return nullcontext(LocalFleet.of(blocks))
        self.close()
        return RayFleet(blocks, store, scratch, Seats(self._asked, max(1, int(self._cpus)), self._gpus), self.patience)

    def seats(self, nodes: Nodes) -> int:
        return self._asked or nodes.seats(self._cpus, self._gpus)

    def take(self) -> tuple[Any, bool]:
        """An idle actor and True, or a new one and False."""
        return (self._idle.pop(), True) if self._idle else (self.fresh(), False)

    def fresh(self) -> Any:
        """A new actor. It gets the seat of an idle one where there is one."""
        if self._idle:
            ray.kill(self._idle.pop())
        return self._actor_class.remote(self.patience.stall)

    def close(self) -> None:
        while self._idle:
            ray.kill(self._idle.pop())
