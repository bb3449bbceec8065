"""A real Ray cluster of three nodes on this machine, to which the test process is connected as a driver."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

MEMORY = 100 << 20
QUICK = {   # a dead node is known after a second or two instead of twelve
    "health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class Machines:
    """The cluster's nodes, to be added and to be lost."""

    def __init__(self) -> None:
        head = {"num_cpus": 2, "object_store_memory": MEMORY, "include_dashboard": False, "_system_config": QUICK}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=self.cluster.address, log_to_driver=False, configure_logging=False)
        self.added: list[Any] = []

    def add(self, cpus: int = 1, gpus: int = 0, env: dict[str, str] | None = None) -> Any:
        """A node with CPUs and GPUs as it is told, and what else its processes are to find in their environment."""
        node = self.cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=MEMORY, env_vars=env or {})
        self.cluster.wait_for_nodes()
        self.added.append(node)
        return node

    def leave_added(self) -> None:
        """Those of the test before, whatever became of it."""
        while self.added:
            node = self.added.pop()
            if node in self.cluster.worker_nodes:
                self.leave(node)

    def leave(self, node: Any) -> None:
        self.cluster.remove_node(node)

    def lose(self, node: Any) -> None:
        """As if its power went: every process at once. (Without its raylet alone, its workers would go on.)"""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            os.kill(process.pid, signal.SIGKILL)
        self.cluster.worker_nodes.discard(node)

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="package")
def machines() -> Iterator[Machines]:
    """A head of two CPUs and two nodes of one CPU each."""
    found = Machines()
    found.add()
    found.add()
    found.added.clear()
    yield found
    found.close()


@pytest.fixture
def at_three(machines: Machines) -> Iterator[Machines]:
    """The cluster with its three nodes there, whatever the test before did to them. Others that a test adds leave after it."""
    while sum(node["Alive"] for node in ray.nodes()) > 3:
        time.sleep(0.1)
    while sum(node["Alive"] for node in ray.nodes()) < 3:
        machines.add()
        machines.added.clear()
    yield machines
    machines.leave_added()
