"""What a worker holds of the model on its GPU: it preprocesses and tokenizes here, and asks the server of that GPU for vectors.

A server that dies is started again and asked again: a row's embedding is the same every time, so nothing is lost by it.
"""

import fcntl
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import pipeline
from pipeline.errors import InputError, ShardmillError
from pipeline.models.device import wire
from pipeline.models.device.server import IDLE, Settings, bytes_of
from pipeline.models.preprocess import Picture, Preprocess
from pipeline.models.spec import ModelSpec, describe
from pipeline.models.tokens import Tokenizer, tokenizer
from pipeline.models.towers import ModelOutOfMemory
from pipeline.process.own_code import child_environment
from pipeline.timing.clock import DEVICE, add_seconds
from pipeline.vectors import Floats
from pipeline.work import beat

TRIES = 3
"""Servers that may die over the same rows."""
ANSWER_SECONDS = 300.0
"""Seconds without a word of the server after which it is taken for hung, and ended."""


class Connection:
    """One socket to the server. A thread has one per lane, so that both towers have its rows at once."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
            self._socket.settimeout(ANSWER_SECONDS)
            self.about = wire.hello(self._socket)
        except OSError:
            self.close()
            raise

    def ask(self, lane: int, rows: Tensor) -> None:
        """Sends rows, contiguous [n, ...] of the lane's dtype, to be embedded. Raises OSError where the server is gone."""
        self._socket.sendall(wire.REQUEST.pack(lane, len(rows)))
        self._socket.sendall(bytes_of(rows))

    def answer(self, vectors: Floats) -> float:
        """Fills `vectors`, float32 [n, dimension], and returns the seconds that the device spent on them.

        Raises ModelOutOfMemory or RuntimeError with the server's message where the model failed, OSError where the server is gone.
        """
        status, length, seconds = wire.receive_header(self._socket, wire.REPLY)
        if status != wire.OK:
            message = wire.receive_text(self._socket, length)
            raise ModelOutOfMemory(message) if status == wire.NO_MEMORY else RuntimeError(f"the model failed: {message}")
        if length != len(vectors):
            raise ConnectionError(f"{length} rows came of {len(vectors)}")
        wire.receive(self._socket, memoryview(vectors.data).cast("B"))
        return float(seconds)

    def close(self) -> None:
        """Closes the socket; the server then frees what it held for this client."""
        self._socket.close()


@dataclass(frozen=True)
class DeviceEmbedder:
    """An `Embedder` whose towers are in the server's process."""

    settings: Settings
    transform: Preprocess
    tokenizer: Tokenizer
    dimension: int
    _thread: threading.local = field(default_factory=threading.local)

    def preprocess(self, pictures: Iterable[Picture]) -> Tensor:
        """Resizes and crops pictures of any size to uint8 [n, 3, S, S], in this process."""
        with torch.inference_mode():
            return self.transform(pictures)

    def encode_pairs(self, pixels: Tensor, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """Unit vectors float32 [n, dimension] of preprocessed pixels uint8 [n, 3, S, S], and of n raw captions; both towers work at
        once."""
        images, texts = self._embedded({wire.IMAGES: wire_pixels(pixels), wire.TEXTS: self._tokens(captions)})
        return images, texts

    def encode_images(self, pixels: Tensor) -> Floats:
        """Unit vectors float32 [n, dimension] of preprocessed pixels uint8 [n, 3, S, S]."""
        return self._embedded({wire.IMAGES: wire_pixels(pixels)})[0]

    def encode_texts(self, captions: Sequence[str]) -> Floats:
        """Unit vectors float32 [n, dimension] of raw captions, cut to the model's context."""
        return self._embedded({wire.TEXTS: self._tokens(captions)})[0]

    def _tokens(self, captions: Sequence[str]) -> Tensor:
        return self.tokenizer(captions).int().contiguous() if captions else torch.empty(0, 1, dtype=torch.int32)

    def _embedded(self, inputs: dict[int, Tensor]) -> list[Floats]:
        """Unit vectors f32 [n, dimension] for each lane's inputs."""
        outputs = [np.zeros((len(rows), self.dimension), np.float32) for rows in inputs.values()]
        longest = max(map(len, inputs.values()))
        for start in range(0, longest, self.settings.micro_batch):
            part = slice(start, start + self.settings.micro_batch)
            batch = {lane: rows[part] for lane, rows in inputs.items()}
            self._exchange(batch, [vectors[part] for vectors in outputs])
        return outputs

    def _exchange(self, inputs: dict[int, Tensor], outputs: list[Floats]) -> None:
        lanes = [(lane, rows, into) for (lane, rows), into in zip(inputs.items(), outputs, strict=True) if len(rows)]
        for tries_left in reversed(range(TRIES)):
            try:
                connections = self._connections()
                for lane, rows, _ in lanes:
                    connections[lane].ask(lane, rows)
                for lane, _, into in lanes:
                    add_seconds(DEVICE, connections[lane].answer(into))
                return
            except OSError as error:   # TimeoutError is one
                self._give_up(hung=isinstance(error, TimeoutError))
                if not tries_left:
                    raise ShardmillError(
                        f"the process that holds the model on the GPU died {TRIES} times over the same samples "
                        f"({error}); its last words are in {log_of(self.settings)}"
                    ) from error
            except (RuntimeError, MemoryError):
                self._give_up(hung=False)   # what other lanes have said is still on its way
                raise

    def _connections(self) -> list[Connection]:
        thread = self._thread
        if not getattr(thread, "connections", None):
            thread.connections = [joined(self.settings) for _ in (wire.IMAGES, wire.TEXTS)]
        connections: list[Connection] = thread.connections
        return connections

    def _give_up(self, *, hung: bool) -> None:
        for connection in getattr(self._thread, "connections", []):
            if hung:
                with suppress(ProcessLookupError):
                    os.kill(int(connection.about["pid"]), signal.SIGKILL)
            connection.close()
        self._thread.connections = []


def wire_pixels(pixels: Tensor) -> Tensor:
    """uint8 [n, S, S, 3], contiguous, of [n, 3, S, S] with the channels last in memory: no copy."""
    return pixels.permute(0, 2, 3, 1).contiguous()


def connected(spec: ModelSpec, route: str, micro_batch: int, idle: float = IDLE) -> DeviceEmbedder:
    """The model on this process's device, by a server that is there already or started now.

    Raises InputError where the route or the model cannot be had, ModelOutOfMemory where the device is too small.
    """
    description = describe(spec)
    key = [description.identity, route, micro_batch, os.environ.get("CUDA_VISIBLE_DEVICES"), sys.executable, pipeline.__file__]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    settings = Settings(spec.name, spec.pretrained, route, micro_batch, str(folder() / name), idle)
    with_it = joined(settings)
    about = with_it.about
    with_it.close()
    return DeviceEmbedder(settings, Preprocess.of(about["preprocess"]), tokenizer(spec.resolved), int(about["dimension"]))


def folder() -> Path:
    """The folder of this user's sockets, which nobody else can write to. Raises InputError where another user could."""
    path = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"shardmill-{os.getuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InputError(f"{path} is not a private folder of this user: remove it, or set XDG_RUNTIME_DIR to one that is")
    return path


def log_of(settings: Settings) -> str:
    """The path of the log file of the server with these settings."""
    return f"{settings.path}.log"


def joined(settings: Settings) -> Connection:
    """A connection to the server, which is started where there is none: by one process, while the others wait."""
    with suppress(OSError):
        return Connection(settings.path)
    with locked(f"{settings.path}.lock"):
        with suppress(OSError):
            return Connection(settings.path)
        start(settings)
        return Connection(settings.path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Held by one process; the operating system takes it back when that dies."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        beat()
        yield


def start(settings: Settings) -> None:
    """Starts a server and waits until it listens."""
    with open(log_of(settings), "w") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.models.device.server", settings.text()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=child_environment(), text=True,
        )
    assert child.stdout is not None
    with child.stdout as stdout:
        line = stdout.readline()
    child.wait()
    reply: dict[str, Any] = json.loads(line) if line else {}
    if "pid" not in reply:
        message = reply.get("message") or f"the process that holds the model ended while it started; see {log_of(settings)}"
        raise {"input": InputError, "memory": ModelOutOfMemory}.get(reply.get("error", ""), ShardmillError)(message)
