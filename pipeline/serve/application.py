"""The application: routes behind the gate, over roots that are open."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from pipeline.serve.explorer import routes as explorer
from pipeline.serve.guards.gate import Gate, Work
from pipeline.serve.metrics import Metrics
from pipeline.serve.problems import Refused, of_errors, refusal
from pipeline.serve.roots.roots import Roots, named
from pipeline.serve.routes import lists, operation, pictures, search, wire
from pipeline.serve.service import Service
from pipeline.serve.settings import Settings

SILENT: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False, "exclude": lambda scope:
    True}
"""Nothing of a request is handed to whatever exporter the environment names."""
ABOUT = "Curated image-text samples: what is near what, every picture out of its shard, and why each sample was kept or not."


def application(roots: Sequence[str], settings: Settings | None = None) -> FastAPI:
    """A service over one or more roots, ROOT or NAME=ROOT each, as an ASGI application. Opens the roots now; the encoder, the
    indexes and the rest are loaded when it starts, before it takes its first request.

    Raises RootError for what is no root, and before it has verdicts; InputError for one without embeddings, and where there is no
    root."""
    settings = settings or Settings()
    opened = Roots(settings, metrics := Metrics(), named(roots))
    opened.open()
    work = Work()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with Service.opened(opened, work) as service:
            app.state.service = service
            await asyncio.get_running_loop().run_in_executor(service.pool, opened.warm)
            watcher = asyncio.ensure_future(opened.watch(service.pool))
            try:
                yield
            finally:
                watcher.cancel()
                with suppress(asyncio.CancelledError):
                    await watcher

    app = FastAPI(
        title="shardmill", version=version("shardmill"), description=ABOUT, docs_url=None, redoc_url=None, lifespan=life,
        strict_content_type=False,   # ClipClient names no content type
        redirect_slashes=False, telemetry=SILENT,
    )
    app.state.roots = opened
    for routes in (operation, search, lists, pictures, wire, explorer):
        app.include_router(routes.router)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["GET", "POST"],
                           allow_headers=["Authorization", "Content-Type"])
    app.add_middleware(Gate, settings=settings, metrics=metrics, work=work)
    return app


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal(of_errors(error.errors()))


async def _on_http(request: Request, error: Exception) -> Response:
    """What the framework refuses: no such path or method, a body that is too large or no JSON."""
    assert isinstance(error, HTTPException)
    said = {404: "there is no such path: /docs lists them", 405: "this path does not take this method",
            413: "the body is larger than this service takes", 400: "the body cannot be read as JSON"}
    return refusal(Refused(error.status_code, said.get(error.status_code, str(error.detail))))
