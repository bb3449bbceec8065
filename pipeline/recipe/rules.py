"""The rules of a recipe: each names a column and a bound; a row that does not meet the bound is rejected by its name.

Here is what may be written and whether it fits the column. `select/thresholds.py` turns relative bounds (a share, a quantile)
into numbers, `select/verdicts.py` applies them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from pipeline.recipe.lists.uids import among, anywhere
from pipeline.recipe.rule_columns import COLUMNS, Column, column_named, columns_in_context


@dataclass(frozen=True)
class Threshold:
    """A row passes above `value`, and at `value` up to the global row number `last_tie` (None: all of them)."""

    value: float
    last_tie: int | None = None


Thresholds = Mapping[str, Threshold]


STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
UIDS = ("uid", "source_uid")
"""Columns that lists of uids in files are for."""
SCORES = ("clip_similarity",)
"""Columns whose numbers belong to one model, and for which shuffled pairs give a null distribution."""

Number = int | float
Text = str | int
Texts = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
UidList = Annotated[str, AfterValidator(anywhere)]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]


Holds = Callable[[pa.ChunkedArray, Any], pa.ChunkedArray]


@dataclass(frozen=True)
class Condition:
    """What a key of a bound means. A new one is a key of `Bound` or `Rule` and its entry in CONDITIONS."""

    phrase: str
    """in words, with {} for the value that it is set to"""
    holds: Holds | None = None
    """bool [n] (or null) for a column [n] and that value; None: relative to the run, so that a threshold decides"""
    side: Literal["lower", "upper"] | None = None
    """for numbers: the end that it bounds"""
    past_value: bool = False
    """the value itself lies on the lower side of the bound"""

    @property
    def relative(self) -> bool:
        """Whether its number follows from the run."""
        return self.holds is None


def scalar_of(value: object, type: pa.DataType) -> pa.Scalar:
    """The value as a column of this type compares with it: numbers in the column's own type, so that a float32 0.26 is at least
    0.26."""
    return pa.scalar(value, type) if pa.types.is_floating(type) else pa.scalar(value)


def _compared(compare: Callable[[pa.ChunkedArray, pa.Scalar], pa.ChunkedArray]) -> Holds:
    return lambda column, value: compare(column, scalar_of(value, column.type))


def _is_in(column: pa.ChunkedArray, values: tuple[Text, ...]) -> pa.ChunkedArray:
    set_of_values = pa.array(values)
    return pc.is_in(column.cast(set_of_values.type), set_of_values)


CONDITIONS: Mapping[str, Condition] = {
    "min": Condition("at least {}", _compared(pc.greater_equal), "lower"),
    "above": Condition("above {}", _compared(pc.greater), "lower", past_value=True),
    "fraction": Condition("among the highest {} of the run", None, "lower"),
    "null_quantile": Condition("at least the {} quantile of shuffled pairs", None, "lower"),
    "max": Condition("at most {}", _compared(pc.less_equal), "upper", past_value=True),
    "below": Condition("below {}", _compared(pc.less), "upper"),
    "any_of": Condition("one of {}", _is_in),
    "none_of": Condition("none of {}", lambda column, values: pc.invert(_is_in(column, values))),
    "any_of_file": Condition("one of the uids in {}", among),
    "none_of_file": Condition("none of the uids in {}", lambda column, named: pc.invert(among(column, named))),
    "equals": Condition("is {}", _compared(pc.equal)),
}
LOWER, UPPER = (tuple(name for name, condition in CONDITIONS.items() if condition.side == side) for side in ("lower", "upper"))


class Bound(BaseModel):
    """Conditions on one column; all that are given must hold. A null (or NaN) meets none of them."""

    model_config = STRICT

    min: Number | None = None
    """the value is at least this"""
    max: Number | None = None
    """the value is at most this"""
    above: Number | None = None
    """the value is greater than this"""
    below: Number | None = None
    """the value is less than this"""
    any_of: Texts | None = None
    """the value is one of these; for text and whole numbers"""
    none_of: Texts | None = None
    """the value is none of these; for text and whole numbers"""
    equals: bool | Text | None = None
    """the value is this; for true/false, text and whole numbers"""

    @property
    def conditions(self) -> dict[str, object]:
        """The conditions that are set, by name."""
        conditions = {name: getattr(self, name) for name in _conditions(type(self))}
        return {name: value for name, value in conditions.items() if value is not None}

    @property
    def relative(self) -> bool:
        """Whether a threshold of the run decides."""
        return any(CONDITIONS[name].relative for name in self.conditions)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        conditions = self.conditions
        if not conditions:
            raise ValueError("has no bound: give one of " + ", ".join(_conditions(type(self))))
        for side in (LOWER, UPPER):
            conflicting = [name for name in side if name in conditions]
            if len(conflicting) > 1:
                raise ValueError(f"has both {conflicting[0]} and {conflicting[1]}: keep one")
        self._not_empty()
        return self

    def _not_empty(self) -> None:
        low, high = (self.min if self.above is None else self.above), (self.max if self.below is None else self.below)
        if low is None or high is None:
            return
        if low > high or (low == high and not (self.above is None and self.below is None)):
            raise ValueError("no value can meet both bounds")

    def misfit(self, column: Column) -> str | None:
        """Why a condition does not fit the column's type; None when all do."""
        for name, value in self.conditions.items():
            reason = _misfit(name, value, column)
            if reason:
                return reason
        return None


def _conditions(kind: type[BaseModel]) -> list[str]:
    return [name for name in CONDITIONS if name in kind.model_fields]


def _misfit(condition: str, value: object, column: Column) -> str | None:
    if condition == "null_quantile" and column.name not in SCORES:
        return f"null_quantile fits {', '.join(SCORES)} alone: shuffled pairs say nothing of {column.name}"
    if condition in ("any_of_file", "none_of_file"):
        return None if column.name in UIDS else f"{condition} is a list of uids, and fits {' and '.join(UIDS)} alone"
    if CONDITIONS[condition].side is not None:
        use = "equals" if column.kind == "truth" else "equals, any_of or none_of"
        return None if column.kind == "number" else f"{condition} compares numbers, {column.name} is {_words(column)}: use {use}"
    if column.kind == "truth":
        fits = condition == "equals" and isinstance(value, bool)
        return None if fits else f"{column.name} is true or false: use equals: true or equals: false"
    if column.kind == "number" and pa.types.is_floating(column.type):
        return f"{condition} does not fit {column.name}, which is a decimal number: use min, max, above or below"
    kind = int if column.kind == "number" else str
    values = value if isinstance(value, tuple) else (value,)
    wrong = [item for item in values if not isinstance(item, kind) or isinstance(item, bool)]
    return f"{condition} of {column.name} must be {_words(column)}, not {wrong[0]!r}" if wrong else None


def _words(column: Column) -> str:
    return {"truth": "true or false", "text": "text", "number": "a whole number"}[column.kind]


Share = Annotated[Number, Field(ge=0, le=1)]


class Rule(Bound):
    """Rejects the rows whose column does not meet its bounds, unless one of `unless` holds."""

    column: str
    """the column that the rule reads; when left out, the rule's name"""
    any_of_file: UidList | None = None
    """the uid is in this file: .txt (one a line), .parquet or .npy (DataComp's); `FILE#uids=DIGEST` says what it has to hold"""
    none_of_file: UidList | None = None
    """the uid is not in this file, which is as for any_of_file"""
    fraction: Share | None = None
    """the value is among the floor(n x fraction) highest of the run's n readable rows"""
    ties: Literal["row_id", "datacomp"] = "row_id"
    """of `fraction`: equal values by row id, so that the count is exact; or DataComp's: at least the value at rank
    int(n x fraction), counted from 0, which keeps that row and all its equals"""
    null_quantile: Share | None = None
    """the similarity is at least this quantile of the run's own shuffled pairs: calibrated for each run and model"""
    for_model: str | None = None
    """the `NAME/PRETRAINED` that the bound was made for; another model needs its own bound"""
    unless: dict[str, Bound] = {}
    """column: bound; a row for which one of these holds is let through"""

    @model_validator(mode="after")
    def _columns_fit(self, info: ValidationInfo) -> Self:
        columns = columns_in_context(info.context)
        bounds: list[tuple[str, Bound, str]] = [(self.column, self, "")]
        bounds += [(name, bound, f"unless.{name}: ") for name, bound in self.unless.items()]
        for name, bound, prefix in bounds:
            try:
                misfit = bound.misfit(column_named(name, columns))
            except ValueError as error:
                raise ValueError(f"{prefix}{error}") from None
            if misfit:
                raise ValueError(f"{prefix}{misfit}")
        return self

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that the rule looks at, its own first."""
        return (self.column, *self.unless)


Rules = Mapping[str, Rule]


def columns_read(rules: Rules, columns: Mapping[str, Column] = COLUMNS) -> dict[str, tuple[str, ...]]:
    """The columns that rules read, by who writes them; `columns` are those of their recipe (`Recipe.columns`)."""
    by_origin: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for rule in rules.values() for name in rule.reads):
        by_origin.setdefault(columns[name].origin, []).append(name)
    return {origin: tuple(names) for origin, names in by_origin.items()}
