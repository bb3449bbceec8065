"""The Ray cluster that this process is connected to, as it is now: its nodes."""

import os
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray


@dataclass(frozen=True)
class Nodes:
    """The living nodes at one moment, by Ray's node id, with what each has in all (not what is free)."""

    resources: dict[str, dict[str, float]]
    names: Mapping[str, str] = field(default_factory=dict)
    """For people."""

    def __contains__(self, node: object) -> bool:
        return node in self.resources

    def smallest(self, name: str) -> int | None:
        """The smallest amount of a resource on those nodes that have any; None where none has."""
        amounts = [has[name] for has in self.resources.values() if has.get(name)]
        return int(min(amounts)) if amounts else None

    def name(self, node: str) -> str:
        """The node's name for people: its host name and the beginning of its id."""
        return f"node {self.names[node]} ({node[:8]})" if node in self.names else f"node {node[:8]}"

    def without(self, excluded: Container[str]) -> "Nodes":
        """The nodes that are not among `excluded`, ids of nodes."""
        return Nodes({node: has for node, has in self.resources.items() if node not in excluded}, self.names)

    def having(self, name: str) -> "Nodes":
        """The nodes that have any of a resource, by Ray's name of it."""
        return Nodes({node: has for node, has in self.resources.items() if has.get(name, 0) > 0}, self.names)

    def fits(self, cpus: float, gpus: float) -> int:
        """How many actors of so many CPUs and GPUs fit on the nodes."""
        needs = {"CPU": cpus, "GPU": gpus}
        totals = self.resources.values()
        return sum(min(_times(has.get(name, 0), amount) for name, amount in needs.items() if amount > 0) for has in totals)

    def seats(self, cpus: float, gpus: float) -> int:
        """As `fits`, but at least 1: who waits for a node waits with an actor."""
        return max(1, self.fits(cpus, gpus))

    def cpus_per_gpu(self) -> int:
        """CPUs for each GPU, on the node with the fewest of them; at least 1."""
        ratios = [int(has.get("CPU", 0) / has["GPU"]) for has in self.having("GPU").resources.values()]
        return max(1, min(ratios, default=1))


def _times(has: float, amount: float) -> int:
    """A part of a GPU is a part of one, not of several together."""
    return int(has) * int(1 / amount) if amount < 1 else int(has / amount)


@contextmanager
def gpus_hidden() -> Iterator[None]:
    """The driver's own process takes no GPU: they are the workers'. Only once the cluster is there, which counts them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if visible is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible


def is_own() -> bool:
    """This process started the cluster: it is this machine, and no node will join it."""
    node: Any = ray._private.worker.global_worker.node   # Ray says it nowhere else
    return bool(node is not None and node.head)


def nodes() -> Nodes:
    """The nodes that are alive now."""
    entries: list[dict[str, Any]] = ray.nodes()
    alive = [node for node in entries if node["Alive"]]
    return Nodes({n["NodeID"]: n["Resources"] for n in alive}, {n["NodeID"]: n["NodeManagerHostname"] for n in alive})


def own_node() -> str:
    """Ray's id of the node of this process. What befalls it befalls this process too."""
    return str(ray.get_runtime_context().get_node_id())
