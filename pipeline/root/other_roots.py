"""Other roots that a recipe names: whose centroids it uses (`classes.fit_on`), whose class ids it keeps (`classes.ids_from`); and
what the root itself has published, where the run goes on from that (`index.grow`).

What they have published when a run begins is part of the run's plan and of its outputs' names; a run that is continued, or
asked for again, keeps to it, whatever those roots publish meanwhile.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import RecipeError
from pipeline.input.discovery import Shard
from pipeline.input.inventory.stored import same_inputs
from pipeline.outputs import INDEX_BASE
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.sections import FITTED_HERE, SELF, Classes, Index
from pipeline.recipe.settled import Settled
from pipeline.store.store import Store

CHOICE = ("fit_on", "ids_from")
"""Keys of a recipe's `classes` that say which classes a run has."""


def named_folders(root: Store, recipe: Recipe, shards: Sequence[Shard]) -> dict[str, str]:
    """The folder of centroids in each root that the recipe names, by recipe key, and under `names` that root's table of classes.
    Raises RecipeError for a root that has none."""
    if root.exists("run.json"):
        stored = root.read_json("run.json")
        before = {"index": Index().model_dump(mode="json"), **stored["recipe"]}   # roots of before there were indexes
        if before == recipe.model_dump(mode="json") and same_inputs(stored, shards):
            others: dict[str, str] = stored["outputs"].get("others", {})
            return others
    settings, named = recipe.classes, {}
    if settings.fit_on not in FITTED_HERE:
        named["fit_on"] = _published(settings.fit_on, "fit_on")
        named["names"] = _current(Store(settings.fit_on))["classes"]
    elif settings.ids_from == SELF:
        centroids = _current(root).get("centroids")
        named.update({} if centroids is None else {"ids_from": centroids})
    elif settings.ids_from is not None:
        named["ids_from"] = _published(settings.ids_from, "ids_from")
    base = _current(root).get("index") if recipe.index.of is not None and recipe.index.grow else None
    return named if base is None else named | {INDEX_BASE: str(base)}


def as_labelled(root: Store, recipe: Recipe, overrides: Sequence[str]) -> tuple[Recipe, Mapping[str, Any]]:
    """The recipe with the classes that `label` gave the root, and what it said before (`Settled.labelled`); as it is, and nothing,
    where the root was not labelled, or the recipe or an override says something else of `fit_on` and `ids_from` by now."""
    try:
        record = root.read_json("run.json")
        labelled = Settled.recorded(record).labelled
        chosen = {key: record["recipe"]["classes"][key] for key in CHOICE}
        classes = Classes.model_validate(recipe.classes.model_dump(mode="json") | chosen)
    except (FileNotFoundError, ValueError, KeyError, TypeError):   # none there, or damaged: the run makes it anew
        return recipe, {}
    said = any(text.partition("=")[0].strip() in ("classes", *(f"classes.{key}" for key in CHOICE)) for text in overrides)
    if not labelled or said or {key: getattr(recipe.classes, key) for key in CHOICE} != labelled:
        return recipe, {}
    return recipe.model_copy(update={"classes": classes}), labelled


def before_label(root: Store, recipe: Recipe) -> Mapping[str, Any]:
    """What the recipe of a root said of its classes before it was first labelled by another's."""
    earlier = Settled.recorded(root.read_json("run.json")).labelled
    return earlier or {key: getattr(recipe.classes, key) for key in CHOICE}


def place(root: Store, recipe: Recipe, key: str) -> Store:
    """The root that a recipe key (`fit_on`, `ids_from`) names."""
    url = getattr(recipe.classes, key)
    return root if url == SELF else Store(url)


def _published(url: str, key: str) -> str:
    folder = _current(Store(url)).get("centroids")
    if folder is None:
        raise RecipeError(f"classes.{key}: {url} is not a finished run with classes; name the root of one")
    return str(folder)


def _current(root: Store) -> dict[str, Any]:
    published: dict[str, Any] = root.read_json("current.json") if root.exists("current.json") else {}
    return published
