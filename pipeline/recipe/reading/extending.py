"""A recipe on top of a preset: `extends: laion400m`, and then only what is otherwise.

Sections are put together key by key, and what a recipe says wins. A rule keeps its place in the order; its new bound replaces the
preset's on the same side, as `--set` does; `NAME: null` removes it. Rules that the preset has not come after its own.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.errors import RecipeError
from pipeline.recipe.reading.presets import preset_source, presets
from pipeline.recipe.rule_columns import spelling_hint
from pipeline.recipe.yaml_source import Data, Source, displaced

EXTENDS = "extends"


def extended(source: Source) -> Source:
    """The recipe with all that the preset says which it extends; the recipe itself where it extends none. Raises RecipeError for
    what is no preset, and for a rule that the preset has not and the recipe removes."""
    if EXTENDS not in source.data:
        return source
    name, place = source.data[EXTENDS], source.place((EXTENDS,))
    if name not in presets():
        hint = spelling_hint(str(name), presets()) or f"; there are {', '.join(presets())}"
        raise RecipeError(f"{place}: extends: no preset is called {name}{hint}")
    base = preset_source(name)
    own = {key: value for key, value in source.data.items() if key != EXTENDS}
    inherited = {key: value for key, value in base.data.items() if key != "name"}   # what differs is called otherwise
    data = _on_top(own, inherited)
    rules, removed = inherited.get("filters", {}), _removed(own)
    for rule in removed:
        if rule not in rules:
            there = spelling_hint(rule, rules)
            raise RecipeError(f"{source.place(('filters', rule))}: {name} has no rule {rule} to remove{there}")
    if removed:
        data["filters"] = {rule: bounds for rule, bounds in data["filters"].items() if rule not in removed}
    lines = {path: line for path, line in base.lines.items() if path != ("name",)}
    return replace(source, data=data, base=replace(base, lines=lines))


def _removed(own: Data) -> set[str]:
    rules = own.get("filters")
    return {rule for rule, bounds in rules.items() if bounds is None} if isinstance(rules, dict) else set()


def _on_top(own: Any, base: Any, path: tuple[str, ...] = ()) -> Any:
    """Two values of one key, put together. Lists and single values are replaced."""
    if not (isinstance(own, dict) and isinstance(base, dict)):
        return own
    if path[:1] == ("filters",) and len(path) == 2:
        return _rule(own, base, path[1])
    if path == ("model",) and "name" in own:
        base = {key: value for key, value in base.items() if key != "pretrained"}   # weights belong to the model that they name
    both = {key: _on_top(own[key], value, (*path, key)) if key in own else value for key, value in base.items()}
    return both | {key: value for key, value in own.items() if key not in base}


def _rule(own: Data, base: Data, name: str) -> Data:
    if own.get("column", base.get("column", name)) != base.get("column", name):
        return own   # bounds on another column mean nothing for this one
    gone = set[str]().union(*(displaced(key) for key in own))
    kept = {key: value for key, value in base.items() if key not in gone}
    exceptions = [part["unless"] for part in (base, own) if isinstance(part.get("unless"), Mapping)]
    return {**kept, **own, **({"unless": {**exceptions[0], **exceptions[1]}} if len(exceptions) == 2 else {})}
