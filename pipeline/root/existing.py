"""An output root, opened to be looked at: what its run.json says, as a plan. Nothing is started or written."""

import re
from typing import Any

from pydantic import ValidationError

from pipeline.columns import Rows, Run
from pipeline.errors import RootError
from pipeline.plan import Plan
from pipeline.root.quarantine import quarantined
from pipeline.store.blocks.either import forget_blocks
from pipeline.store.store import Store
from pipeline.store.tables import read_many_facts

CURRENT = "current.json"
"""Names the outputs that are published: the one place that says so on every store."""
SEMANTIC_ACCOUNT = "account.json"
"""Beside the pairs of semantic duplicates; it says that all are there."""
FOLDER = re.compile(r"([a-z_]+/)?([a-z_]+@)?[0-9a-f]{12}")


def open_root(url: str) -> Plan:
    """The plan of a root, over all its inputs. Raises RootError when it is none, is damaged, or was made by another version."""
    root = Store(url)
    forget_blocks(root)
    if not root.exists("run.json"):
        raise RootError(f"{url} is not an output root of shardmill: it has no run.json")
    try:
        return Plan.stored(root)
    except ValidationError as error:
        raise RootError(f"{url}: run.json is damaged or was written by another version of shardmill: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise RootError(f"{url}: run.json is damaged: {error}") from None


def published(root: Store) -> dict[str, str | None]:
    """The folders of the outputs that belong to the published export, by name (`Output.name`), as current.json has them. Raises
    RootError before anything is published, and where that file is damaged or leads out of the root."""
    try:
        folders = root.read_json(CURRENT)
    except FileNotFoundError:
        raise RootError(f"{root.url} has published nothing yet: run its command again first") from None
    except ValueError as error:
        raise RootError(f"{root.url}/{CURRENT} is damaged ({error}): run its command again") from None
    named = folders.items() if isinstance(folders, dict) else [("", "")]
    if not all(folder is None or (isinstance(folder, str) and FOLDER.fullmatch(folder)) for _, folder in named):
        raise RootError(f"{root.url}/{CURRENT} is damaged: it does not name folders of shardmill; run its command again")
    return dict(named)


def readable(plan: Plan) -> Plan:
    """The plan over the shards that are not in quarantine: its names are those of the tables that were written."""
    errors = quarantined(plan.root, plan.shards)
    return plan.restricted([shard for shard in plan.shards if shard.shard_id not in errors])


def pair_tables(plan: Plan) -> list[str]:
    """Paths of the tables of duplicate pairs: the exact and near ones, and the semantic ones that are there so far."""
    semantic = plan.semantic_pairs
    names = [] if semantic is None else [name for name in plan.root.names(semantic) if name.endswith(".parquet")]
    return [f"{plan.duplicates}/duplicates.parquet", *(f"{semantic}/{name}" for name in names)]


def semantic_account(plan: Plan) -> dict[str, Any] | None:
    """What was compared for semantic duplicates and what came of it, in numbers; None where it was not, or not yet."""
    path = f"{plan.semantic_pairs}/{SEMANTIC_ACCOUNT}"
    if plan.semantic_pairs is None or not plan.root.exists(path):
        return None
    account: dict[str, Any] = plan.root.read_json(path)
    return account


def gathered(plan: Plan) -> Run:
    """The columns of a plan whose annotate pass is done. Raises FileNotFoundError where it is not."""
    folder = plan.columns.folders["samples"]
    footers = read_many_facts(plan.root, [f"{folder}/{shard.shard_id}.parquet" for shard in plan.shards])
    counts = tuple(int(footer["rows"]) for footer in footers)
    return Run(plan.columns, Rows(tuple(shard.shard_id for shard in plan.shards), counts))
