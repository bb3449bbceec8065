"""`/healthz`, `/metrics`, `/metrics-summary` and the documents of the API: what those ask who run the service."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from pipeline.serve.routes.answers import answered
from pipeline.serve.service import Shared
from schemas.answers.serving import Health

router = APIRouter()
TEXT = "text/plain; charset=utf-8"
METHODS = ("get", "post")


@router.get("/healthz", response_model=Health)
async def healthz(service: Shared) -> Response:
    """Whether the service takes requests: 503 once it is stopping, so that a balancer sends them elsewhere."""
    answer = answered(Health(status="stopping" if service.stopping else "ok", version=version("shardmill")))
    answer.status_code = 503 if service.stopping else 200
    return answer


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: Shared) -> Response:
    """Counts and clocks, as Prometheus reads them."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/metrics-summary", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics_summary(service: Shared) -> Response:
    """The clocks as a table."""
    return Response(service.metrics.summary(), media_type=TEXT)


@router.get("/docs", response_class=Response, include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API in words, out of /openapi.json; a text, so that nothing is loaded from anywhere."""
    return Response(described(request.app), media_type=TEXT)


def described(app: FastAPI) -> str:
    """Every route with its parameters and its meaning."""
    document = app.openapi()
    lines = [f"{document['info']['title']} {document['info']['version']}", "", document["info"].get("description", ""), ""]
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                lines += _route(method, path, methods[method], document)
    return "\n".join(lines) + "\nAs OpenAPI, for clients and tools: /openapi.json\n"


def _route(method: str, path: str, route: dict[str, Any], document: dict[str, Any]) -> list[str]:
    lines = [f"{method.upper()} {path}", f"    {route.get('description', '')}"]
    fields = {parameter["name"]: parameter["schema"] for parameter in route.get("parameters", ()) if parameter["in"] != "header"}
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in body:
        fields |= document["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    for name, schema in fields.items():
        default = f", default {schema['default']!r}" if schema.get("default") is not None else ""
        lines.append(f"      {name}{default}" + (f": {schema['description']}" if "description" in schema else ""))
    return [*lines, ""]
