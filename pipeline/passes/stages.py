"""The passes that run stages over the shards: `annotate`, by what a shard alone says, and `link`, by what the whole run says too.

Both run only what is missing of a shard (`passes/annotate.py` says how). What cannot be read goes to quarantine, and the run goes
on without it.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from pipeline.driver import Driver
from pipeline.errors import InputError
from pipeline.input.witnesses import witnesses
from pipeline.passes.annotate import Annotate, MissingColumns, steps
from pipeline.passes.shards.compaction import take_out
from pipeline.plan import Plan
from pipeline.registry import SOURCE, producers
from pipeline.root.lifecycle import without_quarantined
from pipeline.root.manifest import of_shards
from pipeline.root.quarantine import ANNOTATE, given_up_during, quarantine, quarantined, release
from pipeline.stage import Stage
from pipeline.store.store import Store
from pipeline.store.tables import read_many_facts, stored_shards


def annotate(plan: Plan, driver: Driver, *, threads: int = 1, retry_quarantined: bool = False) -> Plan:
    """Writes the columns of every stage that needs no more than its shard, and returns the plan over the shards that could be read.
    `threads`: batches that an actor has in work at once. Raises InputError when no shard could be read."""
    forget_changed(plan)
    missing = missing_columns(plan, plan.annotated)
    release_whole(plan, missing, also_exported=retry_quarantined)
    skipped = set() if retry_quarantined else quarantined(plan.root, plan.shards).keys()
    items = [columns for columns in missing if columns.shard.shard_id not in skipped]
    if items:
        work = stages_work(plan, plan.stages, items, threads)
        given_up = driver.run("annotate", work, items, done=len(plan.shards) - len(items))
        if given_up and len({*skipped, *(outcome.item.shard.shard_id for outcome in given_up)}) == len(plan.shards):
            example = given_up[0]   # no shard is left: whatever it is, it is not one shard's
            raise InputError(f"no shard could be read, e.g. {example.item}: {example.error}; see to it, then run again")
        for outcome in given_up:
            quarantine(plan.root, outcome.item.shard, outcome)
        if retry_quarantined:
            release_whole(plan, missing_columns(plan, plan.annotated))
    return without_quarantined(plan)


def link(plan: Plan, driver: Driver) -> None:
    """Writes the entities, and the columns of the stages that read them; from stored columns, unless one of those looks at pixels.
    Raises ShardmillError for a shard that it cannot do."""
    items = missing_columns(plan, plan.linked)
    if items:
        work = replace(stages_work(plan, plan.linked_stages, items), linking=True)
        driver.must("entities", work, items, done=len(plan.shards) - len(items))


def stages_work(plan: Plan, stages: Sequence[Stage], items: Sequence[MissingColumns], threads: int = 1) -> Annotate:
    """The work with those of the stages that some shard needs: where none needs the model, the pass needs no place for one."""
    writers = producers(plan.recipe.added)
    needed = steps(stages, frozenset[str]().union(*(columns.names for columns in items)), writers).stages
    chosen = tuple(stages[i] for i in needed)
    return Annotate(plan.columns, chosen, plan.recipe.reading, threads, writers=writers, witnesses=witnesses(plan.shards))


def missing_columns(plan: Plan, names: Sequence[str]) -> list[MissingColumns]:
    """Shards that lack columns of some of these stages, in order. One listing a stage."""
    stored = {name: stored_shards(plan.root, [plan.columns.folders[name]]) for name in names}
    columns = (MissingColumns(s, frozenset(name for name in names if s.shard_id not in stored[name])) for s in plan.shards)
    return [item for item in columns if item.names]


def release_whole(plan: Plan, missing: Collection[MissingColumns], *, also_exported: bool = False) -> None:
    """A shard that is in quarantine and lacks nothing was read by a retry: it leaves it. One that export gave up lacks nothing, and
    stays until it is to be tried again (`also_exported`)."""
    lacking = {columns.shard.shard_id for columns in missing}
    for shard_id in quarantined(plan.root, plan.shards).keys() - lacking:
        if also_exported or given_up_during(plan.root, shard_id) == ANNOTATE:
            release(plan.root, shard_id)


def forget_changed(plan: Plan) -> None:
    """Removes what was made from other versions of the input files; the footer of `samples` says of which one it is."""
    folder = plan.columns.folders[SOURCE]
    there = stored_shards(plan.root, [folder])
    stored = [shard for shard in plan.shards if shard.shard_id in there]
    footers = read_many_facts(plan.root, [f"{folder}/{shard.shard_id}.parquet" for shard in stored])
    pairs = zip(stored, footers, strict=True)
    forget(plan.root, [shard.shard_id for shard, footer in pairs if footer.get("version") != shard.version])


def forget(root: Store, shard_ids: Collection[str]) -> None:
    """Removes the columns of shards whose files are not what they were, and their entries in quarantine. `samples` goes last:
    stopped half-way, the next run knows that the rest is to go."""
    if not shard_ids:
        return
    for shard_id in shard_ids:
        release(root, shard_id)
    for folder in sorted(root.folders("columns"), key=lambda name: name.startswith("samples@")):
        take_out(root, f"columns/{folder}", set(shard_ids))
        for name in root.names(f"columns/{folder}"):
            if of_shards(name, shard_ids):
                root.remove(f"columns/{folder}/{name}")
