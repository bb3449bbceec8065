"""The columns that rules may read: every scalar that a stage writes, and what is known of a sample over the whole run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import pyarrow as pa

from pipeline.recipe.derived import DERIVED
from pipeline.registry import CORE, Added, is_scalar
from schemas import columns as schemas

CLASS_COLUMNS = frozenset({*schemas.LABELS.names[1:], "class_id"})


@dataclass(frozen=True)
class Column:
    """A column that a rule may read, and who writes it: a stage, the reductions `duplicates` and `semantic_duplicates`, or
    `derived.py`."""

    name: str
    type: pa.DataType
    doc: str
    origin: str

    @property
    def kind(self) -> Literal["number", "truth", "text"]:
        """Which conditions fit it: those of numbers, truth values or text."""
        if pa.types.is_boolean(self.type):
            return "truth"
        return "text" if pa.types.is_string(self.type) else "number"


SEMANTIC = "semantic_duplicates"
"""Who writes the columns that are known after the clustering, which is of what the rules on all other columns keep."""
OVER_THE_RUN = {
    "duplicates": [
        schemas.field("exact_duplicate", pa.bool_(), "another sample of the run has the same image bytes and is preferred"),
        schemas.field("near_duplicate", pa.bool_(), "another sample of the run has nearly the same picture and is preferred"),
    ],
    "derived": [field for derived in DERIVED for field in derived.fields],
    SEMANTIC: [
        schemas.field("semantic_duplicate", pa.bool_(), "a preferred sample of its class has nearly the same embedding; null where "
                      "another rule rejects it"),
        schemas.field("semantic_similarity", pa.float32(), "the highest cosine to a preferred sample of its class (greedy: "
                      "to one that stays); -1 where none is preferred"),
    ],
}


NOT_READ = ("phash",)
JSON = "json."
"""Before a key of the samples' own metadata, where a rule or `classes.reference_column` reads it."""


def _named(origin: str, fields: Iterable[pa.Field]) -> dict[str, Column]:
    readable = (field for field in fields if is_scalar(field) and field.name not in NOT_READ)
    return {field.name: Column(field.name, field.type, field.metadata[b"doc"].decode(), origin) for field in readable}


def _columns() -> dict[str, Column]:
    columns: dict[str, Column] = {}
    written = {"samples": schemas.SAMPLES, **{name: core.schema for name, core in CORE.items()}}
    for origin, fields in {**written, **OVER_THE_RUN}.items():
        for name, column in _named(origin, fields).items():
            columns.setdefault(name, column)   # uid is the source's
    return columns


COLUMNS: Mapping[str, Column] = _columns()
"""Of the stages that are in every run, and over the run."""

ADDED = "added"


def columns_with(added: Iterable[Added]) -> Mapping[str, Column]:
    """The columns of a recipe that asks for these further stages."""
    return {**COLUMNS} | {name: column for stage in added for name, column in _named(stage.name, stage.schema).items()}


def columns_in_context(context: Any) -> Mapping[str, Column]:
    """The columns of the recipe that is being validated: pydantic's context holds its further stages under `ADDED`."""
    return columns_with(context[ADDED]) if context else COLUMNS


def spelling_hint(name: str, valid: Iterable[str]) -> str:
    """A half sentence that suggests the nearest valid name; empty when none is near."""
    close = get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def column_named(name: str, columns: Mapping[str, Column] = COLUMNS) -> Column:
    """The column of this name. Raises ValueError, which suggests the nearest valid one, where there is none."""
    if name in columns:
        return columns[name]
    if name in CLASS_COLUMNS:
        raise ValueError(f"a rule cannot read {name}: classes are made from what the rules keep")
    if name.startswith(JSON):
        raise ValueError(f"{name} of the samples' metadata was not read: run the recipe with the rule that reads it")
    raise ValueError(f"no stage writes a column {name}" + (spelling_hint(name, columns) or f": choose one of {', '.join(columns)}"))
