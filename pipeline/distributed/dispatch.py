"""One pass over the items: who gets which, who is blamed, who is ended. The state machine behind `RayExecutor.run`.

At most `1 + PREFETCH` items wait at an actor, so that the next name is there when the current one is done. Ray runs an actor's
calls in order: when an actor dies, the oldest of its items was the one in hand, and only that one is blamed. Its last try is alone
in a fresh process, after everything else. A death that came with the node, or before the work was open, is no item's fault.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.distributed import ray_cluster as cluster
from pipeline.distributed.attempts import Attempt, Backlog, Blame, Failure, Patience
from pipeline.distributed.ray_cluster import Nodes
from pipeline.distributed.worker import Worker, reason, wants_memory
from pipeline.errors import RouteError, ShardmillError
from pipeline.store.blocks.groups import parts, undone
from pipeline.work import Item, Outcome, Work, in_hand

log = logging.getLogger(__name__)

PREFETCH = 1
START_FAILURES = 3
"""Workers in a row that may die before the work is open; then the run stops, for it will not open anywhere."""
LONGEST_PAUSE = 60.0
"""Seconds between tries to start a worker on a cluster where others work."""
LOOK = 5.0
"""Seconds between looks at the nodes and at what the actors say of their progress."""
NO_ROOM = 60.0
"""Seconds without any process before the log says what is waited for."""


class Pool(Protocol):
    """A source of actors of one kind, as `ActorPool` is one."""

    @property
    def patience(self) -> Patience: ...

    def seats(self, nodes: Nodes) -> int: ...

    def take(self) -> tuple[Any, bool]: ...

    def fresh(self) -> Any: ...

    def open(self, actor: Any, work: Any) -> Any: ...

    def keep_out(self, node: str, nodes: Nodes, why: str) -> bool: ...


class Dispatch(Generic[Item]):
    """Holds names and small state; what an item returned is handed on and forgotten."""

    def __init__(self, pool: Pool, work: Work[Item], items: Sequence[Item]) -> None:
        self._pool, self._patience = pool, pool.patience
        self._plain, self._work = work, ray.put(work)
        self._careful: Any = None
        self._items = len(items)
        self._backlog = Backlog(items, cluster.own_node(), self._patience.detection)
        self._workers: list[Worker[Item]] = []
        self._blame = Blame()
        self._nodes = cluster.nodes()
        self._period = min(LOOK, self._patience.stall / 8)
        self._tick = min(1.0, self._period)
        self._now = self._looked = self._roomy = time.monotonic()
        self._start_failures, self._counted_at, self._pause_until = 0, float("-inf"), self._now

    def outcomes(self) -> Iterator[Outcome[Item]]:
        """Yields the outcome of every item as it comes. Raises what no other worker would do better: a ShardmillError of the
        opening, and what fails for all items alike (`Blame`)."""
        while self._unfinished():
            self._watch()
            yield from self._give_up()
            self._start_workers()
            self._hand_out()
            yield from self._collect()

    def release(self) -> list[Any]:
        """The healthy actors, also those from before that are slower to open this work than the others to do it. The rest is ended:
        some wait for room that never came."""
        kept = [w for w in self._workers if w.only is None and (w.ready or (w.reused and w.node is not None))]
        self._workers = [worker for worker in self._workers if worker not in kept]
        self.kill()
        return [worker.actor for worker in kept]

    def kill(self) -> None:
        """Ends all actors of this pass."""
        for worker in self._workers:
            ray.kill(worker.actor)

    def _unfinished(self) -> bool:
        return not self._backlog.empty or any(worker.tasks or worker.only is not None for worker in self._workers)

    # Time

    def _watch(self) -> None:
        """Time passes for the workers, as far as this process was there to look: a slow reader of outcomes or a suspended machine
        makes nobody hung. Now and then: the nodes, and what the busy ones say."""
        last, self._now = self._now, time.monotonic()
        passed = min(self._now - last, 3 * self._tick)
        for worker in self._workers:
            worker.heartbeat.silence += passed
        if self._now - self._looked >= self._period:
            self._looked = self._now
            self._nodes = cluster.nodes()
            for worker in self._workers:
                worker.heartbeat.poll(ask=bool(worker.tasks))
            if any(worker.tasks for worker in self._workers):
                in_hand(sum(worker.heartbeat.rows for worker in self._workers if worker.tasks))
            self._say_if_no_room()
        for worker in [worker for worker in self._workers if worker.overdue(self._patience)]:
            self._end_hung(worker)

    def _say_if_no_room(self) -> None:
        if not self._workers or any(worker.node is not None for worker in self._workers):
            self._roomy = self._now
        elif self._now - self._roomy >= NO_ROOM:
            self._roomy = self._now
            log.warning("no worker could start for %.0f s: is there room for one on the cluster?", NO_ROOM)

    def _end_hung(self, worker: Worker[Item]) -> None:
        if worker.node is None:
            self._end_worker(worker)
        elif not worker.ready:
            self._not_opened(worker, f"the work was not open after {self._patience.opening:g} s (hung)")
        else:
            attempt = worker.take()
            message = f"no progress for {self._patience.stall:g} s (hung)"
            self._failed(attempt, Failure(message, worker.node, self._now))
            self._end_worker(worker)

    # Workers

    def _start_workers(self) -> None:
        """As many actors as there are seats, while there is work for them; then those for one attempt each."""
        size = min(self._pool.seats(self._nodes), self._items)
        for worker in [w for w in self._workers if w.node is None and not w.reused][: max(0, len(self._workers) - size)]:
            self._end_worker(worker)   # waits for a seat on a node that went
        if self._now < self._pause_until:
            return
        coming = self._coming()
        for _ in range(min(size - len(self._workers), len(self._backlog) - coming)):
            actor, reused = self._pool.take()
            self._workers.append(Worker(actor, actor.node_id.remote(), self._pool.open(actor, self._work), reused))
        while self._backlog.apart and (len(self._workers) < size or self._retire_one()):
            self._start_apart(self._backlog.apart.popleft())

    def _start_apart(self, attempt: Attempt[Item]) -> None:
        if attempt.careful and self._careful is None:
            self._careful = ray.put(self._plain.careful())
        actor = self._pool.fresh()
        opening = self._pool.open(actor, self._careful if attempt.careful else self._work)
        self._workers.append(Worker(actor, actor.node_id.remote(), opening, only=attempt))

    def _retire_one(self) -> bool:
        """Ends a worker that has nothing left to do; False if there is none."""
        idle = next((w for w in self._workers if w.only is None and not w.tasks), None)
        if idle is None or self._backlog:
            return False
        self._end_worker(idle)
        return True

    def _end_worker(self, worker: Worker[Item]) -> None:
        """Ends a worker. What was only waiting at it goes back as it was."""
        self._workers.remove(worker)
        ray.kill(worker.actor)
        self._backlog.put_back(waiting for _, waiting in worker.tasks)
        if worker.only is not None and not worker.ready:
            self._backlog.apart.appendleft(worker.only)

    def _hand_out(self) -> None:
        # Round-robin over free seats: the first items of a pass spread over all actors instead of queueing at one.
        for seat in range(1 + PREFETCH):
            promised = self._coming() if seat else 0   # nothing waits at a busy actor that another could begin with
            for worker in self._workers:
                if worker.free(seat) and len(self._backlog) > promised:
                    worker.give(self._backlog.next())

    def _coming(self) -> int:
        return sum(not worker.ready and worker.only is None for worker in self._workers)

    # Answers

    def _collect(self) -> Iterator[Outcome[Item]]:
        waiting = {ref: worker for worker in self._workers if (ref := worker.awaited()) is not None}
        if not waiting:
            time.sleep(self._tick)
            return
        if ray.wait(list(waiting), num_returns=1, timeout=self._tick)[0]:
            # All that are there, not the first: an actor with ever new answers would hide the others.
            answered, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
            for ref in answered:
                yield from self._answered(waiting[ref], ref)

    def _answered(self, worker: Worker[Item], ref: Any) -> Iterator[Outcome[Item]]:
        if worker.node is None:
            self._placed(worker)
        elif not worker.ready:
            self._opened(worker)
        else:
            yield from self._ran(worker, ref)

    def _placed(self, worker: Worker[Item]) -> None:
        try:
            worker.node, worker.heartbeat.silence = str(ray.get(worker.node_ref)), 0.0
        except RayError as error:
            if worker.reused:   # it died while nothing was asked of it
                self._end_worker(worker)
            else:
                self._not_opened(worker, reason(error))

    def _opened(self, worker: Worker[Item]) -> None:
        try:
            ray.get(worker.opening)
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, RouteError):
                self._unfit(worker, error.cause)
                return
            if isinstance(error, RayTaskError) and isinstance(error.cause, ShardmillError):
                raise error.cause from None   # a wrong recipe or a model that cannot be had: no other worker will do better
            self._not_opened(worker, reason(error))
            return
        worker.ready = True
        self._start_failures = 0
        if worker.only is not None:
            worker.give(worker.only)

    def _unfit(self, worker: Worker[Item], error: RouteError) -> None:
        """Its node computes otherwise than the run: no failure, but no place for its actors."""
        self._end_worker(worker)
        self._nodes = cluster.nodes()
        if not self._pool.keep_out(str(worker.node), self._nodes, str(error)):
            raise error from None

    def _not_opened(self, worker: Worker[Item], message: str) -> None:
        """Counts workers that were started after the last failure: several at once are one, and a node that went is none."""
        self._end_worker(worker)
        self._nodes = cluster.nodes()
        if (worker.node is not None and worker.node not in self._nodes) or worker.started <= self._counted_at:
            return
        self._start_failures += 1
        self._counted_at = self._now = time.monotonic()
        if self._start_failures >= START_FAILURES and not any(other.tasks for other in self._workers):
            raise ShardmillError(f"workers cannot start: {message}")
        log.warning("a worker could not open its work: %s", message)
        self._pause_until = self._now + min(LONGEST_PAUSE, 0.25 * 2**self._start_failures)

    def _ran(self, worker: Worker[Item], ref: Any) -> Iterator[Outcome[Item]]:
        attempt, node = worker.take(), str(worker.node)
        ends = worker.only is not None
        try:
            facts = ray.get(ref)
        except RayTaskError as error:   # the work raised; the process is fine, unless its memory is full
            if isinstance(error.cause, Exception):
                self._blame.check(self._plain.name(attempt.item), error.cause)
            memory = wants_memory(error)
            ends = ends or memory
            self._failed(attempt, Failure(reason(error), node, time.monotonic(), death=False, memory=memory))
        except RayError as error:       # whatever else Ray says of it, this process is of no use any more
            ends = True
            self._failed(attempt, Failure(reason(error), node, time.monotonic()))
        else:
            self._blame.done()
            for item in undone(attempt.item, facts):
                self._backlog.add(Attempt(item))
            tries = attempt.without_node_deaths(cluster.nodes()).number if attempt.failures else 1
            yield Outcome(attempt.item, facts, attempts=tries)
        if ends:
            self._end_worker(worker)

    # Blame

    def _failed(self, attempt: Attempt[Item], failure: Failure) -> None:
        if failure.death:
            self._nodes = cluster.nodes()
        if len(items := parts(attempt.item)) > 1:
            log.warning("%s failed together, trying each by itself: %s", self._plain.name(attempt.item), failure.message)
            self._backlog.put_back(map(Attempt, items))
            return
        failed_attempt = attempt.with_failure(failure).without_node_deaths(self._nodes)
        if not failed_attempt.spent:
            log.warning("%s: attempt %d failed, trying again: %s", self._plain.name(attempt.item), attempt.number, failure.message)
        self._backlog.add(failed_attempt)

    def _give_up(self) -> Iterator[Outcome[Item]]:
        for attempt in self._backlog.given_up(self._nodes, self._now):
            tries, message = len(attempt.failures), attempt.failures[-1].message
            log.error("%s: given up after %d attempts: %s", self._plain.name(attempt.item), tries, message)
            yield Outcome(attempt.item, error=message, attempts=tries)
