"""The process that holds a model on its device and embeds for the workers of its machine.

`client.connected` starts it, once per model, route and device; it goes when nobody has asked for a while. It belongs to no
worker: one that dies takes nothing with it. Only processes of the same user reach its socket.
"""

import json
import logging
import os
import socket
import struct
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.models.device import wire

if TYPE_CHECKING:
    from pipeline.models.device.lanes import Lane, Share
    from pipeline.models.towers import Towers

IDLE = 20.0
"""Seconds without a client after which it ends and gives the device back."""
SILENCE = 120.0
"""Seconds that a client may take in the middle of what it says."""
PEER = struct.Struct("3i")   # pid, uid, gid


@dataclass(frozen=True)
class Settings:
    """What a server is started for."""

    name: str
    pretrained: str | None
    route: str
    micro_batch: int
    path: str
    """of the socket"""
    idle: float = IDLE

    def text(self) -> str:
        """The settings as one line of JSON, as the server's command line takes them."""
        return json.dumps(asdict(self))


class Server:
    """Both towers behind a socket, one thread per connection."""

    def __init__(self, towers: "Towers", lanes: "tuple[Lane, Lane]", listener: socket.socket, idle: float) -> None:
        self._towers, self._lanes, self._listener, self._idle = towers, lanes, listener, idle
        self._clients, self._quiet_since = 0, time.monotonic()
        self._counting = threading.Lock()

    def run(self) -> None:
        """Accepts connections, each served by a thread, until nobody was connected for `idle` seconds."""
        self._listener.settimeout(min(1.0, self._idle / 4))
        while self._clients or time.monotonic() - self._quiet_since < self._idle:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            if peer_user(connection) != os.getuid():
                connection.close()
                continue
            with self._counting:
                self._clients += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(None)
            towers = self._towers
            wire.send_hello(connection, {
                "pid": os.getpid(), "dimension": towers.dimension, "context": towers.context, "rows": towers.micro_batch,
                "preprocess": dict(towers.config),
            })
            while True:
                lane, rows = wire.receive_header(connection, wire.REQUEST)
                if lane not in (wire.IMAGES, wire.TEXTS) or not 0 < rows <= towers.micro_batch:
                    raise ConnectionError(f"asked for {rows} rows of lane {lane}")
                self._answer(connection, self._lanes[lane], rows)
        except OSError:   # it has gone, or said something that no client says
            pass
        finally:
            connection.close()
            with self._counting:
                self._clients -= 1
                self._quiet_since = time.monotonic()

    def _answer(self, connection: socket.socket, lane: "Lane", rows: int) -> None:
        shares: list[Share] = []
        try:
            connection.settimeout(SILENCE)
            shares = lane.reserve(rows)
            fill(connection, lane, shares)
            for share in shares:
                share.slot.computed.wait()
            faults = [share.slot.error for share in shares if share.slot.error is not None]
            if faults:
                send_fault(connection, faults[0])
            else:
                send_rows(connection, shares)
        finally:
            for share in shares:
                lane.fetched(share)


def fill(connection: socket.socket, lane: "Lane", shares: "list[Share]") -> None:
    """Puts the rows that come into their slots. Where they stop coming, the others of those slots go on all the same."""
    waiting = list(shares)
    try:
        for share in shares:
            wire.receive(connection, bytes_of(share.slot.inputs[share.start : share.stop]))
            lane.arrived(waiting.pop(0))
    finally:
        for share in waiting:
            lane.arrived(share)


def send_rows(connection: socket.socket, shares: "list[Share]") -> None:
    """What the shares' rows became, and their part of the device's time."""
    seconds = sum(s.slot.seconds * (s.stop - s.start) / len(s.slot.inputs) for s in shares)
    connection.sendall(wire.REPLY.pack(wire.OK, sum(s.stop - s.start for s in shares), seconds))
    for share in shares:
        connection.sendall(bytes_of(share.slot.outputs[share.start : share.stop]))


def send_fault(connection: socket.socket, error: Exception) -> None:
    """Sends the message of an error, cut to LONGEST bytes, and whether it was want of memory."""
    text = (str(error) or type(error).__name__).encode()[: wire.LONGEST]
    code = wire.NO_MEMORY if isinstance(error, MemoryError) else wire.FAULT
    connection.sendall(wire.REPLY.pack(code, len(text), 0.0) + text)


def bytes_of(rows: Any) -> memoryview:
    """The memory of a contiguous tensor."""
    return memoryview(rows.numpy()).cast("B")


def peer_user(connection: socket.socket) -> int:
    """The user id of the process on the other side."""
    _, user, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    return int(user)


def open_model(settings: Settings) -> "tuple[Towers, tuple[Lane, Lane]]":
    """Loads the model. Raises InputError where a row's bits depend on the others of its batch: rows of all shards share one."""
    import torch

    from pipeline.models.device.engine import engine, slots
    from pipeline.models.device.lanes import Lane
    from pipeline.models.process import prepare_process
    from pipeline.models.route import parse
    from pipeline.models.spec import ModelSpec
    from pipeline.models.towers import EXAMPLES, example_pictures, memory_guard, open_towers, padded, rows_are_independent

    prepare_process()
    route = parse(settings.route)
    if route.form == "bucketed":   # here all captions of a call have one length
        raise InputError(f"the route {route} is of a process that computes for itself: set model.compile to false")
    towers = open_towers(ModelSpec(settings.name, settings.pretrained), route, settings.micro_batch)
    pixels = example_pictures(towers.micro_batch, towers.transform.size).permute(0, 2, 3, 1).contiguous()
    tokens = padded(towers.tokenizer(EXAMPLES * (towers.micro_batch // 2 + 1))[: towers.micro_batch], towers.micro_batch)

    def images(rows: torch.Tensor) -> torch.Tensor:
        return towers.images(rows.permute(0, 3, 1, 2))

    def texts(rows: torch.Tensor) -> torch.Tensor:
        return towers.texts(rows.long())

    lanes = []
    for name, call, example in (("image", images, pixels), ("text", texts, tokens.int())):
        with memory_guard(towers.micro_batch, route):
            if not rows_are_independent(call, example.to(route.device)):
                raise InputError(
                    f"with the route {route} the bits of an {name} embedding depend on the other rows of its batch: "
                    "set model.precision to fp32, or model.micro_batch to another number"
                )
            lanes.append(Lane(slots(example, towers.dimension, route), engine(call, example, route), name))
    return towers, (lanes[wire.IMAGES], lanes[wire.TEXTS])


def main() -> int:
    """`server SETTINGS`: says on standard output, in one line of JSON, when it listens, or why it never will."""
    settings, stdout = Settings(**json.loads(sys.argv[1])), sys.stdout
    if os.fork():   # its parent must not be the worker: Ray ends the children of a worker with it
        os._exit(0)
    os.setsid()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")   # two streams, and yet the same bits every time
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        towers, lanes = open_model(settings)
    except (InputError, MemoryError) as error:
        kind = "memory" if isinstance(error, MemoryError) else "input"
        print(json.dumps({"error": kind, "message": str(error)}), file=stdout, flush=True)
        return 1
    Path(settings.path).unlink(missing_ok=True)   # of one that was killed; whoever starts a server holds the lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(settings.path)
        listener.listen(256)
        print(json.dumps({"pid": os.getpid()}), file=stdout, flush=True)
        stdout.close()
        os.close(1)
        Server(towers, lanes, listener, settings.idle).run()
        Path(settings.path).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    os._exit(status)   # threads may wait for rows that never come
