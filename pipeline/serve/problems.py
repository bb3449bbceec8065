"""What is wrong with a request, as an answer: a status, a code for programs and a sentence for people. The values of a request are
not repeated: they may be large, or somebody else's."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from schemas.answers.serving import Problem, Refusal

CODES = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "too_slow",
    413: "too_large", 421: "wrong_host", 422: "bad_request", 429: "too_many", 500: "defect", 503: "unavailable", 504: "too_slow",
}
LONGEST = 600
"""Characters of a message."""


class Refused(Exception):
    """A request that is not answered. Raised anywhere below a route."""

    def __init__(
        self, status: int, message: str, *, field: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.code, self.retry = status, message, field, code or CODES[status], retry


def refusal(refused: Refused) -> Response:
    """The answer to a refused request."""
    problem: dict[str, Any] = {"code": refused.code, "message": shortened(refused.message)}
    if refused.field is not None:
        problem["field"] = shortened(refused.field)
    answer = Refusal(error=Problem(**problem))
    headers = {"Retry-After": str(refused.retry)} if refused.retry is not None else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(answer.model_dump_json(exclude_unset=True), refused.status, headers, "application/json")


def shortened(text: str) -> str:
    """Bounded, and of characters that can be encoded."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def of_errors(errors: Sequence[Any]) -> Refused:
    """From pydantic's list of what is wrong: the first, by its field. Never with the value that was given."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] in ("json_invalid", "json_type"):
        return Refused(400, "the body is no JSON object of the fields that this path takes", code="not_json")
    said = first["msg"].removeprefix("Value error, ")
    return Refused(400, said if not place else f"{'.'.join(place)}: {said}", field=".".join(place) or None)
