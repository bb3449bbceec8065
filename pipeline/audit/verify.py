"""Checks a finished root from its files alone: conservation, hashes, counts. Every fault is named; none means all is there."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline.audit.deep import Deep
from pipeline.columns import Run
from pipeline.curation import SUCCESS, balance, gathered, identity
from pipeline.errors import ConservationError
from pipeline.export.shards import taken_rows
from pipeline.input.discovery import discover
from pipeline.input.reader import read
from pipeline.passes.balance import balance_faults
from pipeline.plan import Plan
from pipeline.root.existing import open_root, readable
from pipeline.root.manifest import MANIFEST, described, folders, read_manifest
from pipeline.root.manifest import faults as manifest_faults
from pipeline.select.columns import RuleColumns
from pipeline.select.ledger import Ledger, from_dict
from pipeline.select.verdicts import FAILED
from pipeline.store.store import stat
from pipeline.store.tables import read_facts, read_table
from schemas.answers.samples import Damaged, Verification, Verified

REMEDY = "remove what is not as it was written, then run the same command again: it makes what is missing anew"


def verify(url: str, *, deep: bool = False) -> Verification:
    """`faults` is empty when every input sample is accounted for; Damaged where the samples could not even be counted.

    `deep`: also reads the inputs again and compares every output sample with them; `compared` counts those.
    Raises RootError for what is no root.
    """
    whole = open_root(url)
    plan = readable(whole)
    root = plan.root
    if not root.exists(SUCCESS):
        return Damaged(faults=("the run is not finished (no _SUCCESS): run the same command again to continue it",))
    damaged = [*marker_faults(plan), *input_faults(plan)]
    if any(not fault.startswith("input ") for fault in damaged):
        return Damaged(faults=(*damaged, REMEDY))
    run = gathered(plan)
    ledger = from_dict(root.read_json(f"{plan.verdicts}/ledger.json"))
    given_up = [shard.shard_id for shard in whole.shards if shard not in plan.shards]
    faults = [
        *damaged, *column_faults(plan), *ledger_faults(plan, run, ledger), *account_faults(plan, run, given_up),
        *balance_faults(plan, run, ledger.kept), *export_faults(plan, run, ledger),
    ]
    against = Deep(plan, run)
    if deep:
        faults += against.faults()
    try:
        return Verified(
            faults=tuple(faults), **{key: value for key, value in ledger.as_dict().items() if key != "shards"},
            accounted=sum(ledger.verdicts.values()), shards=len(plan.shards), compared=against.compared if deep else None)
    except ValidationError as error:   # not an account: it cannot be told, only its faults
        return Damaged(faults=(*faults, f"{plan.verdicts}/ledger.json is not as it was written: {error}"))


def marker_faults(plan: Plan) -> list[str]:
    """_SUCCESS, the manifest, and every file it names, against their hashes."""
    root = plan.root
    try:
        marker = root.read_json(SUCCESS)
        if marker["plan"] != identity(plan):
            return [f"run.json and {SUCCESS} are of different recipes or inputs: one of them is not as it was written"]
        if described(root, MANIFEST)["sha256"] != marker["manifest_sha256"]:
            return [f"{MANIFEST}: its bytes are not those that were written"]
        return [*manifest_faults(root), *missing_files(plan)]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{SUCCESS} is damaged: {error}"]
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]


def missing_files(plan: Plan) -> Iterator[str]:
    listed = read_manifest(plan.root)
    for folder in [folder for folder, per_shard in folders(plan).items() if per_shard]:
        for shard in plan.shards:
            if f"{folder}/{shard.shard_id}.parquet" not in listed:
                yield f"{folder}/{shard.shard_id}.parquet is not in the manifest"


def input_faults(plan: Plan) -> Iterator[str]:
    for shard in plan.shards:
        try:
            now = stat(shard.url)
        except FileNotFoundError:
            yield f"input {shard.url} is no longer there"
            continue
        if now.version != shard.version:
            yield f"input {shard.url} has changed or was touched since it was read: a run would read it again"


def column_faults(plan: Plan) -> Iterator[str]:
    """Rows and uids of every column file: the same samples in the same order in every stage."""
    for shard in plan.shards:
        first: pa.ChunkedArray | None = None
        for folder in plan.columns.folders.values():
            path = f"{folder}/{shard.shard_id}.parquet"
            facts, uid = read_facts(plan.root, path), read_table(plan.root, path, ["uid"]).column("uid")
            if facts["rows"] != len(uid):
                yield f"{path}: {len(uid)} rows, its footer says {facts['rows']}"
            first = uid if first is None else first
            if not uid.equals(first):
                yield f"{path}: its rows are not those of the other stages"


def members(url: str) -> list[tuple[str, str]]:
    """(key, uid) of every sample of an exported tar; the uid is made from its image and caption bytes."""
    (shard,) = discover([url])
    found: list[tuple[str, str]] = []
    for batch in read(shard):
        found += zip(batch.column("key").to_pylist(), batch.column("uid").to_pylist(), strict=True)
    return found


def ledger_faults(plan: Plan, run: Run, ledger: Ledger) -> Iterator[str]:
    """The stored account against the verdicts counted anew, shard by shard: read = kept + rejected + failed, and what failed
    is what the stages' errors say."""
    if ledger.read != run.rows.total:
        yield f"ledger: {ledger.read} samples read, the columns have {run.rows.total}"
    for shard_id, count in zip(run.rows.shard_ids, run.rows.counts, strict=True):
        table = read_table(plan.root, f"{plan.verdicts}/{shard_id}.parquet", ["uid", "verdict"])
        verdict, columns = table.column("verdict"), RuleColumns(plan.columns, plan.run_columns).table(shard_id, {})
        counted = Counter(verdict.to_pylist())
        if None in counted or sum(counted.values()) != count:
            yield f"shard {shard_id}: {count} samples read, {sum(counted.values()) - counted[None]} verdicts"
        if dict(counted) != dict(ledger.shards.get(shard_id, {})):
            yield f"shard {shard_id}: the ledger does not say what its verdicts say"
        if not table.column("uid").equals(columns.column("uid")):
            yield f"shard {shard_id}: the rows of its verdicts are not those of its columns"
        said = [one if one is not None and one.startswith(FAILED) else None for one in verdict.to_pylist()]
        if said != failures(columns):
            yield f"shard {shard_id}: the samples whose verdict is failed are not those that a stage could not process"


def failures(columns: pa.Table) -> list[str | None]:
    """`failed:<code>` of the first stage that could not process the sample; None where all could."""
    errors = [columns.column(name).cast(pa.string()) for name in columns.column_names if name.endswith("_error")]
    return [None if code is None else f"{FAILED}{code}" for code in pc.coalesce(*errors).to_pylist()]


def account_faults(plan: Plan, run: Run, given_up: Sequence[str]) -> Iterator[str]:
    """Every sum of ledger.json and of _SUCCESS, gaps and quarantine included, made anew from the files' own counts."""
    try:
        again = json.loads(json.dumps(balance(plan, run, given_up).as_dict()))
    except ConservationError as error:
        yield str(error)
        return
    ledger, marker = plan.root.read_json(f"{plan.verdicts}/ledger.json"), plan.root.read_json(SUCCESS)
    for name, value in again.items():
        if ledger.get(name) != value:
            yield f"ledger: {name} is not what the files of the shards say"
        if name != "shards" and marker.get(name) != value:
            yield f"{SUCCESS}: {name} is not what the files of the shards say"


def export_faults(plan: Plan, run: Run, ledger: Ledger) -> Iterator[str]:
    """kept = written (x copies, where the export is balanced): every tar against its members and its sidecar, and the sidecars
    against the verdicts."""
    root, folder = plan.root, plan.export
    written: Counter[tuple[str, int]] = Counter()
    for tar, samples in root.read_json(f"{folder}/sizes.json").items():
        columns = ["key", "uid", "source_shard_id", "source_row"]
        sidecar = read_table(root, f"{folder}/{tar.removesuffix('.tar')}.parquet", columns)
        found = members(f"{root.url}/{folder}/{tar}")
        wanted = list(zip(sidecar.column("key").to_pylist(), sidecar.column("uid").to_pylist(), strict=True))
        if len(found) != samples or len(wanted) != samples:
            yield f"{folder}/{tar}: {len(found)} samples, sizes.json says {samples}, its sidecar {len(wanted)}"
        elif found != wanted:
            yield f"{folder}/{tar}: keys or uids (made anew from its bytes) are not those of its sidecar"
        written.update(zip(sidecar.column("source_shard_id").to_pylist(), sidecar.column("source_row").to_pylist(), strict=True))
    yield from written_faults(plan, run, ledger, written)


def written_faults(plan: Plan, run: Run, ledger: Ledger, written: Counter[tuple[str, int]]) -> Iterator[str]:
    """Every kept row once, or as often as the balance of the export takes it, and no other."""
    rows = ((s, int(row)) for s in run.rows.shard_ids for row in taken_rows(plan.root, plan.verdicts, plan.balance, s))
    wanted, of = Counter(rows), "to be exported" if plan.balance else "kept"
    if plan.balance is None and wanted.total() != ledger.kept:
        yield f"ledger: {ledger.kept} samples kept, the verdicts say {wanted.total()}"
    lost, extra = wanted - written, written - wanted
    if lost:
        yield f"{lost.total()} samples {of} were not written, e.g. {min(lost)}"
    strangers, twice = extra.keys() - wanted.keys(), extra.keys() & wanted.keys()
    if strangers:
        yield f"{len(strangers)} samples were written that were not {of}, e.g. {min(strangers)}"
    if twice:
        yield f"{len(twice)} samples were written more often than {'wanted' if plan.balance else 'once'}, e.g. {min(twice)}"
