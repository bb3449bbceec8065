"""What recipes there are, and what they may say: the answers behind `shardmill recipes`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.errors import InputError
from pipeline.recipe.messages import expected, keys
from pipeline.recipe.reading.presets import presets
from pipeline.recipe.recipe import Recipe, load
from pipeline.recipe.reference import schema_file
from pipeline.recipe.rule_columns import COLUMNS, spelling_hint
from pipeline.recipe.rules import Bound, Rule
from schemas.answers.recipes import RecipeKey, RecipeSummary, ResolvedRecipe, RuleColumn

RULE = ("filters", "RULE")
EXCEPTION = (*RULE, "unless", "COLUMN")
BEGUN = """\
# yaml-language-server: $schema={schema}
# A recipe of shardmill. What it may say: shardmill recipes keys; what rules may read: shardmill recipes columns.
name: {name}
extends: {preset}   # what that says: shardmill recipes show {preset}
# folders, globs, brace patterns or URLs of shards, as "s3://bucket/shards/{{00000..00999}}.tar"; the command line's go first
inputs: []
# What is otherwise than in {preset}, for example:
# filters:
#   clip_similarity: {{min: 0.28}}   # another bound
#   language: null                 # a rule less
#   too_small: {{column: shortest_side, min: 200}}
# classes: {{k: 256}}
"""


def recipe_list() -> tuple[RecipeSummary, ...]:
    """The recipes in the package, by name."""
    recipes = [load(name) for name in presets()]
    return tuple(
        RecipeSummary(name=recipe.name, model=recipe.model.label, rules=tuple(recipe.filters), source=recipe.source)
        for recipe in recipes
    )


def resolved_recipe(
    name: str, overrides: Sequence[str] = (), stages: Sequence[str] = (), *, every_key: bool = False
) -> ResolvedRecipe:
    """What a recipe says with what it extends and with the overrides: what is not so by default, or every key. Raises
    RecipeError."""
    recipe = load(name, overrides, stages)
    return ResolvedRecipe(recipe=recipe.model_dump(mode="json", exclude_defaults=not every_key))


def recipe_keys(prefix: str = "") -> tuple[RecipeKey, ...]:
    """Every key of a recipe, or that of this name and those below it. Raises InputError for a key that is none."""
    rows = tuple(_keys())
    below = tuple(row for row in rows if not prefix or row.key == prefix or row.key.startswith(f"{prefix}."))
    if not below:
        names = [row.key for row in rows]
        last = [name for name in names if name.rpartition(".")[2] == prefix.rpartition(".")[2]]
        hint = f"; did you mean {last[0]}?" if last else spelling_hint(prefix, names) or "; without a name all are listed"
        raise InputError(f"a recipe has no key {prefix}{hint}")
    return below


def _keys() -> Iterator[RecipeKey]:
    for path, field in keys(Recipe):
        yield _key(path, field)
        if path == RULE[:1]:
            yield from (_key((*RULE, *inner), of_rule) for inner, of_rule in keys(Rule))
            yield from (_key((*EXCEPTION, *inner), of_bound) for inner, of_bound in keys(Bound))


def _key(path: tuple[str, ...], field: FieldInfo) -> RecipeKey:
    section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    optional = path == (*RULE, "column")   # the rule's name
    default = None if section or field.is_required() else field.default
    return RecipeKey(
        key=".".join(path), expects=expected(field), required=field.is_required() and not optional, default=default,
        meaning=" ".join((field.description or "").split()))


def rule_columns(word: str = "") -> tuple[RuleColumn, ...]:
    """The columns that rules may read, in the order of who writes them; or those of which this word stands in name or meaning."""
    rows = (RuleColumn(column=c.name, type=str(c.type), origin=c.origin, meaning=c.doc) for c in COLUMNS.values())
    return tuple(row for row in rows if word.lower() in f"{row.column} {row.origin} {row.meaning}".lower())


def begin_recipe(path: str, preset: str) -> str:
    """Writes a recipe that extends a preset, to begin with, and returns its path. Raises InputError where there is a file, or
    where there is no such preset."""
    if preset not in presets():
        raise InputError(f"no preset is called {preset}{spelling_hint(preset, presets()) or '; there are ' + ', '.join(presets())}")
    target = Path(path)
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in target.stem)
    text = BEGUN.format(schema=schema_file().as_uri(), name=f'"{name}"', preset=preset)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} is there already, and is left as it is: name another file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return path
