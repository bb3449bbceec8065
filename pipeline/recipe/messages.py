"""What the keys of a recipe expect, in plain words: for the messages about a wrong recipe and for its reference."""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.recipe.rule_columns import spelling_hint
from pipeline.recipe.yaml_source import Path, Source

NOT_IN_A_RECIPE = {"workers", "address", "output", "threads"}
SCALARS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
LIMITS = {Ge: (">=", "ge"), Gt: (">", "gt"), Le: ("<=", "le"), Lt: ("<", "lt")}


def expected(field: FieldInfo) -> str:
    """What a value of this key must be, in words: `auto, cpu or cuda`, `a whole number >= 1 or null`."""
    return _phrase(field.annotation, field.metadata)


def _phrase(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = arguments[1:]
        return _phrase(arguments[0], [m for item in inner for m in (item.metadata if isinstance(item, FieldInfo) else [item])])
    if origin is Literal:
        return _either([str(value) for value in arguments])
    if origin in (Union, types.UnionType):
        alternatives = [item for item in arguments if not (item is int and float in arguments)]
        return _either([_phrase(item, () if item is type(None) else metadata) for item in alternatives])
    if origin is tuple:
        return f"a list of {_phrase(arguments[0])}" + (" (not empty)" if any(isinstance(m, MinLen) for m in metadata) else "")
    if origin is dict and arguments[1] is Any:
        return "a mapping of its fields"
    if origin is dict:
        return f"a mapping of names to {_phrase(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__.lower() + "s" if annotation.__name__ in ("Rule", "Bound") else "a section"
    return SCALARS.get(annotation, getattr(annotation, "__name__", str(annotation))) + _limits(metadata)


def _limits(metadata: list[Any] | tuple[Any, ...]) -> str:
    limits = [f"{sign} {getattr(m, name)}" for m in metadata for kind, (sign, name) in LIMITS.items() if isinstance(m, kind)]
    return " " + " and ".join(limits) if limits else ""


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_inner, get_args(annotation))), None)


def keys(model: type[BaseModel], prefix: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every key of a model with the keys of its sections; the rules' names are not keys."""
    for name, field in model.model_fields.items():
        yield (*prefix, name), field
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, (*prefix, name))


def _at(model: type[BaseModel], path: Path) -> FieldInfo | type[BaseModel] | None:
    """The field at a path of the data; a model where the path ends at a rule; None where nothing is known."""
    current: type[BaseModel] | None = model
    node: FieldInfo | type[BaseModel] | None = model
    mapping = False
    for part in path:
        if mapping:
            mapping, node = False, current
            continue
        if current is None or part not in current.model_fields:
            return None
        node = current.model_fields[part]
        mapping = get_origin(node.annotation) is dict
        current = _inner(node.annotation)
    return node


def problems(error: ValidationError, model: type[BaseModel], source: Source, at: Path = ()) -> list[str]:
    """One line for each wrong key, in the order of the keys: where it is, what is wrong, what to write. `at` is where in the
    data the model's keys are."""
    data: Any = source.data
    for part in at:
        data = data[part]
    lines: dict[Path, str] = {}
    for item in error.errors():
        path = _in_data(item["loc"], data)
        if path not in lines:
            lines[path] = f"{source.place((*at, *path))}: {_reason(dict(item), path, model, at)}"
    return list(lines.values())


def _in_data(location: tuple[int | str, ...], data: Any) -> Path:
    """The location without pydantic's own marks (which member of a union it tried)."""
    path: list[str] = []
    for index, part in enumerate(location):
        inside = data if isinstance(data, Mapping) else dict(enumerate(data)) if isinstance(data, list) else {}
        missing = index == len(location) - 1 and isinstance(data, Mapping) and part != "[key]"
        if part in inside or missing:
            data = inside.get(part)
            path.append(str(part))
    return tuple(path)


def _reason(item: dict[str, Any], path: Path, model: type[BaseModel], at: Path) -> str:
    dotted, kind = ".".join((*at, *path)), item["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        return f"{dotted}: unknown key{_instead(path, model)}"
    if kind == "value_error":
        return f"{dotted}: {item['ctx']['error']}" if dotted else str(item["ctx"]["error"])
    if kind == "string_pattern_mismatch" and "[key]" in item["loc"]:
        noun = "stage" if path[0] == "stages" else "rule"
        return f"{dotted}: a {noun}'s name has small letters, digits and _ and starts with a letter"
    field = _at(model, path) or _at(model, path[:-1])
    expectation = expected(field) if isinstance(field, FieldInfo) else "a mapping"
    if kind == "missing":
        return f"{dotted}: missing; expected {expectation}"
    return f"{dotted}: expected {expectation}, not {item['input']!r}{_hint(item['input'])}"


def _hint(value: Any) -> str:
    if isinstance(value, bool):
        return " (YAML reads yes, no, on and off as true and false: quote them)"
    try:
        number = repr(float(value)).removesuffix(".0") if isinstance(value, str) else ""
    except ValueError:
        return ""
    if "e" in number and "." not in number:
        number = number.replace("e", ".0e")   # YAML reads 1e-05 as text
    return f" (that is text in YAML: write {number})" if number else ""


def _instead(path: Path, model: type[BaseModel]) -> str:
    """The nearest valid key, looked for among its siblings first, then everywhere."""
    if path[0] in NOT_IN_A_RECIPE:
        return f"; it must not change a byte of the output, so it is no part of a recipe: give --{path[0]} on the command line"
    parent = _at(model, path[:-1])
    owner = parent if isinstance(parent, type) else _inner(parent.annotation) if parent else model
    siblings = list(owner.model_fields) if owner else []
    elsewhere = {".".join(key): key[-1] for key, _ in keys(model)}
    matches = [dotted for dotted, last in elsewhere.items() if last == path[-1]]
    if spelling_hint(path[-1], siblings):
        return spelling_hint(path[-1], siblings)
    return f"; did you mean {matches[0]}?" if matches else f"; valid here: {', '.join(siblings)}"
