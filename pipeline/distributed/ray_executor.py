"""Items over Ray actors: bounded in flight, retried in fresh processes, given up by name.

Each actor opens the work once and then receives items (names, never data); actors live on for the next work. Who gets which
item, and who is blamed when something dies, is `dispatch.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import ray

from pipeline.distributed import ray_cluster as cluster
from pipeline.distributed.agreement import Terms
from pipeline.distributed.attempts import ATTEMPTS, Patience
from pipeline.distributed.connection.connection import connected
from pipeline.distributed.dispatch import Dispatch
from pipeline.distributed.fleet.actors import Seats
from pipeline.distributed.fleet.ray_fleet import RayFleet
from pipeline.distributed.pools import ActorPool, gpu_share
from pipeline.distributed.ray_cluster import gpus_hidden
from pipeline.distributed.routing import ask_with, settle, settled_precision
from pipeline.distributed.shard_actor import ShardActor
from pipeline.reduce.kmeans.fleet import Fleet
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import Block
from pipeline.store.store import Store
from pipeline.work import Item, Outcome, Place, Work

__all__ = ["ATTEMPTS", "Patience", "RayExecutor", "Terms", "ask_with", "connected", "first_actor", "gpus_hidden", "settle",
           "settled_precision"]


@contextmanager
def first_actor(patience: Patience, *, alone: bool) -> Iterator[Any]:
    """An actor that answers for its machine before it works there, so that torch is loaded once for both; None where there are GPUs
    or may be other nodes or people (not `alone`). Ended with the block."""
    actor = ActorPool(ShardActor, 1, patience).fresh() if alone and not cluster.nodes().having("GPU").resources else None
    try:
        yield actor
    finally:
        if actor is not None:
            ray.kill(actor)


class RayExecutor:
    """Actors on the Ray cluster that this process is connected to: `workers` of them, or as many as the cluster has room for at any
    moment, as nodes come and go. Each takes a CPU; where the terms' route is a GPU's, those that ask the model take a part of one
    as well, so that `actors_per_gpu` share it (None: as many as there are CPUs for).

    Healthy actors are kept between works of one kind. Those of the other kind give their seats back first: no pass waits for
    what is held by nobody's work. `close` ends them.
    """

    def __init__(
        self, workers: int | None = None, *, terms: Terms = Terms(), actors_per_gpu: int | None = None,   # noqa: B008 (frozen)
        patience: Patience | None = None, device: str = "cuda",
    ) -> None:
        """`device`: torch's name of what searches run on where a work has a whole GPU."""
        self.patience = patience or Patience()
        self._asked = workers
        self._plain = ActorPool(ShardActor, workers, self.patience)
        self._device = ActorPool(
            ShardActor, workers, self.patience, terms,
            gpus=gpu_share(actors_per_gpu or cluster.nodes().cpus_per_gpu()) if terms.on_gpu else 0,
        )
        if not (terms.on_gpu or terms.limits or terms.kept_out):
            self._plain = self._device   # the same processes will do for both
        self._pools = {Place.CPU: self._plain, Place.MODEL: self._device, Place.GPU: self._plain}
        if terms.on_gpu:
            cpus = cluster.nodes().cpus_per_gpu()
            self._pools[Place.GPU] = ActorPool(
                ShardActor, None, self.patience, Terms(kept_out=terms.kept_out), gpus=1, cpus=cpus, device=device)
        self._last = self._plain

    def adopt(self, actor: Any) -> None:
        """Takes an actor of `first_actor` for its works. Where they want another kind of process, it is ended."""
        if self._plain is self._device:
            self._plain.keep([actor])
        else:
            ray.kill(actor)

    @property
    def workers(self) -> int:
        """Actors that the last pass would have now."""
        return self._last.seats(cluster.nodes())

    @property
    def actors_per_gpu(self) -> int:
        """How many actors that ask the model share a GPU; 1 where none has one."""
        return max(1, round(1 / self._device.gpus)) if self._device.gpus else 1

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """Runs every item on actors of the kind that the work asks for, and yields each outcome as it comes."""
        if not items:
            return
        pool = self._pools[work.place]
        if pool is not self._last:
            self._last.close()
            self._last = pool
        dispatch = Dispatch(pool, work, items)
        try:
            yield from dispatch.outcomes()
        except BaseException:
            dispatch.kill()
            raise
        pool.keep(dispatch.release())

    def machines(self) -> tuple[int, int | None]:
        """Nodes of the cluster, and the bytes of memory that the smallest has for workers."""
        nodes = cluster.nodes()
        return len(nodes.resources), nodes.smallest("memory")

    def fleet(
        self, blocks: Sequence[Block], store: Store, scratch: str, *, alone: bool
    ) -> AbstractContextManager[Fleet[Any]]:
        """Actors that hold the rows; they take the seats of the idle ones. `alone`: none, it is done here."""
        if alone:
            return nullcontext(LocalFleet.of(blocks))
        self.close()
        return RayFleet(blocks, store, scratch, self.fleet_seats(), self.patience)

    def fleet_seats(self) -> Seats:
        """The actors that hold rows: one for each GPU, with the CPUs that are there for it, where the model runs on GPUs; else as
        many as fit."""
        nodes = cluster.nodes()
        cpus = nodes.cpus_per_gpu()
        room = nodes.fits(cpus, 1) if self._device.gpus else 0
        return Seats(min(self._asked or room, room), cpus, 1) if room else Seats(self._asked)

    def close(self) -> None:
        """Ends the idle actors of every kind."""
        for pool in self._pools.values():
            pool.close()
