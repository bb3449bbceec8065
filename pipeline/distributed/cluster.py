"""The Ray cluster as it is now: joining it, its nodes, and questions to one of its machines."""

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.exceptions import RayTaskError

from pipeline.errors import InputError, ShardmillError

Answer = TypeVar("Answer")

KNOCK_SECONDS = 10


@dataclass(frozen=True)
class Nodes:
    """The living nodes at one moment, by Ray's node id, with what each has in all (not what is free)."""

    resources: dict[str, dict[str, float]]

    def __contains__(self, node: object) -> bool:
        return node in self.resources

    def least(self, name: str) -> int | None:
        """The smallest amount of a resource on those nodes that have any; None where none has."""
        found = [has[name] for has in self.resources.values() if has.get(name)]
        return int(min(found)) if found else None

    def seats(self, cpus: float, gpus: float) -> int:
        """Actors of so many CPUs and GPUs that fit on them; at least 1."""
        wanted = {"CPU": cpus, "GPU": gpus}
        fits = (
            min(int(has.get(name, 0) / amount) for name, amount in wanted.items() if amount > 0) for has in self.resources.values()
        )
        return max(1, sum(fits))


def connect(address: str | None, cpus: int | None = None) -> None:
    """Joins the cluster at `address` (or RAY_ADDRESS, or the one this machine is part of), else starts one on this machine, with
    `cpus` CPUs (default: what it has)."""
    if ray.is_initialized():
        return
    try:
        _init(address or os.environ.get("RAY_ADDRESS"), cpus)
    except SystemExit as stop:   # Ray's own handler of SIGTERM, which it sets while it starts
        raise KeyboardInterrupt from stop


def _init(target: str | None, cpus: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": True, "logging_level": logging.WARNING, "configure_logging": False}
    if target:
        try:
            _knock(target)
            ray.init(address=target, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(f"no Ray cluster answers at {target!r} (--address or RAY_ADDRESS): {error}") from error
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")   # nothing is told to anybody unless the user asks for it
    try:
        ray.init(num_cpus=cpus, include_dashboard=False, **options)
    except ValueError:
        if cpus is None:
            raise
        ray.init(**options)   # a cluster that was started here by `ray start`: its CPUs are not ours to say


def _knock(target: str) -> None:
    """Raises OSError where nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = target.rpartition(":")
    if port.isdecimal() and "://" not in target:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def disconnect() -> None:
    ray.shutdown()


def nodes() -> Nodes:
    known: list[dict[str, Any]] = ray.nodes()   # type: ignore[no-untyped-call]
    return Nodes({node["NodeID"]: node["Resources"] for node in known if node["Alive"]})


def own_node() -> str:
    """The node of this process. What befalls it befalls this process too."""
    return str(ray.get_runtime_context().get_node_id())


def has_gpu() -> bool:
    return any(resources.get("GPU", 0) > 0 for resources in nodes().resources.values())


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
