"""A proxy on loopback before a server, which answers chosen requests wrongly, late or not at all."""

import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


@dataclass
class Fault:
    """What happens to the first `times` requests whose `METHOD /path?query` holds `pattern`.

    `how`: a status; "reset" before the server is asked; "lost" after it was asked; "cut" in the middle of the answer;
    "stall": no answer until the proxy closes.
    """

    pattern: str
    how: int | str
    times: int = 1_000_000
    code: str = "InternalError"
    body: str = "<Error><Code>{code}</Code><Message>said the proxy</Message></Error>"


class Proxy:
    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.failed = 0
        self.sent = 0
        """Bytes of the bodies of all answers."""
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, pattern: str, how: int | str, **more: Any) -> None:
        self.faults.append(Fault(pattern, how, **more))

    def heal(self) -> None:
        self.faults = []

    def reset(self) -> None:
        self.faults, self.asked, self.failed, self.sent = [], [], 0, 0
        self.closing.set()   # lets the stalled go
        self.closing = threading.Event()

    def fault(self, request: str) -> Fault | None:
        with self._lock:
            self.asked.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    self.failed += 1
                    return fault
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.fault(f"{self.command} {self.path}")
        if fault is None:
            self._send(*self._forward(body))
        elif isinstance(fault.how, int):
            self._send(fault.how, [("Content-Type", "application/xml")], fault.body.format(code=fault.code).encode())
        elif fault.how == "stall":
            self.proxy.closing.wait(30)
            self._reset()
        else:
            status, headers, content = (0, [], b"") if fault.how == "reset" else self._forward(body)
            if fault.how == "cut":
                self._send(status, headers, content, cut=True)
            self._reset()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = HTTPConnection(self.proxy.target, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        found = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        size = response.getheader("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
        connection.close()
        return response.status, [*found, ("Content-Length", size)], content

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
        if not any(name == "Content-Length" for name, _ in headers):
            headers = [*headers, ("Content-Length", str(len(content)))]
        with suppress(ConnectionError):   # the client has given up
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with self.proxy._lock:
                    self.proxy.sent += len(content)
                self.wfile.write(content[: len(content) // 2] if cut else content)
                self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass
