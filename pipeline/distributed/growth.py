"""Nodes that are still to come: whether somebody adds nodes to this cluster, and whether one with a GPU is among them.

Ray's autoscalers keep the list of their node types to themselves; what they do about a request is public. So a question that
needs a part of a GPU is put to the cluster, and they are watched.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import DEFAULT_RPC_TIMEOUT_S
from ray.core.generated import autoscaler_pb2
from ray.experimental.internal_kv import _internal_kv_get

from pipeline.distributed import ray_cluster as cluster
from pipeline.errors import InputError, ShardmillError

GPU_PROBE = 0.01
"""The part of a GPU that a question takes: enough to be given one, and for Ray to want a node."""
LOOK = 1.0
"""Seconds between two looks at the autoscaler."""


@dataclass(frozen=True)
class Waiting:
    """How long a node is waited for, in seconds."""

    longest: float = 3600.0
    """For a node that is on its way: it may have to install everything."""
    sign: float = 30.0
    """For any sign that one is on its way: an autoscaler looks around every 5 s."""


def wait_for_gpu(device: str, note: Callable[[str], None], waiting: Waiting) -> bool:
    """Whether a node has a GPU or gets one, once it has. `device`: the recipe's model.device. Raises InputError where one is
    wanted and none can come, ShardmillError where one is late."""
    if cluster.nodes().having("GPU").resources:
        return True
    if not (cluster.is_own() or not _grows(waiting)) and _waited(device, note, waiting):
        return True
    if device == "cuda":
        raise InputError("model.device is cuda, but no node of the cluster has a GPU and none is to come: set it to cpu or auto")
    return False


def _waited(device: str, note: Callable[[str], None], waiting: Waiting) -> bool:
    began, announced = time.monotonic(), False
    ref = ray.remote(cluster.own_node).options(num_cpus=0, num_gpus=GPU_PROBE, max_retries=0).remote()
    try:
        while not ray.wait([ref], timeout=LOOK)[0]:
            if cluster.nodes().having("GPU").resources:
                return True
            coming, passed = _coming(), time.monotonic() - began
            if coming is False or (coming is None and passed > waiting.sign):
                return False
            if coming and not announced:
                announced = True
                note("no node has a GPU yet: the cluster is asked for one and waited for (model.device=cpu goes without)")
            if passed > waiting.longest:
                late = f"no node with a GPU came within {waiting.longest:g} s"
                raise ShardmillError(f"{late}: ask `ray status` why, or set model.device to cpu")
        return True
    finally:
        ray.cancel(ref)


def _grows(waiting: Waiting) -> bool:
    """Whether an autoscaler is there that may add nodes. Ray's watch of a cluster that nobody adds to calls nodes by their ids."""
    until = time.monotonic() + waiting.sign
    while time.monotonic() < until:
        if _state().autoscaler_state_version:
            return True
        report = _report()
        if report:
            node_names = {f"node_{node}" for node in cluster.nodes().resources}
            return not report["active_nodes"] or not set(report["active_nodes"]) <= node_names
        time.sleep(LOOK)
    return False


def _coming() -> bool | None:
    """Whether a node is on its way; False where none can be had, None where nobody knows yet."""
    state = _state()
    if state.autoscaler_state_version:
        if any("GPU" in request.resources_bundle for request in state.infeasible_resource_requests):
            return False
        return bool(state.pending_instance_requests or state.pending_instances) or None
    report = _report()
    return bool(report and (report["pending_launches"] or report["pending_nodes"])) or None


def _state() -> Any:
    """The state of Ray's autoscaler v2; its version is 0 where that one is not at work."""
    client = GcsClient(ray.get_runtime_context().gcs_address)
    reply: Any = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
    reply.ParseFromString(client.get_cluster_status(timeout_s=DEFAULT_RPC_TIMEOUT_S))
    return reply.autoscaling_state


def _report() -> dict[str, Any]:
    """The report of Ray's autoscaler v1; empty where there is none yet."""
    raw = _internal_kv_get("__autoscaling_status")
    return dict(json.loads(raw).get("autoscaler_report") or {}) if raw else {}
