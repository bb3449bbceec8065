"""Ways to a Ray cluster, and ways in which there is none: each is said in one line, and soon."""

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from ray._raylet import GcsClient  # type: ignore[attr-defined]

from pipeline.distributed.connection import cluster_at
from pipeline.distributed.connection.cluster_at import reachable
from pipeline.distributed.connection.connection import NO_IDLE_WORKERS
from pipeline.distributed.connection.temporary_folder import require_temporary_folder
from pipeline.errors import InputError
from pipeline.process.own_code import child_environment
from tests.distributed.conftest import Machines

OWN = """
import json, os, sys
import ray
from ray._private.ray_logging import global_worker_stdstream_dispatcher as printed
from pipeline.distributed.connection.connection import connected

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with connected(None):
    paths = ray.get(ray.remote(runtime_env={"env_vars": {"OF": "its own"}})(lambda: sys.path).remote())
    for pid in ("gcs_server", "17", "raylet"):
        lines = ["A worker died or was killed: all that Ray knows of it", f"said by {pid}"]
        printed.emit({"pid": pid, "ip": "", "localhost": "", "job": None, "is_err": True, "lines": lines})
    print(json.dumps({"cpus": ray.cluster_resources()["CPU"], "paths": paths}), flush=True)
    sys.stdin.read()
"""
"""A program with a cluster of its own on the CPUs that it may use, until it is ended; one task has run, in a process of its own."""


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Ray's temporary folder, short for its sockets; a cluster that has gone left its address there."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
        yield Path(folder)


def test_a_cluster_of_our_own_asks_for_nothing_and_ends_with_one_line_when_its_raylet_does(
    tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No home folder, the address of a cluster that has gone, one CPU to use, other people's code in the working folder."""
    (tmp_path / "nobody").write_text("")
    (tmp_path / "json.py").write_text("raise RuntimeError('found')")
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN", *NO_IDLE_WORKERS):
        monkeypatch.delenv(name, raising=False)
    environment = {**child_environment(), "HOME": str(tmp_path / "nobody" / "home"), "RAY_TMPDIR": str(ray_folder)}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", OWN], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as program:
        assert program.stdout is not None
        said = json.loads(program.stdout.readline() or "{}")
        assert said.get("cpus") == 1, program.communicate()[1]
        logs = [path.name for path in ray_folder.glob("ray/session_2*/logs/worker-*.out")]   # Ray ends those that stay idle
        assert len(logs) == 1, "processes that nobody asked for"
        assert str(tmp_path) not in said["paths"]
        (raylet,) = [child for child in psutil.Process(program.pid).children() if child.name() == "raylet"]
        raylet.kill()
        program.wait(timeout=30)
        assert program.stderr is not None
        errors = program.stderr.read()
    assert program.returncode == 2
    assert all(f"said by {pid}" in errors for pid in ("17", "raylet"))
    assert not any(words in errors for words in ("said by gcs_server", "A worker died"))
    assert "shardmill: Ray's process on this machine (raylet) was ended, and the run with it" in errors.splitlines()[-1]


@pytest.mark.parametrize(("folder", "says"), [
    ("/tmp/" + "a" * 72, "has a path of 77 bytes, too long for its sockets"),
    ("/tmp/ü", "has characters in its path that Ray cannot use"),
    ("/proc/none", "cannot be written: No such file or directory"),
])
def test_a_temporary_folder_that_ray_cannot_use_is_said_before_ray_starts(
    monkeypatch: pytest.MonkeyPatch, folder: str, says: str,
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(InputError, match=says) as raised:
        require_temporary_folder()
    assert "Set RAY_TMPDIR to a folder" in str(raised.value)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_at, "PATIENCE", 0.5)


def refused(target: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as raised:
        reachable(target)
    assert repr(target) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("target", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265", "head", "head:port", ":6379"])
def test_an_address_of_another_form_is_refused_with_the_one_that_is_meant(target: str) -> None:
    refused(target, "is not of the form HOST:PORT")


@pytest.mark.parametrize("target", ["127.0.0.1:9", "no.such.host.invalid:6379"])
def test_nobody_at_an_address_is_said_at_once(target: str) -> None:
    refused(target, "no Ray cluster answers")


@pytest.mark.usefixtures("hurried")
def test_a_port_that_is_silent_is_no_cluster() -> None:
    with socket.create_server(("0.0.0.0", 0)) as silent:
        refused(f"127.0.0.1:{silent.getsockname()[1]}", "no Ray cluster answers")


def test_a_web_server_is_no_cluster() -> None:
    with HTTPServer(("0.0.0.0", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        refused(f"127.0.0.1:{server.server_address[1]}", "no Ray cluster answers")


class Answering(grpc.GenericRpcHandler):  # type: ignore[misc]
    """What a cluster says to every call, whatever it is."""

    def __init__(self, code: Any) -> None:
        self._code = code

    def service(self, handler_call_details: Any) -> Any:
        def refuse(request: bytes, context: Any) -> bytes:
            context.abort(self._code, "as Ray has it:\nin several lines")
            return b""

        return grpc.unary_unary_rpc_method_handler(refuse)


@pytest.mark.parametrize(("code", "says"), [
    (grpc.StatusCode.UNAUTHENTICATED, "asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"),
    (grpc.StatusCode.UNIMPLEMENTED, "no Ray cluster answers at .*: as Ray has it:$"),
])
def test_a_guarded_cluster_and_another_service_are_told_apart(code: Any, says: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(Answering(code),))
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    try:
        refused(f"127.0.0.1:{port}", says)
    finally:
        server.stop(None)


def test_a_living_cluster_is_reached_and_one_of_another_version_is_named(at_three: Machines) -> None:
    target = at_three.cluster.address
    assert reachable(target).endswith(target.rpartition(":")[2])
    client = GcsClient(address=target)
    key = (b"CLUSTER_METADATA", b"cluster")
    before = client.internal_kv_get(*key)
    try:
        client.internal_kv_put(key[0], json.dumps({"ray_version": "2.9.0", "python_version": "3.11.7"}).encode(), True, key[1])
        refused(target, r"runs Ray 2\.9\.0, and shardmill here 2\.")
    finally:
        client.internal_kv_put(key[0], before, True, key[1])


@pytest.mark.usefixtures("hurried")
def test_a_raylet_of_this_machine_that_is_stopped_is_named(at_three: Machines) -> None:
    head: Any = at_three.cluster.head_node
    raylet = psutil.Process(head.all_processes["raylet"][0].process.pid)
    raylet.suspend()
    try:
        refused(at_three.cluster.address, r"its process on this machine \(raylet\) does not")
    finally:
        raylet.resume()


def test_a_cluster_without_a_node_on_this_machine_cannot_be_joined_from_it(
    at_three: Machines, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray._private.services.find_node_ids", set)
    refused(at_three.cluster.address, "this machine is no node of the Ray cluster")
