"""Held against the published schemas: what the command line prints with `--json`."""

import json
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from pipeline.cli.printing import as_json
from schemas.__main__ import FOLDER
from schemas.answers.published import ANSWERS

STREAMED = {"sql"}
"""Answers of any length, which are written a row on a line as they come."""


def checked(name: str, text: str) -> Any:
    """The value of the JSON of an answer, by its name in ANSWERS. It is as its published schema says, and the models read from it
    what they had written."""
    schema = json.loads((FOLDER / "answers" / f"{name}.schema.json").read_text())
    value = json.loads(text, parse_constant=_refused)
    Draft202012Validator(schema).validate(value)
    written = as_json(TypeAdapter(ANSWERS[name]).validate_json(text))
    assert json.loads(written) == value
    assert written == text.rstrip("\n") or name in STREAMED
    return value


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
