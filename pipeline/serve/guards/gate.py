"""The gate that every request passes, in and out: who may ask, how many at a time and how long; the headers of every answer, one
line of log and the counts. Pure ASGI: it holds no body."""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from pipeline.serve.metrics import Metrics
from pipeline.serve.problems import Refused, refusal
from pipeline.serve.settings import Settings, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WITHOUT_TOKEN = ("/healthz", "/", "/assets/")
"""Paths that tell nothing of a root: a probe, and the page, which asks for the token. One with a slash at its end: all below it."""
ALWAYS = ("/healthz", "/metrics", "/metrics-summary")
"""Paths that are answered however busy the service is."""
JSON_ANYWAY = ("/knn-service", "/metadata")
"""Paths of clip-retrieval's, which takes a body for JSON whatever its type is called."""
HEADERS = (
    (b"content-security-policy",
     b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; font-src 'self'; "
     b"worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)
"""Of every answer that has not its own: nothing of another host is loaded, nobody puts an answer into a frame of theirs, and what
is no script is not run as one."""
log = logging.getLogger("pipeline.serve.requests")


@dataclass
class Work:
    """What a service does now."""

    requests: int = 0
    """in work"""


@dataclass
class Gate:
    """The application behind the gate."""

    app: App
    settings: Settings
    metrics: Metrics
    work: Work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, answered = time.monotonic(), Answered(send)
        try:
            await self._pass(scope, receive, answered)
        finally:
            route, seconds = _route(scope), time.monotonic() - began
            self.metrics.requests.labels(route, str(answered.status)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            log.info("%(method)s %(path)s %(status)s", {
                "method": scope["method"], "path": route, "status": answered.status, "seconds": round(seconds, 4)})

    async def _pass(self, scope: Scope, receive: Receive, send: "Answered") -> None:
        request = Request(scope)
        limit = self.settings.body_bytes
        try:
            self._check(request)
            if request.url.path in JSON_ANYWAY:
                scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-type"]
            if int(request.headers.get("content-length", "0")) > limit:   # the server has checked that it is a number
                raise _too_large(limit)
            if request.url.path in ALWAYS:
                await self.app(scope, receive, send)
                return
            if self.work.requests >= self.settings.requests_at_once:
                raise Refused(503, f"{self.work.requests} requests are in work: ask again in a moment", retry=1)
        except Refused as refused:
            await refusal(refused)(scope, receive, send)
            return
        self.work.requests += 1
        self.metrics.in_work.set(self.work.requests)
        try:
            async with asyncio.timeout(self.settings.seconds):
                await self.app(scope, Counted(receive, send, limit), send)
        except TimeoutError:
            send.instead = Refused(503, f"this took over {self.settings.seconds:g} s: ask for less", code="too_slow", retry=5)
        finally:
            self.work.requests -= 1
            self.metrics.in_work.set(self.work.requests)
        await send.end(scope, receive)

    def _check(self, request: Request) -> None:
        """Raises Refused for who may not ask."""
        path, settings = request.url.path, self.settings
        if settings.token is None:
            if settings.local_names_alone and not is_loopback(_host(request)):
                raise Refused(421, "this service answers to the names of its own machine alone: localhost, 127.0.0.1 or [::1]")
            return
        if any(path == open_path or (open_path != "/" and open_path.endswith("/") and path.startswith(open_path))
               for open_path in WITHOUT_TOKEN):
            return
        if request.method == "OPTIONS" and settings.origins:   # a browser asks without a token first
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), settings.token.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refused(401, "give the service's token: Authorization: Bearer TOKEN")


@dataclass
class Answered:
    """Passes an answer on, with HEADERS, and remembers its status."""

    send: Send
    status: int = 500
    began: bool = False
    instead: Refused | None = None
    """what is answered instead of what the application says from here on, unless it has begun"""

    async def end(self, scope: Scope, receive: Receive) -> None:
        """Says what is to be said instead."""
        if self.instead is not None and not self.began:
            refused, self.instead = self.instead, None
            await refusal(refused)(scope, receive, self)

    async def __call__(self, message: Message) -> None:
        if self.instead is not None and not self.began:
            return
        if message["type"] == "http.response.start":
            self.status, self.began = message["status"], True
            own = {name.lower() for name, _ in message.get("headers", ())}
            message["headers"] = [*message.get("headers", ()), *(pair for pair in HEADERS if pair[0] not in own)]
        await self.send(message)


@dataclass
class Counted:
    """Passes a body on, as far as its limit."""

    receive: Receive
    answered: Answered
    limit: int
    seen: int = 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        if self.seen > self.limit:
            self.answered.instead = _too_large(self.limit)
            return {"type": "http.disconnect"}
        return message


def _too_large(limit: int) -> Refused:
    return Refused(413, f"a request has at most {limit:,} bytes")


def _host(request: Request) -> str:
    """The host name that the client asked for, without its port."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _route(scope: Scope) -> str:
    """The path as the application declares it: of what was asked nothing is written down."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))
