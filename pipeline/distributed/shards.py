"""Items over Ray actors: bounded in flight, retried in fresh processes, given up by name.

Each actor opens the work once and then receives items (names, never data); actors live on for the next work. At most
`1 + PREFETCH` items wait at an actor, so that the next name is there when the current one is done. Ray runs an actor's calls
in order: when an actor dies, the oldest of its items was the one in hand, and only that one is blamed (design decision 8).
Its last try is alone in a fresh process. A death that came with the node, or before the work was open, is nobody's fault.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, RayError, RayTaskError

from pipeline.errors import ShardmillError
from pipeline.work import Facts, Item, Outcome, Work

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

PREFETCH = 1
ATTEMPTS = 3
START_FAILURES = 3
"""Workers in a row that may die before the work is open; then the run stops, for it will not open anywhere."""


class ShardActor:
    """Holds one opened work in its own process."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def open(self, work: Work[Any]) -> str:
        """Closes the work before and opens this one; returns the node it runs on."""
        self._stack.close()
        self._run = self._stack.enter_context(work.open())
        return str(ray.get_runtime_context().get_node_id())

    def run(self, item: Any) -> Facts:
        return self._run(item)


@dataclass(eq=False)
class Worker(Generic[Item]):
    """One actor and what waits at it, oldest first."""

    actor: Any
    opening: Any
    node: str | None = None
    """Where it runs; None until the work is open. It gets no item before, so that no item is blamed for the opening."""
    tasks: deque[tuple[Any, "Attempt[Item]"]] = field(default_factory=deque)

    def next(self) -> Any:
        """What to wait for; None when it has nothing to do."""
        if self.node is None:
            return self.opening
        return self.tasks[0][0] if self.tasks else None

    def takes(self, attempt: "Attempt[Item]", seat: int) -> bool:
        if self.node is None or len(self.tasks) > seat or any(held.alone for _, held in self.tasks):
            return False
        return not (attempt.alone and self.tasks)


@dataclass(frozen=True)
class Attempt(Generic[Item]):
    item: Item
    number: int = 1

    @property
    def alone(self) -> bool:
        return self.number >= ATTEMPTS


class RayExecutor:
    """`workers` actors of `cpus` CPUs (and `gpus` GPUs) each on the Ray cluster that this process is connected to.

    Healthy actors are kept between works, so that processes start and libraries load once. `close` ends them.
    """

    def __init__(self, workers: int, *, cpus: float = 1, gpus: float = 0) -> None:
        self.workers = workers
        self._actor_class: Any = ray.remote(ShardActor).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0)
        self._idle: list[Any] = []

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        if not items:
            return
        dispatch = _Dispatch(self, work, items)
        try:
            yield from dispatch.outcomes()
        except BaseException:
            dispatch.kill()
            raise
        self._idle += dispatch.actors()

    def take(self) -> Any:
        """An idle actor, or a new one."""
        return self._idle.pop() if self._idle else self._actor_class.remote()

    def close(self) -> None:
        while self._idle:
            ray.kill(self._idle.pop())


class _Dispatch(Generic[Item]):
    """One pass over the items: the state machine behind `RayExecutor.run`."""

    def __init__(self, executor: RayExecutor, work: Work[Item], items: Sequence[Item]) -> None:
        self._executor = executor
        self._work = ray.put(work)
        self._describe = work.name
        self._size = min(executor.workers, len(items))
        self._todo: deque[Attempt[Item]] = deque(Attempt(item) for item in items)
        self._workers: list[Worker[Item]] = []
        self._start_failures = 0

    def outcomes(self) -> Iterator[Outcome[Item]]:
        while self._todo or any(worker.tasks for worker in self._workers):
            self._staff()
            self._hand_out()
            yield from self._collect()

    def actors(self) -> list[Any]:
        return [worker.actor for worker in self._workers]

    def kill(self) -> None:
        for actor in self.actors():
            ray.kill(actor)

    def _staff(self) -> None:
        """As many actors as there are seats, while there is work for them."""
        while self._todo and len(self._workers) < self._size:
            actor = self._executor.take()
            self._workers.append(Worker(actor, actor.open.remote(self._work)))

    def _hand_out(self) -> None:
        # Round-robin over free seats: the first items of a pass spread over all actors instead of queueing at one.
        for seat in range(1 + PREFETCH):
            for worker in self._workers:
                if self._todo and worker.takes(self._todo[0], seat):
                    attempt = self._todo.popleft()
                    worker.tasks.append((worker.actor.run.remote(attempt.item), attempt))

    def _collect(self) -> Iterator[Outcome[Item]]:
        waiting = {ref: worker for worker in self._workers if (ref := worker.next()) is not None}
        done, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
        for ref in done:
            worker = waiting[ref]
            if worker.node is None:
                self._opened(worker)
            else:
                yield from self._ran(worker, ref)

    def _opened(self, worker: Worker[Item]) -> None:
        try:
            worker.node = str(ray.get(worker.opening))
            self._start_failures = 0
        except RayError as error:
            self._workers.remove(worker)
            ray.kill(worker.actor)
            if isinstance(error, RayTaskError) and isinstance(error.cause, ShardmillError):
                raise error.cause from None   # a wrong recipe or a model that cannot be had: no other worker will do better
            self._start_failures += 1
            if self._start_failures >= START_FAILURES:
                message = _message(error) if isinstance(error, RayTaskError) else _first_line(error)
                raise ShardmillError(f"workers cannot start: {message}") from error
            time.sleep(0.5 * 2**self._start_failures)

    def _ran(self, worker: Worker[Item], ref: Any) -> Iterator[Outcome[Item]]:
        _, attempt = worker.tasks.popleft()
        try:
            facts = ray.get(ref)
        except RayTaskError as error:   # the work raised; the process is fine
            yield from self._failed(attempt, _message(error))
        except (ActorDiedError, ActorUnavailableError, NodeDiedError) as error:
            yield from self._died(worker, attempt, error)
        else:
            yield Outcome(attempt.item, facts, attempts=attempt.number)

    def _died(self, worker: Worker[Item], attempt: Attempt[Item], error: RayError) -> Iterator[Outcome[Item]]:
        self._workers.remove(worker)
        # The others at this actor were only waiting: they go back as they were.
        self._todo.extendleft(waiting for _, waiting in reversed(worker.tasks))
        if isinstance(error, NodeDiedError) or not _alive(worker.node):   # a lost node takes innocent items with it
            self._todo.appendleft(attempt)
        else:
            yield from self._failed(attempt, f"its worker process died: {_first_line(error)}")

    def _failed(self, attempt: Attempt[Item], message: str) -> Iterator[Outcome[Item]]:
        name = self._describe(attempt.item)
        if attempt.number >= ATTEMPTS:
            log.error("%s: given up after %d attempts: %s", name, attempt.number, message)
            yield Outcome(attempt.item, error=message, attempts=attempt.number)
            return
        log.warning("%s: attempt %d failed, trying again: %s", name, attempt.number, message)
        self._todo.append(Attempt(attempt.item, attempt.number + 1))


def _alive(node: str | None) -> bool:
    nodes: list[dict[str, Any]] = ray.nodes()   # type: ignore[no-untyped-call]
    return any(known["NodeID"] == node and known["Alive"] for known in nodes)


def _message(error: RayTaskError) -> str:
    cause = error.cause if isinstance(error.cause, BaseException) else error
    return f"{type(cause).__name__}: {cause}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def connect(address: str | None, workers: int | None) -> int:
    """Joins the cluster at `address` (or RAY_ADDRESS, or the one this job runs on), else starts one on this machine.

    Returns the number of workers to use: as asked, else one per CPU of the cluster.
    """
    if not ray.is_initialized():
        options: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.WARNING, "configure_logging": False}
        target = address or os.environ.get("RAY_ADDRESS")
        if target:
            ray.init(address=target, **options)
        else:
            ray.init(num_cpus=workers, include_dashboard=False, **options)
    return workers or max(1, int(resources().get("CPU", 1)))


def ask(function: Callable[[Any], Answer], argument: Any, *, gpus: float = 0) -> Answer:
    """What a worker (with so many GPUs) answers: the driver's machine may be another kind. Its errors come through."""
    task = ray.remote(function).options(num_cpus=1, num_gpus=gpus, max_retries=0)
    try:
        answer: Answer = ray.get(task.remote(argument))
    except RayTaskError as error:
        if isinstance(error.cause, ShardmillError):
            raise error.cause from None
        raise
    return answer


def resources() -> dict[str, float]:
    """What the cluster has now."""
    found: dict[str, float] = ray.cluster_resources()   # type: ignore[no-untyped-call]
    return found


def has_gpu() -> bool:
    return resources().get("GPU", 0) > 0


def disconnect() -> None:
    ray.shutdown()
