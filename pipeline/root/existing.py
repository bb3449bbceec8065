"""An output root, opened to be looked at: what its run.json says, as a plan. Nothing is started or written."""

from pydantic import ValidationError

from pipeline.columns import Rows, Run
from pipeline.errors import RootError
from pipeline.plan import Plan
from pipeline.root.quarantine import quarantined
from pipeline.store.store import Store
from pipeline.store.tables import read_many_facts


def open_root(url: str) -> Plan:
    """The plan of a root, over all its inputs. Raises RootError when it is none, is damaged, or was made by another version."""
    root = Store(url)
    if not root.exists("run.json"):
        raise RootError(f"{url} is not an output root of shardmill: it has no run.json")
    try:
        return Plan.stored(root)
    except ValidationError as error:
        raise RootError(f"{url}: run.json is damaged or was written by another version of shardmill: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise RootError(f"{url}: run.json is damaged: {error}") from None


def readable(plan: Plan) -> Plan:
    """The plan over the shards that are not in quarantine: its names are those of the tables that were written."""
    errors = quarantined(plan.root, plan.shards)
    return plan.restricted([shard for shard in plan.shards if shard.shard_id not in errors])


def gathered(plan: Plan) -> Run:
    """The columns of a plan whose annotate pass is done. Raises FileNotFoundError where it is not."""
    folder = plan.columns.folders["samples"]
    footers = read_many_facts(plan.root, [f"{folder}/{shard.shard_id}.parquet" for shard in plan.shards])
    counts = tuple(int(footer["rows"]) for footer in footers)
    return Run(plan.columns, Rows(tuple(shard.shard_id for shard in plan.shards), counts))
