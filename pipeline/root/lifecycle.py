"""What a root goes through: it is nobody else's, a run claims it, and a last file says that the run got to its end."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pipeline.errors import InputError, RootError
from pipeline.input.inventory.stored import INPUTS, summary, write_inputs
from pipeline.plan import Plan
from pipeline.root.entries import MANIFEST, OF_BEFORE, damaged_sizes, discard
from pipeline.root.existing import readable
from pipeline.root.manifest import Workers, write_manifest
from pipeline.root.quarantine import quarantined
from pipeline.root.versions import versions
from pipeline.select.ledger import Ledger
from pipeline.select.stored import stored_ledger
from pipeline.stage import digest
from pipeline.store.blocks.either import forget_blocks
from pipeline.store.store import PARTIAL, Store

SUCCESS = "_SUCCESS"
OURS = {"run.json", INPUTS, MANIFEST, OF_BEFORE, "log", "columns", "tables", "exports", "quarantine", PARTIAL}
"""What may lie in a root before its run.json: a run that was stopped early leaves no more."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    plan: Plan
    """Over the shards that could be read."""
    ledger: Ledger
    finished_before: bool = False


def refuse_foreign(root: Store) -> None:
    """Raises RootError when the root is somebody else's folder: it has files, none is run.json, and some are not of a run."""
    names = {*root.names(), *root.folders()}
    if names and "run.json" not in names and not names <= OURS:
        raise RootError(f"{root.url} is not empty and not a root of shardmill (no run.json): choose another --output")


def finished(plan: Plan, *, retry: bool = False) -> Result | None:
    """The result of an earlier run of this very plan, if it got to its end and all its files are still there; not when
    shards in quarantine are to be tried again (`retry`). Raises InputError when every shard is in quarantine."""
    if not plan.root.exists(SUCCESS) or (retry and quarantined(plan.root, plan.shards)):
        return None
    active = without_quarantined(plan)
    try:
        if plan.root.read_json(SUCCESS)["plan"] != identity(active) or damaged_sizes(plan.root):
            return None
        return Result(active, stored_ledger(plan.root, active.verdicts), finished_before=True)
    except (ValueError, KeyError, FileNotFoundError):   # a damaged marker: the run makes it anew
        return None


def identity(plan: Plan) -> str:
    """Hex digest of the names of all outputs and of the input shards; `_SUCCESS` says of which plan it is by it."""
    return digest([plan.describe(), plan.inputs])


def claim(plan: Plan) -> None:
    """Makes the root this plan's: clears what killed processes left, takes back what is damaged, writes run.json. The caller holds
    the root's lock and has asked `refuse_foreign`."""
    root = plan.root
    root.clear_partial()
    forget_blocks(root)
    with suppress(FileNotFoundError):   # there is no manifest yet
        for path in damaged_sizes(root):
            discard(root, path)
    root.remove(SUCCESS)
    write_inputs(root, plan.shards)
    root.write_json("run.json", {
        "recipe": plan.recipe.model_dump(mode="json"), "outputs": plan.describe(), "versions": versions(),
        "output_versions": {name: plan.versions[name] for name in plan.folders},
        "precision": list(plan.settled.distances), "settled": {
            "ner": plan.settled.ner, **({"labelled": dict(plan.settled.labelled)} if plan.settled.labelled else {})},
        "stages": {stage.name: stage.record() for stage in plan.recipe.added},
        "inputs": summary(plan.shards),
    })


def given_up(plan: Plan, active: Plan) -> list[str]:
    """The shards of a plan that are not in what is left of it, which lie in quarantine."""
    left = {shard.shard_id for shard in active.shards}
    return [shard.shard_id for shard in plan.shards if shard.shard_id not in left]


def without_quarantined(plan: Plan) -> Plan:
    """The plan over the shards that are not in quarantine. Raises InputError when every shard is."""
    active = readable(plan)
    if plan.shards and not active.shards:
        errors = quarantined(plan.root, plan.shards)
        shard_id, error = next(iter(errors.items()))
        raise InputError(
            f"no shard could be read; {len(errors)} are in quarantine, e.g. {shard_id}: {error}; "
            "the same command with --retry-quarantined tries them again"
        )
    return active


def succeed(result: Result, fence: Callable[[], None], workers: Workers) -> None:
    """Writes the manifest and `_SUCCESS`, the last file of a run: readers may rely on everything else. `fence` raises when the root
    is another run's by now; `workers` have what is to be hashed hashed."""
    fence()
    manifest = write_manifest(result.plan, workers)
    result.plan.root.write_json(SUCCESS, {"plan": identity(result.plan), "manifest_sha256": manifest, **{
        key: value for key, value in result.ledger.stored().items() if key != "shards"
    }})
