"""The commands of `shardmill recipes`: which there are, what one says, what it may say, and one to begin with."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import yaml

from pipeline.cli.colours import coloured
from pipeline.cli.commands import App
from pipeline.cli.options import AsJson, Overrides, RecipeName, Stages, preset_names, print_answer
from pipeline.cli.streams import answering
from pipeline.quantities import clean
from schemas.answers.recipes import RecipeKey, RecipeSummary, ResolvedRecipe, RuleColumn

app = App(no_args_is_help=True, rich_markup_mode=None, help="Recipes: list, show and begin them, and what they may say.")


@app.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """The recipes in the package: model, rules, and where their numbers come from."""
    from pipeline.queries.recipes import recipe_list

    print_answer(as_json, recipe_list(), _summaries)


@app.command()
def show(
    recipe: RecipeName, overrides: Overrides = None, stages: Stages = None,
    every_key: Annotated[bool, typer.Option("--all", help="every key, with the defaults")] = False,
    as_json: AsJson = False,
) -> None:
    """What a recipe says, with what it extends and --set: a recipe itself. Reads, checks and runs nothing of it."""
    from pipeline.queries.recipes import resolved_recipe

    print_answer(as_json, resolved_recipe(recipe, overrides or (), stages or (), every_key=every_key), _recipe)


@app.command()
def init(
    path: Annotated[
        str, typer.Argument(metavar="[FILE]", help="where to write it; a file that is there is left alone")
    ] = "recipe.yaml",
    preset: Annotated[
        str, typer.Option("--extends", metavar="PRESET", help="the preset that it changes", autocompletion=preset_names)
    ] = "laion400m",
) -> None:
    """Write a recipe of your own to begin with: it extends a preset, and editors know its keys."""
    from pipeline.queries.recipes import begin_recipe

    written = begin_recipe(path, preset)
    with answering():
        typer.echo(f"{written}: name its inputs, then try `shardmill plan {path}`")


@app.command()
def keys(
    prefix: Annotated[str, typer.Argument(metavar="[KEY]", help="only this key and those below it: classes, filters.RULE")] = "",
    as_json: AsJson = False,
) -> None:
    """The keys of a recipe: what each expects, its default and its meaning."""
    from pipeline.queries.recipes import recipe_keys

    print_answer(as_json, recipe_keys(prefix), _keys)


@app.command()
def columns(
    word: Annotated[str, typer.Argument(metavar="[WORD]", help="only those with this word in name or meaning")] = "",
    as_json: AsJson = False,
) -> None:
    """The columns that rules may read."""
    from pipeline.queries.recipes import rule_columns

    print_answer(as_json, rule_columns(word), _columns)


@app.command()
def schema() -> None:
    """The JSON Schema of a recipe, for editors that check YAML."""
    from pipeline.recipe.reading.json_schema import recipe_schema_text

    with answering():
        typer.echo(recipe_schema_text(), nl=False)


def _summaries(answer: Sequence[RecipeSummary]) -> None:
    for recipe in answer:
        print(f"{coloured(clean(recipe.name), 'name')}  {clean(recipe.model)}")
        _paragraph(f"rules: {', '.join(recipe.rules)}")
        _paragraph(recipe.source)


def _recipe(answer: ResolvedRecipe) -> None:
    text = yaml.safe_dump(answer.recipe, sort_keys=False, allow_unicode=True, width=120)
    print("\n".join(map(clean, text.splitlines())))


def _keys(answer: Sequence[RecipeKey]) -> None:
    for row in answer:
        default = "required" if row.required else "" if row.expects == "a section" else f"default {_value(row.default)}"
        print("  ".join(part for part in (coloured(row.key, "name"), row.expects, default) if part))
        _paragraph(row.meaning)


def _columns(answer: Sequence[RuleColumn]) -> None:
    for row in answer:
        print(f"{coloured(row.column, 'name')}  {row.type}, from {row.origin}")
        _paragraph(row.meaning)
    if not answer:
        print("no such column")


def _value(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _paragraph(text: str) -> None:
    width = min(shutil.get_terminal_size().columns, 120)
    print(textwrap.fill(clean(text), width, initial_indent="  ", subsequent_indent="  ", break_long_words=False,
                        break_on_hyphens=False))
