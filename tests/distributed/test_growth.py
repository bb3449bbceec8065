"""Nodes that are still to come: cluster.yaml's node types under Ray's autoscaler, with nodes on this machine."""

import json
import os
import subprocess
import sys
from typing import Any


def test_a_cluster_whose_gpu_nodes_are_still_to_come_is_asked_for_one_and_uses_it() -> None:
    found = autoscaled(gpus=1)
    assert found["before"] == 1
    assert found["route"] == "cuda-sm90-fp32-eager"
    assert len(found["notes"]) == 1
    assert "asked for one" in found["notes"][0]
    assert found["gpus_of_nodes"] == [0, 1]
    assert found["asking"] == [[1, "0"]]
    assert found["plain"] == [[0], [1]]   # the head and the GPU's node, and no GPU


def test_a_cluster_that_can_get_no_gpu_takes_its_cpus_and_says_so_where_one_is_wanted() -> None:
    found = autoscaled(gpus=0)
    assert (found["route"], found["notes"]) == ("cpu-avx2-fp32-packed", [])
    assert "none is to come" in found["cuda"]


def autoscaled(gpus: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.distributed.autoscaled", str(gpus)]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("{")]   # Ray writes lines of its own there
    return json.loads(answer)
