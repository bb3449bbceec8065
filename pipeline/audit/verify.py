"""Checks a finished root from its files alone: conservation, hashes, counts. Every fault is named; none means all is there."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline.audit.deep import Deep
from pipeline.audit.exported import export_faults
from pipeline.audit.indexed import index_faults
from pipeline.columns import Run
from pipeline.errors import ConservationError
from pipeline.input.discovery import Shard
from pipeline.passes.balance import balance_faults
from pipeline.passes.verdicts.on_classes import judged_on_classes
from pipeline.passes.verdicts.select import account
from pipeline.plan import Plan
from pipeline.process.ahead import Threads, threads
from pipeline.process.share import usable_cpus
from pipeline.root.entries import MANIFEST, file_record, manifest_file, unlisted
from pipeline.root.entries import faults as manifest_faults
from pipeline.root.existing import gathered, open_root, readable
from pipeline.root.lifecycle import SUCCESS, given_up, identity
from pipeline.root.manifest import folders
from pipeline.select.ledger import Ledger
from pipeline.select.stored import LEDGER, ledger_record, stored_ledger
from pipeline.select.verdicts import FAILED
from pipeline.store.store import stat
from pipeline.store.tables import read_table, read_with_facts
from schemas.answers.samples import Damaged, Verification, Verified

REMEDY = "remove what is not as it was written, then run the same command again: it makes what is missing anew"


REMOTE = 16
"""Files of a remote root that are read at once, by default: the store is waited for."""


def verify(url: str, *, deep: bool = False, workers: int | None = None) -> Verification:
    """Checks a root. `faults` of the answer is empty when every input sample is accounted for; the answer is Damaged where the
    samples could not even be counted.

    `deep`: also reads the inputs again and compares every output sample with them; `compared` counts those. `workers`: files that
    are read at once, by default one for each CPU of this process, REMOTE of a remote root; memory grows with it and not with the
    run. Raises RootError for what is no root."""
    plan = open_root(url)
    count = workers or (usable_cpus() if plan.root.local is not None else REMOTE)
    with threads(count, "verify") as pool:
        return checked(plan, pool, deep=deep)


def checked(plan: Plan, pool: Threads, *, deep: bool) -> Verification:
    """As `verify`."""
    active = readable(plan)
    root = active.root
    if not root.exists(SUCCESS):
        return Damaged(faults=("the run is not finished (no _SUCCESS): run the same command again to continue it",))
    damaged = [*marker_faults(active, pool), *pool.faults(input_faults, active.shards)]
    if any(not fault.startswith("input ") for fault in damaged):
        return Damaged(faults=(*damaged, REMEDY))
    run = gathered(active)
    ledger = stored_ledger(root, active.verdicts)
    faults = [
        *damaged, *pool.faults(partial(column_faults, active), active.shards), *ledger_faults(active, run, ledger, pool),
        *account_faults(active, run, given_up(plan, active)), *balance_faults(active, run, ledger.kept),
        *export_faults(active, run, ledger, pool), *index_faults(active, run, pool),
    ]
    deep_check = Deep(active, run)
    if deep:
        faults += deep_check.faults(pool)
    try:
        return Verified(
            faults=tuple(faults), **{key: value for key, value in ledger.as_dict().items() if key != "shards"},
            accounted=sum(ledger.verdicts.values()), shards=len(active.shards), compared=deep_check.compared if deep else None)
    except ValidationError as error:   # not an account: it cannot be told, only its faults
        return Damaged(faults=(*faults, f"{active.verdicts}/{LEDGER} is not as it was written: {error}"))


def marker_faults(plan: Plan, pool: Threads) -> list[str]:
    """What is wrong with _SUCCESS, the manifest, and every file that it names, by their hashes."""
    root = plan.root
    try:
        marker, manifest = root.read_json(SUCCESS), manifest_file(root)
        if marker["plan"] != identity(plan):
            return [f"run.json and {SUCCESS} are of different recipes or inputs: one of them is not as it was written"]
        if file_record(root, manifest)["sha256"] != marker["manifest_sha256"]:
            return [f"{manifest}: its bytes are not those that were written"]
        return [*manifest_faults(root, pool), *missing_files(plan)]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{SUCCESS} is damaged: {error}"]
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]


def missing_files(plan: Plan) -> Iterator[str]:
    """The column files of shards that the manifest does not name."""
    of_shards = [folder for folder, per_shard in folders(plan).items() if per_shard]
    for path in unlisted(plan.root, of_shards, [shard.shard_id for shard in plan.shards]):
        yield f"{path} is not in the manifest"


def input_faults(shard: Shard) -> Iterator[str]:
    """Whether an input shard is gone or has changed since it was read. Each fault begins with `input `: the samples can still be
    counted."""
    try:
        current = stat(shard.url)
    except FileNotFoundError:
        yield f"input {shard.url} is no longer there"
        return
    if current.version != shard.version:
        yield f"input {shard.url} has changed or was touched since it was read: a run would read it again"


def column_faults(plan: Plan, shard: Shard) -> Iterator[str]:
    """The column files of a shard whose rows or uids differ from those of the other stages: all must have the same samples in the
    same order."""
    first: pa.ChunkedArray | None = None
    for folder in plan.columns.folders.values():
        path = f"{folder}/{shard.shard_id}.parquet"
        table, facts = read_with_facts(plan.root, path, ["uid"])
        uid = table.column("uid")
        if facts["rows"] != len(uid):
            yield f"{path}: {len(uid)} rows, its footer says {facts['rows']}"
        first = uid if first is None else first
        if not uid.equals(first):
            yield f"{path}: its rows are not those of the other stages"


def ledger_faults(plan: Plan, run: Run, ledger: Ledger, pool: Threads) -> Iterator[str]:
    """The stored account against the verdicts counted anew, shard by shard: read = kept + rejected + failed, and what failed
    is what the stages' errors say."""
    if ledger.read != run.rows.total:
        yield f"ledger: {ledger.read} samples read, the columns have {run.rows.total}"
    counts = zip(run.rows.shard_ids, run.rows.counts, strict=True)
    yield from pool.faults(lambda shard: verdict_faults(plan, ledger.shards.get(shard[0], {}), *shard), counts)


def verdict_faults(plan: Plan, account: Mapping[str, int], shard_id: str, count: int) -> Iterator[str]:
    """The verdicts of a shard of `count` samples against what the ledger says of it, and against its columns."""
    table = read_table(plan.root, f"{plan.verdicts}/{shard_id}.parquet", ["uid", "verdict"])
    verdict, columns = table.column("verdict"), plan.rule_columns.table([shard_id], {})
    counted = Counter(verdict.to_pylist())
    if None in counted or sum(counted.values()) != count:
        yield f"shard {shard_id}: {count} samples read, {sum(counted.values()) - counted[None]} verdicts"
    if dict(counted) != dict(account):
        yield f"shard {shard_id}: the ledger does not say what its verdicts say"
    if not table.column("uid").equals(columns.column("uid")):
        yield f"shard {shard_id}: the rows of its verdicts are not those of its columns"
    failed = [code if code is not None and code.startswith(FAILED) else None for code in verdict.to_pylist()]
    if failed != failures(columns):
        yield f"shard {shard_id}: the samples whose verdict is failed are not those that a stage could not process"
    if plan.selected != plan.verdicts and verdict.to_pylist() != judged_on_classes(plan, shard_id).to_pylist():
        yield f"shard {shard_id}: its verdicts are not what the rules on classes make of those in {plan.selected}"


def failures(columns: pa.Table) -> list[str | None]:
    """`failed:<code>` of the first stage that could not process the sample; None where all could."""
    errors = [columns.column(name).cast(pa.string()) for name in columns.column_names if name.endswith("_error")]
    return [None if code is None else f"{FAILED}{code}" for code in pc.coalesce(*errors).to_pylist()]


def account_faults(plan: Plan, run: Run, quarantined: Sequence[str]) -> Iterator[str]:
    """Every sum of ledger.json and of _SUCCESS, gaps and quarantine included, made anew from the files' own counts."""
    try:
        recounted = json.loads(json.dumps(account(plan, run, quarantined, plan.verdicts).as_dict()))
    except ConservationError as error:
        yield str(error)
        return
    ledger, marker = ledger_record(plan.root, plan.verdicts), plan.root.read_json(SUCCESS)
    for name, value in recounted.items():
        missing: list[str] | None = [] if name == "ignored_in" else None   # not stored where nothing was ignored
        if ledger.get(name, missing) != value:
            yield f"ledger: {name} is not what the files of the shards say"
        if name != "shards" and marker.get(name, missing) != value:
            yield f"{SUCCESS}: {name} is not what the files of the shards say"
