"""The text of a recipe: a preset by its name, a file, or a URL."""

from difflib import get_close_matches
from pathlib import PurePath

from pipeline.errors import InputError, RecipeError
from pipeline.recipe.reading.extending import extended
from pipeline.recipe.reading.presets import preset_source, presets
from pipeline.recipe.yaml_source import Source, parse
from pipeline.store.store import read_small

LARGEST = 1 << 18
"""Bytes of a recipe: a hundred times as many as the longest preset has, and parsed within seconds."""


def written_recipe(name: str) -> Source:
    """The recipe of this name (a preset, a file or a URL) as data, with what it extends. It is read as text, and nothing that it
    says is run. Raises RecipeError."""
    if name in presets():
        return preset_source(name)
    try:
        content = read_small(name, LARGEST)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise RecipeError(_unknown(name)) from None
    except InputError as error:
        raise RecipeError(str(error)) from error
    if len(content) > LARGEST:
        raise RecipeError(f"{name} is larger than 256 KiB, which no recipe is: name the YAML file of one")
    try:
        return extended(parse(name, content.decode()))
    except UnicodeDecodeError:
        raise RecipeError(f"{name} is not a text file in UTF-8") from None


def _unknown(name: str) -> str:
    close = get_close_matches(PurePath(name).name.removesuffix(".yaml"), presets(), n=1, cutoff=0.5)
    guess = f"did you mean {close[0]}? " if close else ""
    return f"no preset and no file {name}; {guess}presets: {', '.join(presets())}"
