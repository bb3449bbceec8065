"""The metadata stage: values of the samples' own metadata objects as columns that rules may read.

A recipe gets it by a rule with `column: json.KEY` (`recipe/further_stages.py`), or by naming keys in `stages.metadata`.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from pipeline.input.metadata import metadata_object
from pipeline.input.text import whole_characters
from pipeline.recipe.rule_columns import JSON
from pipeline.stage import NOTHING, Contract, Stage, Transform, stage_columns, stage_schema
from schemas.columns import UID, error

WHOLE = re.compile(r"[+-]?\d{1,19}")
INT64 = range(-(2**63), 2**63)


def number_of(value: Any) -> float | None:
    """A JSON number, or text that reads as one (LAION's metadata has such); None for anything else and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole_number_of(value: Any) -> int | None:
    """A whole number of 64 bits, or text that is one."""
    if (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and WHOLE.fullmatch(value.strip())):
        value = int(value)
    return value if type(value) is int and value in INT64 else None


def text_of(value: Any) -> str | None:
    """Text as it is, in whole characters; numbers and truth values as JSON writes them."""
    if isinstance(value, str):
        return whole_characters(value)
    return json.dumps(value) if isinstance(value, bool | int | float) else None


def truth_of(value: Any) -> bool | None:
    """true or false, as JSON's own or as text in any case."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


KINDS: Mapping[str, tuple[pa.DataType, str, Callable[[Any], Any]]] = {
    "numbers": (pa.float64(), "as a number: a JSON number, or text that reads as one", number_of),
    "whole_numbers": (pa.int64(), "as a whole number, or text that is one", whole_number_of),
    "texts": (pa.string(), "as text", text_of),
    "truths": (pa.bool_(), "as true or false", truth_of),
}
"""Fields of the stage: the type of their columns, what they mean, and the value of such a column."""


@dataclass(frozen=True)
class MetadataStage(Stage):
    """One column `json.KEY` for each key; KEY may lead into nested objects with dots. A value that is not there, or not of its
    kind, is null; of a sample without an object all are."""

    contract = Contract("metadata", version=1, reads=("metadata",), writes=pa.schema([UID, error("metadata")]), carries=NOTHING)

    numbers: tuple[str, ...] = ()
    whole_numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [key for field in fields(self) for key in getattr(self, field.name)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"{JSON}{twice[0]} is listed twice: a key is a number, a whole number, a text or a truth value")

    @property
    def writes(self) -> pa.Schema:
        columns = [(f"{JSON}{key}", type, f"{key} of the sample's own metadata object, {meaning}")
                   for key, type, meaning, _ in self._columns()]
        return stage_schema("metadata", *columns)

    def _columns(self) -> Iterator[tuple[str, pa.DataType, str, Callable[[Any], Any]]]:
        for kind, (type, meaning, value) in KINDS.items():
            for key in getattr(self, kind):
                yield key, type, meaning, value

    @contextmanager
    def open(self) -> Iterator[Transform]:
        schema, columns = self.writes, [(f"{JSON}{key}", key, value) for key, _, _, value in self._columns()]

        def transform(batch: pa.RecordBatch) -> pa.RecordBatch:
            objects = [metadata_object(content) or {} if content else {} for content in batch["metadata"].to_pylist()]
            return stage_columns(schema, batch, {name: [value(at(object, key)) for object in objects]
                                                 for name, key, value in columns})

        yield transform


def at(object: Mapping[str, Any], key: str) -> Any:
    """The value of a key; dots lead into nested objects where no key is called so as a whole."""
    if key in object:
        return object[key]
    value: Any = object
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
