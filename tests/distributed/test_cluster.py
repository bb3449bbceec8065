"""cluster.yaml as ray reads it. The command on a cluster of several nodes: test_chaos.py."""

import subprocess
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


def test_cluster_yaml_is_a_valid_ray_cluster_and_names_real_commands() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    config = yaml.safe_load(text)
    validate_config(prepare_config(dict(config)))
    assert {"min_workers", "max_workers"} <= set(config["available_node_types"]["gpu_worker"])
    assert "ray submit cluster.yaml jobs/curate.py" in text
    assert (ROOT / "jobs" / "curate.py").exists()
    assert "export RAY_ADDRESS=auto" in text   # a run joins a cluster only where it is asked to


def test_shell_lines_of_cluster_yaml_parse() -> None:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for line in config[key]:
            assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0, line
