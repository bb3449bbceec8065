"""The stages that a recipe asks for beside those of every run: found, and their fields checked, before anything else is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.errors import InputError, RecipeError
from pipeline.recipe.messages import problems
from pipeline.recipe.rule_columns import COLUMNS, nearest
from pipeline.recipe.yaml_source import Source
from pipeline.registry import GROUP, Added, Offer, added, imported, of_settings, offers, producers, settings_model
from pipeline.stage import Stage

STAGES = "stages"


def asked_for(source: Source, targets: Sequence[str] = ()) -> tuple[Added, ...]:
    """The stages of the section `stages`, in its order, then those of `targets` (the operator's `package.module:Class`) that it
    does not name, which are written into it. Raises RecipeError with the place of everything that is wrong."""
    wanted = source.data.get(STAGES) or {}
    if not isinstance(wanted, dict) or not (wanted or targets):
        return ()   # what is no mapping is told of with the rest of the recipe
    try:
        offered = offers(targets)
        for target in targets:
            wanted.setdefault(imported(target).contract.name, {})
    except InputError as error:
        raise RecipeError(f"--stage: {error}") from None
    source.data[STAGES] = wanted
    faults, found = list[str](), list[Added]()
    for name, settings in wanted.items():
        try:
            found.append(_found(source, name, offered, {} if settings is None else settings))
        except RecipeError as error:
            faults.append(str(error))
    faults = faults or clashes(found, source)
    if faults:
        raise RecipeError("\n".join(faults))
    return tuple(found)


def _found(source: Source, name: str, offered: Mapping[str, Offer], settings: Any) -> Added:
    """Raises RecipeError, one line for each fault."""
    place = source.place((STAGES, name))
    if name not in offered:
        raise RecipeError(f"{place}: no stage is called {name}{_instead(name, offered)}")
    try:
        return added(name, _stage(source, name, offered[name], settings), offered[name])
    except InputError as error:
        raise RecipeError(f"{place}: {error}") from None


def _stage(source: Source, name: str, offer: Offer, settings: Any) -> Stage:
    """Raises InputError for a class that is no stage, RecipeError (one line for each) for wrong fields."""
    kind = imported(offer.target)
    if kind.contract.name != name:
        raise InputError(f"{offer.target} is offered as {name}, and calls itself {kind.contract.name}: one of the two is wrong")
    if not isinstance(settings, Mapping):
        raise InputError(f"{STAGES}.{name}: expected a mapping of its fields, not {settings!r}")
    try:
        return of_settings(kind, settings)
    except ValidationError as error:
        raise RecipeError("\n".join(problems(error, settings_model(kind), source, (STAGES, name)))) from None


def _instead(name: str, offered: Mapping[str, Offer]) -> str:
    guess = nearest(name, offered)
    there = f"; there are {', '.join(sorted(offered))}" if offered else ""
    return guess or f"{there}: install the package that offers it (entry point group {GROUP}), or name its class with --stage"


def clashes(found: Sequence[Added], source: Source) -> list[str]:
    """Columns that two of them write, or that are read and written by none before: one line for each."""
    owners = {name: column.origin for name, column in COLUMNS.items()} | producers()
    readable, faults = set(producers()), []   # what is known over the run comes after every stage
    for one in found:
        place = source.place((STAGES, one.name))
        for column in one.reads:
            if column not in readable:
                faults.append(f"{place}: {one.name} reads {column}, which nothing before it writes{nearest(column, readable)}")
        for column in one.gives:
            if column in owners:
                faults.append(f"{place}: {one.name} writes {column}, and so does {owners[column]}: drop one of the two")
            owners[column] = one.name
        readable.update(one.gives)
    return faults
