"""A cluster to which Ray's autoscaler adds nodes, with the node types of cluster.yaml, on this machine: a script, because it is
its own driver. `python -m tests.distributed.autoscaled GPUS` prints what a run gets there as JSON. GPUS is what a gpu_worker has.

Ray's own `AutoscalingCluster` ends every other Ray process of the machine when it starts, and needs a file that its wheel lacks.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private.services import get_node_ip_address

from pipeline.distributed.growth import Waiting
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.distributed.routing import Machine, settle
from pipeline.errors import InputError
from pipeline.models.route import RouteWish
from tests.distributed.works import Asking, Placed, pretended, provides

HEAD = "f" * 51 + "00000"
"""The id by which Ray's fake provider of nodes knows the head."""
STORE = 80 << 20
COMMANDS = (
    "setup_commands", "initialization_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
)
CLUSTER = Path(__file__).parent.parent.parent / "cluster.yaml"


def node_types(gpus: int) -> dict[str, dict[str, object]]:
    """Those of cluster.yaml, with resources as a cloud fills them in, scaled down to this machine."""
    types = yaml.safe_load(CLUSTER.read_text())["available_node_types"]
    filled = {"head": {"CPU": 1}, "gpu_worker": {"CPU": 2, "object_store_memory": STORE, **({"GPU": gpus} if gpus else {})}}
    found = {name: {**kind, "resources": {**filled[name], **kind["resources"]}, "node_config": {}} for name, kind in types.items()}
    return {"ray.head.default" if name == "head" else name: kind for name, kind in found.items()}


def start(folder: str, port: int, gpus: int) -> subprocess.Popen[bytes]:
    """The head, with its autoscaler; it ends when its process is terminated."""
    provider = {
        "type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": f"{get_node_ip_address()}:{port}", "head_node_id": HEAD, "launch_multiple": True,
    }
    nothing: dict[str, Any] = {key: [] for key in COMMANDS} | {key: {} for key in ("auth", "docker", "file_mounts")}
    config = {
        **nothing, "cluster_name": "autoscaled", "max_workers": 8, "idle_timeout_minutes": 10, "provider": provider,
        "head_node_type": "ray.head.default", "available_node_types": node_types(gpus), "upscaling_speed": 1.0,
    }
    written = Path(folder, "cluster.json")
    written.write_text(json.dumps(config))
    command = [
        str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=1", "--num-gpus=0",
        "--include-dashboard=false", f"--object-store-memory={STORE}", f"--autoscaling-config={written}",
        f"--temp-dir={folder}/ray",
    ]
    env = {
        **os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
    }
    with Path(folder, "head.log").open("w") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)


def joined(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection((get_node_ip_address(), port), 1).close()
            break
        except OSError:
            time.sleep(0.2)
    ray.init(address=f"{get_node_ip_address()}:{port}", log_to_driver=False)


def story(folder: str) -> dict[str, object]:
    notes: list[str] = []
    before = len(ray.nodes())
    machine, waiting = Machine(pretended, provides), Waiting(longest=120)
    terms = settle(RouteWish(), note=notes.append, waiting=waiting, machine=machine)
    found = {"before": before, "route": terms.route, "notes": notes}
    if not terms.on_gpu:
        try:
            settle(RouteWish(device="cuda"), waiting=waiting, machine=machine)
        except InputError as error:
            return {**found, "cuda": str(error)}
    executor = RayExecutor(terms=terms)
    asking = [outcome.facts for outcome in executor.run(Asking(f"{folder}/asking", 2), range(6))]
    plain = [outcome.facts for outcome in executor.run(Placed(f"{folder}/plain", 3), range(6))]
    executor.close()
    nodes = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]}
    return {
        **found, "gpus_of_nodes": sorted(nodes.values()), "asking": sorted({(nodes[f["node"]], *f["gpus"]) for f in asking}),
        "plain": sorted({(nodes[f["node"]], *f["gpus"]) for f in plain}),
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sm-") as folder, socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
        free.close()
        head = start(folder, port, int(sys.argv[1]))
        try:
            joined(port)
            print(json.dumps(story(folder)))
            ray.shutdown()
        finally:
            parts = psutil.Process(head.pid).children(recursive=True)
            head.terminate()
            head.wait(60)
            for left in psutil.wait_procs(parts, timeout=10)[1]:   # Ray forgets its log monitor
                left.kill()


if __name__ == "__main__":
    main()
