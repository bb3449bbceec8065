"""cluster.yaml as ray reads it, and the command on a cluster of several nodes."""

import json
import subprocess
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.cluster_utils import Cluster

from tests.roots import hashes, shardmill

ROOT = Path(__file__).parent.parent


def test_cluster_yaml_is_a_valid_ray_cluster_and_names_real_commands():
    text = (ROOT / "cluster.yaml").read_text()
    config = yaml.safe_load(text)
    validate_config(prepare_config(dict(config)))
    assert {"min_workers", "max_workers"} <= set(config["available_node_types"]["gpu_worker"])
    assert "ray submit cluster.yaml jobs/curate.py" in text
    assert (ROOT / "jobs" / "curate.py").exists()


def test_shell_lines_of_cluster_yaml_parse():
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for line in config[key]:
            assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0, line


def test_the_same_command_joins_a_cluster_and_writes_the_same_bytes(demo_root, tmp_path):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        arguments = ["run", "sample", "--output", str(tmp_path / "out"), "--json"]
        found = json.loads(shardmill(*arguments, "--address", cluster.address).stdout)
        assert found["read"] == 828
    finally:
        cluster.shutdown()
    assert hashes(tmp_path / "out") == hashes(demo_root)
    events = [json.loads(line) for path in (tmp_path / "out" / "log").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {event["workers"] for event in events if event.get("done")} == {2}
