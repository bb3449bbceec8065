"""The lists of uids that a recipe names, read before anything else: a run is of what they hold, whatever their files hold later."""

from typing import Any

from pipeline.errors import InputError, RecipeError
from pipeline.recipe.lists.uids import anywhere, digest_of, parted, pinned, read_uids
from pipeline.recipe.yaml_source import Source

KEYS = ("any_of_file", "none_of_file")


def pin_lists(source: Source, *, new: bool = False) -> None:
    """Writes into the rules what their lists hold, as a digest behind the name of the file; `new`: of those alone that have none.
    Raises RecipeError, which names the key, for a list that is not there, is none, or does not hold what its digest in the recipe
    says. A key that is wrong in itself is told of with the rest of the recipe."""
    rules = source.data.get("filters")
    for name, rule in rules.items() if isinstance(rules, dict) else ():
        for key in KEYS:
            if isinstance(rule, dict) and isinstance(rule.get(key), str) and not (new and parted(rule[key])[1]):
                rule[key] = _pinned(source, name, key, rule)


def _pinned(source: Source, name: str, key: str, rule: dict[str, Any]) -> str:
    place = f"{source.place(('filters', name, key))}: filters.{name}.{key}"
    try:
        url, said = parted(anywhere(rule[key]))
        keys = read_uids(url, str(rule.get("column", name)))
    except (ValueError, InputError) as error:
        raise RecipeError(f"{place}: {error}") from None
    except OSError as error:
        raise RecipeError(f"{place}: {parted(rule[key])[0]} cannot be read: {error.strerror or error}") from None
    if key == "any_of_file" and not len(keys):
        raise RecipeError(f"{place}: {url} holds no uid, so that no sample would be kept")
    if said not in (None, digest_of(keys)):
        raise RecipeError(f"{place}: {url} does not hold the uids that #uids= says, but those of #uids={digest_of(keys)}")
    return pinned(url, digest_of(keys))
