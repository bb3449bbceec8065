"""A service in this process, from the first look at its roots to the last answer."""

import json
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pipeline.errors import InputError
from pipeline.serve.application import application
from pipeline.serve.settings import Settings, check_address

GRACE = 30
"""Seconds that requests in work have to end once the service is to stop."""
IDLE = 15
"""Seconds that a connection without a request is kept."""
BACKLOG = 512


def serve(
    roots: Sequence[str], host: str, port: int, settings: Settings, tell: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or SIGINT, then ends what it has begun. `tell` gets the URL once requests are taken.

    Raises InputError for an address that cannot be had, or that others reach without a token, and where a model is missing;
    RootError for a root that cannot be served."""
    check_address(host, port, settings)
    app = application(roots, settings)
    with logged(), listening(host, port) as listener:
        app.state.roots.warm()   # before the server, whose own errors at the start have no words
        with suppress(KeyboardInterrupt):   # the signal that ended it, handed on once everything is answered
            Server(app, tell, listener).run(sockets=[listener])


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at this address. Raises InputError, which names it, where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise InputError(f"cannot listen at {host}:{port} ({error.strerror or error}): choose another --port or --host") from None
    with listener:
        yield listener


class Server(uvicorn.Server):
    """uvicorn, which says where it listens, and tells balancers that it stops before it does."""

    def __init__(self, app: FastAPI, tell: Callable[[str], None], listener: socket.socket) -> None:
        super().__init__(uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, date_header=True, timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=IDLE, backlog=BACKLOG, lifespan="on", ws="none", h11_max_incomplete_event_size=32 << 10,
            proxy_headers=False))
        self._app, self._tell = app, tell
        self._address = listener.getsockname()

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self._address[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes requests from here on."""
        await super().startup(sockets)
        if self.started:
            self._tell(self.url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets requests in work end."""
        with suppress(AttributeError):
            self._app.state.service.stopping = True
        super().handle_exit(sig, frame)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        said = record.args if isinstance(record.args, dict) else {"message": record.getMessage()}
        trace = {"trace": self.formatException(record.exc_info)} if record.exc_info else {}
        time = self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z")
        return json.dumps({"time": time, "level": record.levelname.lower(), **said, **trace})


@contextmanager
def logged() -> Iterator[None]:
    """One line of JSON on standard error for each request, and for what else is to be known."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(name) for name in ("pipeline.serve", "uvicorn")]
    before = [(one, one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO if one.name == "pipeline.serve" else logging.WARNING)
        one.propagate = False
    try:
        yield
    finally:
        for one, level, propagate in before:
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = propagate
