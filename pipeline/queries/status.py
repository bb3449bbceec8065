"""How far a run is, its account so far, and where its time goes. Reads listings, footers and the log only."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.export.stored import has_export, stored_meta
from pipeline.outputs import OUTPUTS
from pipeline.plan import Plan
from pipeline.queries.nothing_kept import nothing_kept
from pipeline.queries.places import former_exports
from pipeline.registry import SOURCE
from pipeline.root.existing import open_root, readable
from pipeline.root.lifecycle import SUCCESS, identity
from pipeline.root.lock import lock_state
from pipeline.root.log import pass_usages
from pipeline.root.quarantine import how_to_retry, quarantined
from pipeline.select.ledger import ignored_of
from pipeline.select.stored import has_ledger, stored_ledger
from pipeline.store.store import Store
from pipeline.store.tables import read_many_facts, stored_shards
from schemas.answers.runs import (
    BalancedExport,
    ColumnSet,
    PassMeans,
    PassProgress,
    PassTime,
    QuarantinedShard,
    RunHolder,
    RunState,
    Status,
)


def status(url: str) -> Status:
    """How far a run is, and its account: that of its verdicts, or before they exist of what is read so far. Raises RootError for
    what is no root."""
    plan = open_root(url)
    active = readable(plan)
    root = active.root
    account: dict[str, Any] = {"read": 0, "kept": None, "rejected": {}, "failed": {}, "gaps": [], "ignored": {}, "ignored_in": []}
    why = ""
    if has_ledger(root, active.verdicts):
        ledger = stored_ledger(root, active.verdicts)
        why = nothing_kept(active, ledger)
        account = {key: value for key, value in ledger.as_dict().items() if key in account}
    else:
        account = {**account, **read_so_far(active)}
    errors = sorted(quarantined(root, plan.shards).items())
    run_state, holder = state(active)
    return Status(
        root=url, recipe=active.recipe.name, state=run_state, holder=holder, **account, balance=balanced_export(active),
        nothing_kept=why,
        quarantined=tuple(QuarantinedShard(shard_id=shard_id, error=error) for shard_id, error in errors),
        retry=how_to_retry(len(errors)),
        passes=passes(active), columns=column_sets(active), outputs=dict(active.describe()),
        former_exports=former_exports(active),
        time=time_spent(root, running=holder is not None),
    )


def time_spent(root: Store, *, running: bool) -> tuple[PassTime, ...]:
    """Where the time of each pass went, over the shards that are done, in the order in which the passes ran; an object store has
    the log of a minute ago. `running`: a process holds the root."""
    return tuple(
        PassTime(
            name=name, at_work=running and spent.at_work, thread_seconds=round(spent.usage.total, 3),
            shares={activity: round(share, 4) for activity, share in spent.usage.shares.items()},
            beside=spent.usage.as_dict()["beside"], gpu_busy=spent.usage.device(spent.means),
            means=PassMeans(**asdict(spent.means)), advice=spent.advice)
        for name, spent in pass_usages(root).items()
    )


def state(plan: Plan) -> tuple[RunState, RunHolder | None]:
    """The state of a run, and the holder of its root while it may be at work there. A holder on another machine is not waited for,
    so it may have been killed; the next run finds out."""
    lock = lock_state(plan.root)
    standing = "dead" if lock.released else lock.holder.standing
    if standing != "dead":
        holder = RunHolder(host=lock.holder.host, pid=lock.holder.pid, since=lock.holder.since)
        return "running" if standing == "alive" else "running or killed", holder
    if plan.root.exists(SUCCESS) and plan.root.read_json(SUCCESS)["plan"] == identity(plan):
        return "finished", None
    return "unfinished" if lock.released else "stopped", None


def column_sets(plan: Plan) -> tuple[ColumnSet, ...]:
    """Every set of columns in the root: those of this plan (`current`), in the order of its passes, then those of other recipes,
    models or input lists."""
    current = [*plan.columns.folders.values(), plan.run_columns, *filter(None, [plan.semantic_columns])]
    present = [f"columns/{name}" for name in plan.root.folders("columns")]
    sets = []
    for folder in [*(f for f in current if f in present), *(f for f in present if f not in current)]:
        sizes = plan.root.sizes(folder)
        shards = len(stored_shards(plan.root, [folder]))
        sets.append(ColumnSet(
            name=folder.removeprefix("columns/"), current=folder in current, shards=shards, bytes=sum(sizes.values())))
    return tuple(sets)


def passes(plan: Plan) -> dict[str, PassProgress]:
    """How many shards of each pass are done, and of how many; how many the export will have is known when it is done."""
    folders = {
        "annotate": [plan.columns.folders[name] for name in plan.annotated],
        "entities": [plan.columns.folders[name] for name in plan.linked],
        **{output.counts: [path] for output in OUTPUTS if output.counts and (path := plan.folders.get(output.name))},
    }
    shard_ids = {shard.shard_id for shard in plan.shards}
    progress = {
        name: PassProgress(done=len(shard_ids & stored_shards(plan.root, paths)), of=len(shard_ids))
        for name, paths in folders.items()
    }
    written = [name for name in plan.root.names(plan.export) if name.endswith("_stats.json")]
    total = stored_meta(plan.root, plan.export)["output_shard_count"] if has_export(plan.root, plan.export) else None
    return {**progress, "export": PassProgress(done=len(written), of=total)}


def balanced_export(plan: Plan) -> BalancedExport | None:
    """What a balanced export made of the kept samples; None where it is not balanced, or not done."""
    if plan.balance is None or not has_export(plan.root, plan.export):
        return None
    meta = stored_meta(plan.root, plan.export)
    return BalancedExport(**{name: meta[name] for name in BalancedExport.model_fields})


def read_so_far(plan: Plan) -> dict[str, Any]:
    """The account of the shards that are annotated: samples read, gaps, failures and ignored members by reason."""
    done = stored_shards(plan.root, [plan.columns.folders[name] for name in plan.annotated])
    read, gaps, failed, ignored, ignored_in = 0, [], Counter[str](), Counter[str](), list[dict[str, Any]]()
    shard_ids = sorted(done & {shard.shard_id for shard in plan.shards})
    files = [(shard_id, name) for shard_id in shard_ids for name in plan.annotated]
    footers = read_many_facts(plan.root, [f"{plan.columns.folders[name]}/{shard_id}.parquet" for shard_id, name in files])
    for (shard_id, name), facts in zip(files, footers, strict=True):
        failed.update(facts["failed"])
        if name == SOURCE:
            read += facts["rows"]
            gaps += [{"shard_id": shard_id, **gap} for gap in facts["gaps"]]
            ignored.update(facts["ignored"])
            ignored_in += ignored_of(facts)
    return {"read": read, "gaps": gaps, "failed": dict(failed), "ignored": dict(ignored), "ignored_in": ignored_in}
