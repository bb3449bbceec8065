"""The stages that a recipe asks for beside those of every run: found, and their fields checked, before anything else is read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.errors import InputError, RecipeError
from pipeline.recipe.messages import problems
from pipeline.recipe.rule_columns import COLUMNS, JSON, spelling_hint
from pipeline.recipe.rules import CONDITIONS
from pipeline.recipe.yaml_source import Source
from pipeline.registry import GROUP, Added, Offer, added_stage, import_stage, offers, producers, settings_model, stage_of_settings
from pipeline.stage import Stage

STAGES = "stages"
METADATA = "metadata"
"""The stage that makes columns of the samples' own metadata: rules ask for it by `column: json.KEY`."""
NUMERIC = tuple(name for name, condition in CONDITIONS.items() if condition.side is not None)


def requested_stages(source: Source, targets: Sequence[str] = ()) -> tuple[Added, ...]:
    """The stages of the section `stages`, in its order, then those of `targets` (the operator's `package.module:Class`) that it
    does not name; those are written into the section. Raises RecipeError with the place of everything that is wrong."""
    requested = source.data.get(STAGES) or {}
    keys = metadata_keys(source)
    if not isinstance(requested, dict) or not (requested or targets or keys):
        return ()   # what is no mapping is told of with the rest of the recipe
    if keys:
        requested = {**requested, METADATA: with_keys(requested.get(METADATA), keys)}
    try:
        offered = offers(targets)
        for target in targets:
            requested.setdefault(import_stage(target).contract.name, {})
    except InputError as error:
        raise RecipeError(f"--stage: {error}") from None
    source.data[STAGES] = requested
    faults, stages = list[str](), list[Added]()
    for name, settings in requested.items():
        try:
            stages.append(_requested(source, name, offered, {} if settings is None else settings))
        except RecipeError as error:
            faults.append(str(error))
    faults = faults or column_clashes(stages, source)
    if faults:
        raise RecipeError("\n".join(faults))
    return tuple(stages)


def _requested(source: Source, name: str, offered: Mapping[str, Offer], settings: Any) -> Added:
    """Raises RecipeError, one line for each fault."""
    place = source.place((STAGES, name))
    if name not in offered:
        raise RecipeError(f"{place}: no stage is called {name}{_instead(name, offered)}")
    try:
        return added_stage(name, _stage(source, name, offered[name], settings), offered[name])
    except InputError as error:
        raise RecipeError(f"{place}: {error}") from None


def _stage(source: Source, name: str, offer: Offer, settings: Any) -> Stage:
    """Raises InputError for a class that is no stage, RecipeError (one line for each) for wrong fields."""
    kind = import_stage(offer.target)
    if kind.contract.name != name:
        raise InputError(f"{offer.target} is offered as {name}, and calls itself {kind.contract.name}: one of the two is wrong")
    if not isinstance(settings, Mapping):
        raise InputError(f"{STAGES}.{name}: expected a mapping of its fields, not {settings!r}")
    try:
        return stage_of_settings(kind, settings)
    except ValidationError as error:
        raise RecipeError("\n".join(problems(error, settings_model(kind), source, (STAGES, name)))) from None


def _instead(name: str, offered: Mapping[str, Offer]) -> str:
    guess = spelling_hint(name, offered)
    alternatives = f"; there are {', '.join(sorted(offered))}" if offered else ""
    remedy = f"install the package that offers it (entry point group {GROUP}), or name its class with --stage"
    return guess or f"{alternatives}: {remedy}"


def metadata_keys(source: Source) -> dict[str, str]:
    """The keys that rules read as `json.KEY`, each with the field of the metadata stage that it belongs to. Raises RecipeError
    where two rules read one key as two kinds."""
    kinds, first = dict[str, str](), dict[str, str]()
    for rule, column, bound in _bounds(source.data.get("filters")):
        kind = kind_compared(bound)
        if not column.startswith(JSON) or kind is None:
            continue
        key = column.removeprefix(JSON)
        if kinds.setdefault(key, kind) != kind:
            raise RecipeError(
                f"{source.place(('filters', rule))}: {column} is read as one of {kind.replace('_', ' ')} here and of "
                f"{kinds[key].replace('_', ' ')} by {first[key]}: compare it in one way")
        first.setdefault(key, rule)
    return kinds


def _bounds(rules: Any) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(rule, column, conditions) of each rule and its exceptions, as written; what is no rule is told of later."""
    for name, rule in rules.items() if isinstance(rules, dict) else ():
        if isinstance(rule, dict):
            yield name, str(rule.get("column", name)), rule
            unless = rule.get("unless")
            for column, bound in unless.items() if isinstance(unless, dict) else ():
                if isinstance(bound, dict):
                    yield name, str(column), bound


def kind_compared(bound: Mapping[str, Any]) -> str | None:
    """The field of the metadata stage whose columns fit these conditions; None where there is none among them."""
    if any(bound.get(name) is not None for name in NUMERIC):
        return "numbers"
    values = [bound[name] for name in ("any_of", "none_of", "equals") if bound.get(name) is not None]
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    if not flat:
        return None
    if all(isinstance(item, bool) for item in flat):
        return "truths"
    return "whole_numbers" if all(type(item) is int for item in flat) else "texts"


def with_keys(settings: Any, keys: Mapping[str, str]) -> Any:
    """The fields of the metadata stage with these keys as well, those left out that it has. What is no mapping is told of later."""
    if not isinstance(settings, Mapping | None):
        return settings
    fields = {name: list(named) if isinstance(named, list | tuple) else named for name, named in (settings or {}).items()}
    listed = {key for named in fields.values() if isinstance(named, list) for key in named}
    for key, kind in sorted(keys.items()):
        if key not in listed and isinstance(fields.setdefault(kind, []), list):
            fields[kind].append(key)
    return fields


def column_clashes(stages: Sequence[Added], source: Source) -> list[str]:
    """One line for each column that two stages write, and for each that is read and written by none before."""
    owners = {name: column.origin for name, column in COLUMNS.items()} | producers()
    readable, faults = set(producers()), []   # what is known over the run comes after every stage
    for stage in stages:
        place = source.place((STAGES, stage.name))
        for column in stage.reads:
            if column not in readable:
                hint = spelling_hint(column, readable)
                faults.append(f"{place}: {stage.name} reads {column}, which nothing before it writes{hint}")
        for column in stage.gives:
            if column in owners:
                faults.append(f"{place}: {stage.name} writes {column}, and so does {owners[column]}: drop one of the two")
            owners[column] = stage.name
        readable.update(stage.gives)
    return faults
