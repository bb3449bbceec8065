"""The answers of `recipes`: which recipes the package has, what one says, and what a recipe may say."""

from typing import Any

from schemas.answers.base import Answer


class RecipeSummary(Answer):
    """A recipe in the package."""

    name: str
    """how it is named on the command line, and in `extends`"""
    model: str
    """NAME/PRETRAINED of its model, or the name alone"""
    rules: tuple[str, ...]
    """names of its rules, in their order"""
    source: str
    """where its numbers come from"""


class ResolvedRecipe(Answer):
    """A recipe with what it extends and with the overrides of the command line."""

    recipe: dict[str, Any]
    """what is not so by default, or with --all every key; a recipe itself, as recipe.schema.json says"""


class RecipeKey(Answer):
    """A key of a recipe."""

    key: str
    """with dots; RULE and COLUMN stand for names that a recipe chooses"""
    expects: str
    """what its value must be, in words"""
    required: bool
    """whether there is no default"""
    default: Any
    """its value where a recipe does not say it; null as well where it is required or a section"""
    meaning: str
    """what it does"""


class RuleColumn(Answer):
    """A column that rules may read."""

    column: str
    """its name"""
    type: str
    """Arrow's name of its type"""
    origin: str
    """the stage that writes it, or what computes it over the run"""
    meaning: str
    """what it holds, with the unit"""
