"""A real Ray cluster in one process whose parts can be killed: a head that computes nothing, and worker nodes of one CPU."""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from ray.cluster_utils import Cluster

NODES = 3
"""More than workers, so that one is free when another is lost."""
FAST = {
    "health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""A dead node is noticed after some 3 s instead of 12: only the test is faster."""


class Machines:
    def __init__(self, cluster: Cluster, nodes: int) -> None:
        self.cluster = cluster
        self._nodes = [self._new() for _ in range(nodes)]
        self._zombies: list[psutil.Process] = []
        cluster.wait_for_nodes()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def _new(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)

    def actors(self) -> list[tuple[int, psutil.Process]]:
        """(number of its node, process) of every actor that holds work."""
        found = []
        for number, node in enumerate(self._nodes):
            for process in descendants(raylet(node)):
                with suppress(psutil.Error):
                    if "ShardActor" in " ".join(process.cmdline()):
                        found.append((number, process))
        return found

    def kill_actor(self, rng: random.Random, known: list[tuple[int, psutil.Process]]) -> str:
        alive = [process for _, process in known if process.is_running()]
        if not alive:
            return "no actor"
        kill([rng.choice(alive)])
        return "actor"

    def kill_node(self, rng: random.Random, known: list[tuple[int, psutil.Process]]) -> str:
        """The raylet with everything it started, as when a machine is lost; or the raylet alone, whose workers live on as zombie
        writers until `settle`. A new node joins at once."""
        number = rng.choice(sorted({number for number, _ in known}) or range(len(self._nodes)))
        node = self._nodes[number]
        parent = raylet(node)
        children = descendants(parent)
        alone = rng.random() < 0.3
        if alone:
            kill([parent])
            self._zombies += children
        else:
            kill([parent, *children])
        self._nodes[number] = self._new()
        self.cluster.remove_node(node, allow_graceful=False)
        return "raylet" if alone else "node"

    def settle(self) -> None:
        """Ends the zombies."""
        kill(self._zombies)
        self._zombies = []


@contextmanager
def machines(nodes: int = NODES) -> Iterator[Machines]:
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100 << 20, "_system_config": FAST}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    found = None
    try:
        found = Machines(cluster, nodes)
        yield found
    finally:
        if found is not None:
            found.settle()
        cluster.shutdown()


def raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=5)   # those that this process started would stay as zombies
