"""The recipes in the package."""

from importlib import resources
from typing import Any

from pipeline.recipe.yaml_source import Source, parse


def presets() -> list[str]:
    """The names of the recipes in the package, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """The YAML of a recipe in the package, by a name of `presets`."""
    text: str = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    return text


def preset_source(name: str) -> Source:
    """A recipe in the package as data, by a name of `presets`."""
    return parse(f"{name}.yaml (preset)", preset_text(name))


def _folder() -> Any:
    return resources.files("pipeline") / "recipe" / "presets"
