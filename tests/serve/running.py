"""A real server in this process, in a thread of its own, and a client that sends exactly what it is told to."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.serve.application import application
from pipeline.serve.roots.roots import Roots
from pipeline.serve.server import Server, listening
from pipeline.serve.settings import Settings


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    """names in lower case"""
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """Of a refusal."""
        return str(self.json["error"]["code"])


@dataclass(frozen=True)
class Running:
    """A server that takes requests."""

    port: int
    roots: Roots
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, **headers: Any) -> Said:
        """One request, as it is; `headers` with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Said(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: Any) -> Said:
        return self.ask("GET", path, **headers)

    def post(self, path: str, value: Any, **headers: Any) -> Said:
        """`value` as JSON, unless it is bytes."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return self.ask("POST", path, body, **{"Content_Type": "application/json", **headers})


@contextmanager
def running(roots: Sequence[str], settings: Settings | None = None) -> Iterator[Running]:
    """A server over these roots until the block ends, on a port that is free."""
    app = application(roots, settings or Settings())
    told: list[str] = []
    with listening("127.0.0.1", 0) as listener:
        server = Server(app, told.append, listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server")
        thread.start()
        try:
            until = time.monotonic() + 120
            while not told and thread.is_alive() and time.monotonic() < until:
                time.sleep(0.01)
            assert told == [server.url]
            yield Running(int(server.url.rpartition(":")[2]), app.state.roots, server)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def connections(but: int) -> Iterator[list[Any]]:
    """Within it: the addresses that sockets of this process connect to and names that it looks up, but for the loopback's port
    `but`."""
    seen: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def seen_connect(self: socket.socket, address: Any, /) -> None:
        if not (isinstance(address, tuple) and address[:2] == ("127.0.0.1", but)):
            seen.append(address)
        connect(self, address)

    def seen_look_up(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if (host, port) != ("127.0.0.1", but):
            seen.append((host, port))
        return look_up(host, port, *rest, **options)

    socket.socket.connect, socket.getaddrinfo = seen_connect, seen_look_up   # type: ignore[method-assign, assignment]
    try:
        yield seen
    finally:
        socket.socket.connect, socket.getaddrinfo = connect, look_up   # type: ignore[method-assign]
