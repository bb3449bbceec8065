"""How far a run is, its account so far, and where its time goes. Reads listings, footers and the log only."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.curation import SUCCESS, identity
from pipeline.export.stored import has_export, stored_meta
from pipeline.outputs import OUTPUTS
from pipeline.plan import Plan
from pipeline.root.existing import open_root, readable
from pipeline.root.lock import seen
from pipeline.root.log import pass_usages
from pipeline.root.quarantine import quarantined
from pipeline.select.stored import has_ledger, stored_ledger
from pipeline.store.store import Store
from pipeline.store.tables import read_facts, stored_shards
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
    """The account of the last run; before the verdicts exist, of what is read so far. Raises RootError for what is no root."""
    whole = open_root(url)
    plan = readable(whole)
    root = plan.root
    account: dict[str, Any] = {"read": 0, "kept": None, "rejected": {}, "failed": {}, "gaps": [], "ignored": {}}
    if has_ledger(root, plan.verdicts):
        ledger = stored_ledger(root, plan.verdicts)
        account = {key: value for key, value in ledger.as_dict().items() if key in account}
    else:
        account = {**account, **read_so_far(plan)}
    given_up = sorted(quarantined(root, whole.shards).items())
    standing, holder = state(plan)
    return Status(
        root=url, recipe=plan.recipe.name, state=standing, holder=holder, **account, balance=balanced_export(plan),
        quarantined=tuple(QuarantinedShard(shard_id=shard_id, error=error) for shard_id, error in given_up),
        passes=passes(plan), columns=column_sets(plan), outputs=dict(plan.describe()),
        time=time_spent(root, running=holder is not None),
    )


def time_spent(root: Store, *, running: bool) -> tuple[PassTime, ...]:
    """By pass, in the order in which they ran. Of the shards that are done; an object store has the log of a minute ago."""
    return tuple(
        PassTime(
            name=name, at_work=running and one.at_work, thread_seconds=round(one.usage.total, 3),
            shares={activity: round(share, 4) for activity, share in one.usage.shares.items()},
            beside=one.usage.as_dict()["beside"], gpu_busy=one.usage.device(one.means), means=PassMeans(**asdict(one.means)),
            advice=one.advice)
        for name, one in pass_usages(root).items()
    )


def state(plan: Plan) -> tuple[RunState, RunHolder | None]:
    """The state of a run, and the holder of its root while it may be at work there. A holder on another machine is not waited for,
    so it may have been killed; the next run finds out."""
    last = seen(plan.root)
    standing = "dead" if last.released else last.holder.standing
    if standing != "dead":
        holder = RunHolder(host=last.holder.host, pid=last.holder.pid, since=last.holder.since)
        return "running" if standing == "alive" else "running or killed", holder
    if plan.root.exists(SUCCESS) and plan.root.read_json(SUCCESS)["plan"] == identity(plan):
        return "finished", None
    return "unfinished" if last.released else "stopped", None


def column_sets(plan: Plan) -> tuple[ColumnSet, ...]:
    """Every set of columns in the root: those of this plan (`current`), in the order of its passes, then those of other recipes,
    models or input lists."""
    ours = [*plan.columns.folders.values(), plan.run_columns]
    there = [f"columns/{name}" for name in plan.root.folders("columns")]
    found = []
    for folder in [*(f for f in ours if f in there), *(f for f in there if f not in ours)]:
        sizes = plan.root.sizes(folder)
        shards = sum(name.endswith(".parquet") for name in sizes)
        found.append(ColumnSet(
            name=folder.removeprefix("columns/"), current=folder in ours, shards=shards, bytes=sum(sizes.values())))
    return tuple(found)


def passes(plan: Plan) -> dict[str, PassProgress]:
    """Shards done and in all, by pass; how many the export will have is known when it is done."""
    folders = {
        "annotate": [plan.columns.folders[name] for name in plan.annotated],
        "entities": [plan.columns.folders[name] for name in plan.linked],
        **{output.counts: [path] for output in OUTPUTS if output.counts and (path := plan.folders[output.name])},
    }
    ours = {shard.shard_id for shard in plan.shards}
    found = {
        name: PassProgress(done=len(ours & stored_shards(plan.root, paths)), of=len(ours)) for name, paths in folders.items()
    }
    written = [name for name in plan.root.names(plan.export) if name.endswith("_stats.json")]
    total = stored_meta(plan.root, plan.export)["output_shard_count"] if has_export(plan.root, plan.export) else None
    return {**found, "export": PassProgress(done=len(written), of=total)}


def balanced_export(plan: Plan) -> BalancedExport | None:
    """What a balanced export made of the kept samples, once it is done."""
    if plan.balance is None or not has_export(plan.root, plan.export):
        return None
    meta = stored_meta(plan.root, plan.export)
    return BalancedExport(**{name: meta[name] for name in BalancedExport.model_fields})


def read_so_far(plan: Plan) -> dict[str, Any]:
    folder = plan.columns.folders["samples"]
    there = stored_shards(plan.root, [plan.columns.folders[name] for name in plan.annotated])
    read, gaps, failed, ignored = 0, [], Counter[str](), Counter[str]()
    for shard_id in sorted(there & {shard.shard_id for shard in plan.shards}):
        for name in plan.annotated:
            facts = read_facts(plan.root, f"{plan.columns.folders[name]}/{shard_id}.parquet")
            failed.update(facts["failed"])
        facts = read_facts(plan.root, f"{folder}/{shard_id}.parquet")
        read += facts["rows"]
        gaps += [{"shard_id": shard_id, **gap} for gap in facts["gaps"]]
        ignored.update(facts["ignored"])
    return {"read": read, "gaps": gaps, "failed": dict(failed), "ignored": dict(ignored)}
