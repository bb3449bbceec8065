"""What a worker does when the process that holds the model misbehaves: with one that only plays it, and with single messages."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import InputError, ShardmillError
from pipeline.models.device import client, server, wire
from pipeline.models.device.client import Connection, DeviceEmbedder, connected
from pipeline.models.device.lanes import Share, Slot
from pipeline.models.device.server import Server, Settings, open_model, peer_user, send_fault, send_rows
from pipeline.models.machine import local_route
from pipeline.models.preprocess import Preprocess
from pipeline.models.route import RouteWish
from pipeline.models.spec import ModelSpec
from pipeline.models.towers import ModelOutOfMemory
from tests.models.bundled import SPEC

ROWS, WIDTH = 4, 3
LOOKS = Preprocess((8, 8), "squash", "bicubic", 0, (0.0,) * 3, (1.0,) * 3)

Answer = Callable[[socket.socket, int, int], Any]
"""What a server does about a request, of its connection, the lane and the rows: true where it is to die of it."""
Play = Callable[..., tuple[DeviceEmbedder, list[tuple[int, int]]]]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Play]:
    """Starts a server that answers each request as it is told; gives what a worker holds of it, and the requests."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "socket"))
    listener.listen(16)
    asked = []

    def serve(connection: socket.socket, pid: int, answer: Answer) -> None:
        with connection:
            try:
                wire.send_hello(connection, {"pid": pid})
                while True:
                    lane, rows = wire.receive_header(connection, wire.REQUEST)
                    wire.receive(connection, memoryview(bytearray(rows * 4)))
                    asked.append((lane, rows))
                    if answer(connection, lane, rows):
                        return
            except OSError:
                return

    def play(answer: Answer, pid: int = 0) -> tuple[DeviceEmbedder, list[tuple[int, int]]]:
        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection, pid, answer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        settings = Settings("name", None, "cpu-avx2-fp32-packed", ROWS, str(tmp_path / "socket"))
        return DeviceEmbedder(settings, LOOKS, lambda texts: torch.tensor([[len(text)] for text in texts]), WIDTH), asked

    yield play
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def vectors(connection: socket.socket, lane: int, rows: int) -> None:
    connection.sendall(wire.REPLY.pack(wire.OK, rows, 0.5) + np.full((rows, WIDTH), lane + 1, np.float32).tobytes())


def test_rows_are_asked_for_in_parts_of_a_batch_and_each_lane_gets_its_own(played: Play) -> None:
    embedder, asked = played(vectors)
    assert (embedder.encode_texts(["a"] * 9) == 2).all()
    assert asked == [(wire.TEXTS, 4), (wire.TEXTS, 4), (wire.TEXTS, 1)]


def test_a_server_that_dies_over_and_over_is_given_up_by_name_and_no_zeros_are_taken_for_vectors(played: Play) -> None:
    embedder, asked = played(lambda *_: True)
    with pytest.raises(ShardmillError, match=rf"died {client.TRIES} times over the same samples .*socket\.log"):
        embedder.encode_texts(["a", "b"])
    assert asked == [(wire.TEXTS, 2)] * client.TRIES


def test_a_server_that_dies_once_is_asked_again(played: Play) -> None:
    lives = iter([1])

    def once(connection: socket.socket, lane: int, rows: int) -> bool:
        if next(lives, 0):
            return True
        vectors(connection, lane, rows)
        return False

    embedder, asked = played(once)
    assert (embedder.encode_texts(["a"]) == 2).all()
    assert len(asked) == 2


def test_a_server_that_hangs_is_ended(played: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as hung:
        embedder, _ = played(lambda *_: None, hung.pid)
        with pytest.raises(ShardmillError, match="timed out"):
            embedder.encode_texts(["a"])
        assert hung.wait(10) == -signal.SIGKILL


def test_another_number_of_rows_than_was_asked_for_is_no_answer(played: Play) -> None:
    embedder, _ = played(lambda connection, lane, rows: vectors(connection, lane, rows - 1))
    with pytest.raises(ShardmillError, match="1 rows came of 2"):
        embedder.encode_texts(["a", "b"])


@pytest.mark.parametrize(("error", "raised"), [
    (ModelOutOfMemory("lower model.micro_batch"), ModelOutOfMemory), (MemoryError(), ModelOutOfMemory),
    (RuntimeError("device lost"), RuntimeError),
])
def test_what_a_model_failed_of_is_told_as_what_it_is_and_not_tried_again(
    played: Play, error: Exception, raised: type[ModelOutOfMemory] | type[RuntimeError],
) -> None:
    embedder, asked = played(lambda connection, *_: send_fault(connection, error))
    with pytest.raises(raised, match=str(error) or "MemoryError"):
        embedder.encode_texts(["a"])
    assert len(asked) == 1


def test_the_seconds_of_a_batch_are_shared_by_its_rows() -> None:
    slot = Slot(torch.zeros(8, 1), torch.arange(16.0).reshape(8, 2), seconds=4.0)
    here, there = socket.socketpair()
    with here, there:
        send_rows(here, [Share(slot, 1, 3), Share(slot, 7, 8)])
        status, rows, seconds = wire.receive_header(there, wire.REPLY)
        assert (status, rows, seconds) == (wire.OK, 3, 4.0 * 3 / 8)
        found = bytearray(3 * 2 * 4)
        wire.receive(there, memoryview(found))
    assert np.frombuffer(found, np.float32).tolist() == [2, 3, 4, 5, 14, 15]


def test_a_message_of_any_length_is_not_waited_for() -> None:
    here, there = socket.socketpair()
    with there:
        with here:
            here.sendall(wire.LENGTH.pack(wire.LONGEST + 1))
        with pytest.raises(ConnectionError, match=f"a message of {wire.LONGEST + 1} bytes"):
            wire.hello(there)


def test_the_processes_of_other_users_are_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair()
    with here, there:
        assert peer_user(here) == os.getuid()
    towers: Any = SimpleNamespace(dimension=3, context=1, micro_batch=4, config={})
    lanes: Any = (None, None)
    monkeypatch.setattr(server, "peer_user", lambda _: os.getuid() + 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        serving = threading.Thread(target=Server(towers, lanes, listener, 1.0).run)
        serving.start()
        with pytest.raises(ConnectionError, match="closed"):
            Connection(str(tmp_path / "socket"))
        serving.join(10)
        assert not serving.is_alive()


def test_a_model_whose_rows_depend_on_each_other_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(SPEC.name, SPEC.pretrained, local_route(RouteWish(device="cpu", packed=False)), 16, "unused")
    monkeypatch.setattr("pipeline.models.towers.rows_are_independent", lambda call, inputs: inputs.ndim < 4)
    with pytest.raises(InputError, match="the bits of an image embedding depend on the other rows of its batch"):
        open_model(settings)


def test_workers_share_a_server_only_if_they_ask_for_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Settings] = []

    class Joined:
        def __init__(self) -> None:
            looks = {"size": 8, "resize_mode": "squash", "interpolation": "bicubic", "fill_color": 0, "mean": [0], "std": [1]}
            self.about = {"preprocess": looks, "dimension": 256}

        def close(self) -> None:
            pass

    def path(spec: ModelSpec = SPEC, route: str = "cpu-avx2-fp32-packed", micro_batch: int = 16) -> str:
        connected(spec, route, micro_batch)
        return asked[-1].path

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def joined(settings: Settings) -> Joined:
        asked.append(settings)
        return Joined()

    monkeypatch.setattr(client, "joined", joined)
    first = path()
    assert path() == first
    others = [path(micro_batch=32), path(route="cpu-avx2-fp32-eager"), path(replace(SPEC, name="ViT-B-32", pretrained="openai"))]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len({first, *others, path()}) == 5
