"""The metadata object of a sample: JSON of anybody in, JSON that every strict reader takes out."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pipeline.input.text import whole_characters

MAX_DEPTH = 256
"""Levels of a metadata object. Python's own bound depends on who calls, so that two runs could differ."""
STRINGS, BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL), re.compile(rb"[][{}]")
"""A string, the last one of a text that was cut too: else the search for its end would begin anew at every quote in it."""
LEAST, MOST = -(2**63), 2**64 - 1
"""Whole numbers that fast JSON readers and Arrow take."""

EMPTY, NOT_UTF8, NOT_JSON, NOT_AN_OBJECT, TOO_DEEP = "empty", "not_utf8", "not_json", "not_an_object", "too_deep"


def nesting_depth(content: bytes) -> int:
    """How deep JSON nests; an upper bound where it has few brackets at all."""
    deepest = content.count(b"{") + content.count(b"[")
    if deepest <= MAX_DEPTH:
        return deepest
    level = deepest = 0
    for bracket in BRACKETS.findall(STRINGS.sub(b"", content)):
        level += 1 if bracket in b"{[" else -1
        deepest = max(deepest, level)
    return deepest


def parsed(content: bytes) -> tuple[Any, str | None]:
    """The value of a metadata member, and why it is no JSON object (None where it is one). The value is None where it cannot be
    read."""
    if not content.strip():
        return None, EMPTY
    if nesting_depth(content) > MAX_DEPTH:
        return None, TOO_DEEP
    try:
        value = json.loads(content)
    except UnicodeDecodeError:
        return None, NOT_UTF8
    except (ValueError, RecursionError):
        return None, NOT_JSON
    return value, None if isinstance(value, dict) else NOT_AN_OBJECT


def metadata_object(content: bytes) -> dict[str, Any] | None:
    """The metadata object; None if the bytes are not one, or nest deeper than MAX_DEPTH."""
    value, problem = parsed(content)
    return value if problem is None else None


def carried_object(content: bytes | None) -> dict[str, Any]:
    """What goes out of a sample's metadata: its object; of another value an object that has it as `source`; empty where nothing can
    be read."""
    value = parsed(content)[0] if content else None
    if isinstance(value, dict):
        return value
    return {} if value is None else {"source": value}


def strict(value: Any) -> Any:
    """The value as every JSON reader takes it: numbers that are not finite are null, whole numbers beyond 64 bits are text, half a
    surrogate pair is U+FFFD. Nothing of an ordinary value changes."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if LEAST <= value <= MOST else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _with_names(value)
    return [strict(item) for item in value]


def _with_names(value: Mapping[str, Any]) -> dict[str, Any]:
    """Names that are the same once they can be written are told apart, so that no value is lost."""
    written: dict[str, Any] = {}
    for key, item in value.items():
        name = whole_characters(key)
        while name in written or (name != key and name in value):
            name += "_"
        written[name] = strict(item)
    return written


def dumped(value: Mapping[str, Any]) -> bytes:
    """The object as JSON in UTF-8 that strict readers take."""
    return json.dumps(strict(value), ensure_ascii=False, allow_nan=False).encode()
