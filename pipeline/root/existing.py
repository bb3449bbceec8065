"""An output root, opened to be looked at: what its run.json says, as a plan. Nothing is started or written."""

import re

from pydantic import ValidationError

from pipeline.errors import RootError
from pipeline.input.discovery import Shard
from pipeline.plan import Plan
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rule_columns import ADDED
from pipeline.registry import added_from_record
from pipeline.root.quarantine import quarantined
from pipeline.store.store import Store

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""What shardmill names shards and folders: in another's root the names in run.json must not lead out of it either."""


def open_root(url: str) -> Plan:
    """The plan of a root, over all its inputs. Raises RootError when it is none, is damaged, or was made by another version."""
    root = Store(url)
    if not root.exists("run.json"):
        raise RootError(f"{url} is not an output root of shardmill: it has no run.json")
    try:
        stored = root.read_json("run.json")
        added = [added_from_record(name, record) for name, record in stored.get("stages", {}).items()]
        recipe = Recipe.model_validate(stored["recipe"], context={ADDED: added})
        shards = tuple(Shard(**entry) for entry in stored["inputs"])
        linked_later = {"entities", *(stage.name for stage in added)}
        folders = stored["outputs"]["columns"]
        columns = {name: folder.rpartition("@")[2] for name, folder in folders.items() if name not in linked_later}
        named = [*columns, *columns.values(), *linked_later, *(s.shard_id for s in shards)]
        unsafe = [name for name in named if not NAME.fullmatch(name)]
        if unsafe:
            raise ValueError(f"no shard or stage is named {unsafe[0]!r}")
        plan = Plan(root, recipe, shards, stored["outputs"]["route"], columns, stored["outputs"].get("others", {}))
    except ValidationError as error:
        raise RootError(f"{url}: run.json is damaged or was written by another version of shardmill: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise RootError(f"{url}: run.json is damaged: {error}") from None
    return plan


def readable(plan: Plan) -> Plan:
    """The plan over the shards that are not in quarantine: its names are those of the tables that were written."""
    errors = quarantined(plan.root, plan.shards)
    return plan.restricted([shard for shard in plan.shards if shard.shard_id not in errors])
