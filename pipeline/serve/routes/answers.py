"""How routes answer."""

from typing import Any

from fastapi import Response
from pydantic import ConfigDict, TypeAdapter

from schemas.answers.base import Answer
from schemas.answers.serving import Refusal

DOCUMENTED: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "what is wrong with the request"},
    404: {"model": Refusal, "description": "no such root, sample or picture"},
    413: {"model": Refusal, "description": "the request is too large"},
    503: {"model": Refusal, "description": "ask again after Retry-After seconds"},
}
"""For OpenAPI: what every route may answer instead."""
ANY = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="null"))


def answered(answer: Answer) -> Response:
    """An answer as JSON: written by its own model, once."""
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


def listed(values: list[Any] | tuple[Any, ...]) -> Response:
    """A list of answers, or of what JSON has, as JSON."""
    return Response(ANY.dump_json(values, exclude_unset=True, fallback=str), media_type="application/json")
