"""The process that holds the model, for real, on this machine's processor: same bits, whoever asks and whoever dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.models.clip import open_encoder
from pipeline.models.device import client, wire
from pipeline.models.device.client import Connection, connected
from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish
from pipeline.models.spec import ModelSpec
from pipeline.models.towers import rows_are_independent
from pipeline.vectors import Floats, Ints
from tests.models.bundled import SPEC, readable
from tests.models.test_clip import ours

IDLE = 3.0
ROUTE = local_route(RouteWish(device="cpu", packed=False))
"""Operator by operator, as on a GPU."""


@pytest.fixture(scope="module", autouse=True)
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A place of their own for the sockets of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        yield


@pytest.fixture(scope="module")
def served(sockets: None) -> client.DeviceEmbedder:
    return connected(SPEC, ROUTE, 16, IDLE)


@pytest.fixture(scope="module")
def some() -> tuple[torch.Tensor, list[str], Floats, Floats]:
    """Pixels and captions of 40 pairs, and the embeddings that this process gives."""
    pairs = list(readable().values())[:40]
    with open_encoder(SPEC, ROUTE, 16) as own:
        pixels, captions = own.preprocess(ours(data) for data, _ in pairs), [caption for _, caption in pairs]
        return pixels, captions, *own.encode_pairs(pixels, captions)


def pid(served: client.DeviceEmbedder) -> int:
    connection = Connection(served.settings.path)
    connection.close()
    return connection.about["pid"]


def same(served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats], rows: Ints) -> None:
    pixels, captions, images, texts = some
    found = served.encode_pairs(pixels[torch.from_numpy(rows)], [captions[row] for row in rows])
    np.testing.assert_array_equal(found[0], images[rows])
    np.testing.assert_array_equal(found[1], texts[rows])


def test_the_server_gives_the_bits_of_this_process_whatever_comes_together(
    served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats],
) -> None:
    draws = np.random.default_rng(0)
    parts = [draws.permutation(40)[:draws.integers(1, 41)] for _ in range(24)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda rows: same(served, some, rows), parts))


def test_pictures_are_preprocessed_here_as_in_one_process(
    served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats],
) -> None:
    pairs = list(readable().values())[:40]
    assert torch.equal(served.preprocess(ours(data) for data, _ in pairs), some[0])


def test_texts_alone_and_nothing_at_all(
    served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats],
) -> None:
    np.testing.assert_array_equal(served.encode_texts(some[1]), some[3])
    assert served.encode_texts([]).shape == (0, 256)
    assert [part.shape for part in served.encode_pairs(served.preprocess([]), [])] == [(0, 256)] * 2


def test_processes_share_one_server(served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats]) -> None:
    code = (
        "from tests.models.bundled import SPEC; from pipeline.models.device.client import *; "
        f"print(Connection(connected(SPEC, {served.settings.route!r}, 16).settings.path).about['pid'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(client.__file__).parents[3])}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(answer.stdout) == pid(served)


def test_a_server_that_is_killed_is_started_again_and_loses_nothing(
    served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats],
) -> None:
    before = pid(served)
    same(served, some, np.arange(40))
    os.kill(before, signal.SIGKILL)
    same(served, some, np.arange(39, -1, -1))
    assert pid(served) != before


def test_a_client_that_dies_in_the_middle_of_a_batch_holds_nobody_up(
    served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats],
) -> None:
    gone = Connection(served.settings.path)._socket
    gone.sendall(wire.REQUEST.pack(wire.IMAGES, 16) + b"\1" * 1000)
    gone.close()
    same(served, some, np.arange(40))


@pytest.mark.parametrize("request_", [(7, 4), (wire.IMAGES, 0), (wire.TEXTS, 17)])
def test_what_no_client_asks_ends_its_connection_alone(
    served: client.DeviceEmbedder, some: tuple[torch.Tensor, list[str], Floats, Floats], request_: tuple[int, int],
) -> None:
    strange = Connection(served.settings.path)._socket
    strange.sendall(wire.REQUEST.pack(*request_))
    strange.settimeout(10)
    assert strange.recv(1) == b""
    same(served, some, np.arange(5))


def test_what_cannot_be_had_is_said_by_name_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="needs a GPU"):
        connected(SPEC, "cuda-sm90.card.torch2-bf16-eager", 16)
    with pytest.raises(InputError, match="knows no model"):
        connected(ModelSpec("ViT-Z-1", "random"), local_route(RouteWish()), 16)
    assert time.monotonic() - began < 60


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"shardmill-{os.getuid()}").mkdir()
    (tmp_path / f"shardmill-{os.getuid()}").chmod(0o777)
    with pytest.raises(InputError, match="private folder"):
        client.folder()


def test_a_tower_whose_rows_depend_on_each_other_is_told_from_one_whose_do_not() -> None:
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert rows_are_independent(lambda x: x * 2, rows)
    assert not rows_are_independent(lambda x: x - x.mean(0), rows)
    assert not rows_are_independent(lambda x: x * torch.arange(8)[:, None], rows)


def test_it_goes_when_nobody_has_asked_for_a_while(served: client.DeviceEmbedder) -> None:
    """The last test of this file: its other clients have gone by now."""
    number = pid(served)
    served._give_up(hung=False)
    with pytest.raises(ProcessLookupError):   # noqa: PT012
        for _ in range(200):
            os.kill(number, 0)
            time.sleep(0.1)
    with pytest.raises(OSError, match="No such file"), socket.socket(socket.AF_UNIX) as late:
        late.connect(served.settings.path)
