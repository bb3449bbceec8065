"""The text of a recipe and the `key=value` overrides on top of it, as plain data that still knows where each key is from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipeline.errors import RecipeError
from pipeline.input.text import whole_characters
from pipeline.recipe.rule_columns import spelling_hint
from pipeline.recipe.rules import LOWER, UPPER

Path = tuple[str, ...]
Data = dict[str, Any]

NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)
"""What PyYAML raises: its own error, and for `!!int x`, a month 13, `!!bool x`, `!!timestamp x`, 1000 brackets the others."""


@dataclass
class Source:
    """A recipe before validation. `lines` and `overridden` say where a dotted key was written."""

    name: str
    data: Data
    lines: dict[Path, int] = field(default_factory=dict)
    overridden: dict[Path, str] = field(default_factory=dict)
    base: "Source | None" = None
    """The preset that it extends; `data` holds what both say."""

    def place(self, path: Path) -> str:
        """Where a key was set, for a message: the override or `file:line` of the key or of the nearest key above it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return f"--set {self.overridden[path[:length]]}"
        below = [text for key, text in self.overridden.items() if key[:len(path)] == path]
        if below:
            return f"--set {below[0]}"
        for length in range(len(path), 0, -1):
            for source in (self, self.base):
                if source is not None and path[:length] in source.lines:
                    return f"{source.name}:{source.lines[path[:length]]}"
        return self.name


def parse(name: str, text: str) -> Source:
    """A recipe from its YAML; `name` stands in messages. Raises RecipeError with the line for what is not YAML, not a mapping,
    or set twice."""
    try:
        data = _plain(name, text)
        node = yaml.compose(text, yaml.SafeLoader)
    except NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise RecipeError(f"{name}: a recipe is a mapping of sections, not {type(data).__name__}")
    source = Source(name, data)
    for path, line in _keys(node, ()):
        if path in source.lines:
            raise RecipeError(f"{name}:{line}: {'.'.join(path)} is set twice (first in line {source.lines[path]})")
        source.lines[path] = line
    return source


def _plain(name: str, text: str) -> Any:
    """The value of a YAML text: plain data, no tag runs anything. Raises one of NOT_YAML; RecipeError for an alias, with
    which a few lines could stand for gigabytes, and for half a character, which no file of a run could hold."""
    for token in yaml.scan(text):
        if isinstance(token, yaml.AliasToken):
            raise RecipeError(f"{name}: a recipe has no aliases (*name); write the value out")
        if isinstance(token, yaml.ScalarToken) and whole_characters(token.value) != token.value:
            where = name if name.startswith("--set") else f"{name}:{token.start_mark.line + 1}"
            raise RecipeError(f"{where}: {token.value!a} has half of a surrogate pair: write the whole character, or its \\U code")
    return yaml.safe_load(text)


def _keys(node: yaml.Node | None, path: Path) -> Iterator[tuple[Path, int]]:
    """Every key with its line, parents first."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            key_path = (*path, str(key.value))
            yield key_path, key.start_mark.line + 1
            yield from _keys(value, key_path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, str(index)), item.start_mark.line + 1
            yield from _keys(item, (*path, str(index)))


def apply(source: Source, overrides: Sequence[str]) -> None:
    """Sets each `key=value` in the data, in order; the value is YAML. Keys and types are checked later, with the rest.

    `filters.NAME=null` removes a rule. A rule has one lower and one upper bound at most, so an override of one replaces
    the file's (and the model that the file's bound was made for).
    """
    for text in overrides:
        key, equals, value = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            raise RecipeError(f"--set {text}: write key=value, the key with dots: filters.clip_similarity.min=0.25")
        try:
            parsed = _plain(f"--set {text}", value)
        except NOT_YAML:
            raise RecipeError(f"--set {text}: the value is not valid YAML; quote it") from None
        section = _section(source, path[:-1], text)
        if len(path) == 2 and path[0] == "filters" and parsed is None:
            _remove(section, path[1], text)
            continue
        if len(path) == 3 and path[0] == "filters":
            _replace_bounds(source, section, path)
        section[path[-1]] = parsed
        source.overridden = {other: origin for other, origin in source.overridden.items() if other[:len(path)] != path}
        source.overridden[path] = text


def _section(source: Source, path: Path, text: str) -> Data:
    """The mapping at a path, made where it is missing."""
    section = source.data
    for length, part in enumerate(path, start=1):
        if section.get(part) is None:
            section[part] = {}
        if not isinstance(section[part], dict):
            raise RecipeError(f"--set {text}: {'.'.join(path[:length])} is not a section, it is set to {section[part]!r}")
        section = section[part]
    return section


def _remove(rules: Data, name: str, text: str) -> None:
    if name not in rules:
        raise RecipeError(f"--set {text}: there is no rule {name} to remove" + spelling_hint(name, rules))
    del rules[name]


def _replace_bounds(source: Source, rule: Data, path: Path) -> None:
    """Drops the file's bounds on the side that the override sets, and what belongs to them."""
    for name in displaced(path[-1]):
        if (*path[:-1], name) not in source.overridden:
            rule.pop(name, None)


def displaced(key: str) -> set[str]:
    """The keys of a rule that a new bound `key` takes the place of: the others on its side, and what belongs to them."""
    for side in (LOWER, UPPER):
        if key in side:
            companions = ("for_model",) if key in ("fraction", *UPPER) else ("for_model", "ties")
            return {*side, *companions} - {key}
    return set()
