"""Other roots that a recipe names: whose centroids it uses (`classes.fit_on`), whose class ids it keeps (`classes.ids_from`).

What they have published when a run begins is part of the run's plan and of its outputs' names; a run that is continued, or
asked for again, keeps to it, whatever those roots publish meanwhile.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.errors import RecipeError
from pipeline.input.discovery import Shard
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.sections import FITTED_HERE, SELF
from pipeline.store.store import Store


def named_folders(root: Store, recipe: Recipe, shards: Sequence[Shard]) -> dict[str, str]:
    """The folder of centroids in each root that the recipe names, by recipe key, and under `names` that root's table of classes.
    Raises RecipeError for a root that has none."""
    if root.exists("run.json"):
        stored = root.read_json("run.json")
        if stored["recipe"] == recipe.model_dump(mode="json") and stored["inputs"] == [asdict(shard) for shard in shards]:
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
    return named


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
