"""Actors of one kind: what each takes of the cluster, how many there may be, which nodes they stay away from."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from pipeline.distributed.agreement import Terms
from pipeline.distributed.attempts import Patience
from pipeline.distributed.ray_cluster import Nodes
from pipeline.distributed.worker import WATCH

log = logging.getLogger(__name__)

NODE_ID = "ray.io/node-id"
"""Ray's label of every node."""


def gpu_share(actors: int) -> float:
    """The part of a GPU that so many actors take each. Ray counts in ten-thousandths: rounded up, the last would find no room."""
    return math.floor(10_000 / actors) / 10_000


@dataclass(eq=False)
class ActorPool:
    """Healthy actors are kept between works, so that processes start and libraries load once."""

    actor: type
    workers: int | None
    """How many there may be; None: as many as fit on the cluster at any moment, as nodes come and go."""
    patience: Patience
    terms: Terms | None = None
    """None: for works that never ask the model."""
    gpus: float = 0
    cpus: float = 1
    device: str = "cuda"
    """What an actor with a GPU of its own searches on, as torch names it."""
    _idle: list[Any] = field(default_factory=list)
    _kept_out: dict[str, str] = field(init=False)
    _class: Any = field(init=False)
    _sent: Any = None

    def __post_init__(self) -> None:
        options: dict[str, Any] = {
            "num_cpus": self.cpus, "num_gpus": self.gpus, "max_restarts": 0, "concurrency_groups": {WATCH: 1},
        }
        if self.terms is not None and self.terms.limits:
            options["runtime_env"] = {"env_vars": dict(self.terms.limits)}
        self._class = ray.remote(**options)(self.actor)
        self._kept_out = {} if self.terms is None else dict(self.terms.kept_out)

    def seats(self, nodes: Nodes) -> int:
        """How many actors there may be on these nodes."""
        return self.workers or nodes.without(self._kept_out).seats(self.cpus, self.gpus)

    def take(self) -> tuple[Any, bool]:
        """An idle actor and True, or a new one and False."""
        return (self._idle.pop(), True) if self._idle else (self.fresh(), False)

    def fresh(self) -> Any:
        """A new actor. It gets the seat of an idle one where there is one."""
        if self._idle:
            ray.kill(self._idle.pop())
        away = f"!in({','.join(sorted(self._kept_out))})"
        options = {"label_selector": {NODE_ID: away}} if self._kept_out else {}
        return self._class.options(**options).remote(self.patience.stall, self.device)

    def open(self, actor: Any, work: Any) -> Any:
        """Has an actor open a work; returns the reference to wait for."""
        if self.terms is not None and self._sent is None:
            self._sent = ray.put(self.terms)
        return actor.open.remote(work, [] if self._sent is None else [self._sent])

    def keep(self, actors: list[Any]) -> None:
        """Takes back actors that have nothing to do until the next work."""
        self._idle += actors

    def close(self) -> None:
        """Ends the idle actors."""
        while self._idle:
            ray.kill(self._idle.pop())

    def keep_out(self, node: str, nodes: Nodes, why: str) -> bool:
        """Keeps actors off this node from now on, and says why in the log; False where no node is left."""
        if node not in self._kept_out:
            self._kept_out[node] = why
            log.warning("%s is kept out of this run: %s", nodes.name(node), why)
        return nodes.without(self._kept_out).fits(self.cpus, self.gpus) > 0


def log_kept_out(kept_out: Mapping[str, str], nodes: Nodes) -> None:
    """Says in the log which nodes are kept out of the passes that ask the model, and why."""
    for node, why in kept_out.items():
        log.warning("%s is kept out of the passes that ask the model: %s", nodes.name(node), why)
