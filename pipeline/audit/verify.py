"""Checks a finished root from its files alone: conservation, hashes, counts. Every fault is named; none means all is there."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline.audit.deep import Deep
from pipeline.columns import Run, row_name
from pipeline.errors import ConservationError
from pipeline.export.plan import taken_rows
from pipeline.export.stored import stored_sizes
from pipeline.input.discovery import discover
from pipeline.input.reader import read
from pipeline.input.samples import TXT, Reading, uid_of
from pipeline.passes.balance import balance_faults
from pipeline.passes.verdicts.on_classes import judged_on_classes
from pipeline.passes.verdicts.select import account
from pipeline.plan import Plan
from pipeline.root.existing import gathered, open_root, readable
from pipeline.root.lifecycle import SUCCESS, identity
from pipeline.root.manifest import MANIFEST, file_record, folders, read_manifest
from pipeline.root.manifest import faults as manifest_faults
from pipeline.select.ledger import Ledger
from pipeline.select.stored import LEDGER, ledger_record, stored_ledger
from pipeline.select.verdicts import FAILED
from pipeline.store.store import stat
from pipeline.store.tables import read_facts, read_known, read_table
from schemas.answers.samples import Damaged, Verification, Verified
from schemas.exports import EXPORT

SIDECAR = pa.schema([EXPORT.field(name) for name in (
    "key", "uid", "source_shard_id", "source_row", "caption", "caption_encoding", "caption_raw", "written_image_sha256")])
"""What is asked of the sidecars."""
WRITTEN = Reading(caption_keys=(TXT,))
"""How output shards are read."""
REMEDY = "remove what is not as it was written, then run the same command again: it makes what is missing anew"


def verify(url: str, *, deep: bool = False) -> Verification:
    """Checks a root. `faults` of the answer is empty when every input sample is accounted for; the answer is Damaged where the
    samples could not even be counted.

    `deep`: also reads the inputs again and compares every output sample with them; `compared` counts those. Raises RootError for
    what is no root."""
    plan = open_root(url)
    active = readable(plan)
    root = active.root
    if not root.exists(SUCCESS):
        return Damaged(faults=("the run is not finished (no _SUCCESS): run the same command again to continue it",))
    damaged = [*marker_faults(active), *input_faults(active)]
    if any(not fault.startswith("input ") for fault in damaged):
        return Damaged(faults=(*damaged, REMEDY))
    run = gathered(active)
    ledger = stored_ledger(root, active.verdicts)
    given_up = [shard.shard_id for shard in plan.shards if shard not in active.shards]
    faults = [
        *damaged, *column_faults(active), *ledger_faults(active, run, ledger), *account_faults(active, run, given_up),
        *balance_faults(active, run, ledger.kept), *export_faults(active, run, ledger),
    ]
    deep_check = Deep(active, run)
    if deep:
        faults += deep_check.faults()
    try:
        return Verified(
            faults=tuple(faults), **{key: value for key, value in ledger.as_dict().items() if key != "shards"},
            accounted=sum(ledger.verdicts.values()), shards=len(active.shards), compared=deep_check.compared if deep else None)
    except ValidationError as error:   # not an account: it cannot be told, only its faults
        return Damaged(faults=(*faults, f"{active.verdicts}/{LEDGER} is not as it was written: {error}"))


def marker_faults(plan: Plan) -> list[str]:
    """What is wrong with _SUCCESS, the manifest, and every file that it names, by their hashes."""
    root = plan.root
    try:
        marker = root.read_json(SUCCESS)
        if marker["plan"] != identity(plan):
            return [f"run.json and {SUCCESS} are of different recipes or inputs: one of them is not as it was written"]
        if file_record(root, MANIFEST)["sha256"] != marker["manifest_sha256"]:
            return [f"{MANIFEST}: its bytes are not those that were written"]
        return [*manifest_faults(root), *missing_files(plan)]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{SUCCESS} is damaged: {error}"]
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]


def missing_files(plan: Plan) -> Iterator[str]:
    """The column files of shards that the manifest does not name."""
    listed = read_manifest(plan.root)
    for folder in [folder for folder, per_shard in folders(plan).items() if per_shard]:
        for shard in plan.shards:
            if f"{folder}/{shard.shard_id}.parquet" not in listed:
                yield f"{folder}/{shard.shard_id}.parquet is not in the manifest"


def input_faults(plan: Plan) -> Iterator[str]:
    """The input shards that are gone or have changed since they were read. Each fault begins with `input `: the samples can
    still be counted."""
    for shard in plan.shards:
        try:
            current = stat(shard.url)
        except FileNotFoundError:
            yield f"input {shard.url} is no longer there"
            continue
        if current.version != shard.version:
            yield f"input {shard.url} has changed or was touched since it was read: a run would read it again"


def column_faults(plan: Plan) -> Iterator[str]:
    """The column files whose rows or uids differ from those of the other stages: all must have the same samples in the same
    order."""
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


def exported_samples(url: str) -> Iterator[tuple[str, bytes | None, bytes]]:
    """Key, image and caption of every sample of an exported tar, in its order."""
    (shard,) = discover([url])
    for batch in read(shard, reading=WRITTEN):
        rows = batch.select(["key", "image", "caption", "caption_raw"]).to_pylist()
        yield from ((row["key"], row["image"], row["caption_raw"] or (row["caption"] or "").encode()) for row in rows)


def is_written(member: tuple[str, bytes | None, bytes], row: Mapping[str, Any]) -> bool:
    """Whether a sample of an exported tar is that of its row in the sidecar: the uid is made anew from its bytes, and those of the
    source where its caption was decoded; where its picture was encoded anew, its hash stands there."""
    key, image, caption = member
    decoded = row["caption_raw"] is not None and row["caption_encoding"] is not None
    transcoded = row["written_image_sha256"] is not None
    if key != row["key"] or ((decoded or transcoded) and caption != (row["caption"] or "").encode()):
        return False
    if transcoded:
        return bool(hashlib.sha256(image or b"").hexdigest() == row["written_image_sha256"])
    return bool(uid_of(image, row["caption_raw"] if decoded else caption) == row["uid"])


def ledger_faults(plan: Plan, run: Run, ledger: Ledger) -> Iterator[str]:
    """The stored account against the verdicts counted anew, shard by shard: read = kept + rejected + failed, and what failed
    is what the stages' errors say."""
    if ledger.read != run.rows.total:
        yield f"ledger: {ledger.read} samples read, the columns have {run.rows.total}"
    for shard_id, count in zip(run.rows.shard_ids, run.rows.counts, strict=True):
        table = read_table(plan.root, f"{plan.verdicts}/{shard_id}.parquet", ["uid", "verdict"])
        verdict, columns = table.column("verdict"), plan.rule_columns.table(shard_id, {})
        counted = Counter(verdict.to_pylist())
        if None in counted or sum(counted.values()) != count:
            yield f"shard {shard_id}: {count} samples read, {sum(counted.values()) - counted[None]} verdicts"
        if dict(counted) != dict(ledger.shards.get(shard_id, {})):
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


def account_faults(plan: Plan, run: Run, given_up: Sequence[str]) -> Iterator[str]:
    """Every sum of ledger.json and of _SUCCESS, gaps and quarantine included, made anew from the files' own counts."""
    try:
        recounted = json.loads(json.dumps(account(plan, run, given_up, plan.verdicts).as_dict()))
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


def export_faults(plan: Plan, run: Run, ledger: Ledger) -> Iterator[str]:
    """kept = written (x copies, where the export is balanced): every tar against its members and its sidecar, and the sidecars
    against the verdicts."""
    root, folder = plan.root, plan.export
    written: Counter[tuple[str, int]] = Counter()
    for tar, samples in stored_sizes(root, folder).items():
        listed = read_known(root, f"{folder}/{tar.removesuffix('.tar')}.parquet", SIDECAR).to_pylist()
        members, same = 0, True
        for member, row in zip_longest(exported_samples(f"{root.url}/{folder}/{tar}"), listed):
            members += member is not None
            same = same and member is not None and row is not None and is_written(member, row)
        if members != samples or len(listed) != samples:
            yield f"{folder}/{tar}: {members} samples, sizes.json says {samples}, its sidecar {len(listed)}"
        elif not same:
            yield f"{folder}/{tar}: keys or uids (made anew from its bytes) are not those of its sidecar"
        written.update((row["source_shard_id"], row["source_row"]) for row in listed)
    yield from written_faults(plan, run, ledger, written)


def written_faults(plan: Plan, run: Run, ledger: Ledger, written: Counter[tuple[str, int]]) -> Iterator[str]:
    """Every kept row once, or as often as the balance of the export takes it, and no other."""
    rows = ((s, int(row)) for s in run.rows.shard_ids for row in taken_rows(plan.root, plan.verdicts, plan.balance, s))
    expected, requirement = Counter(rows), "to be exported" if plan.balance else "kept"
    if plan.balance is None and expected.total() != ledger.kept:
        yield f"ledger: {ledger.kept} samples kept, the verdicts say {expected.total()}"
    lost, extra = expected - written, written - expected
    if lost:
        yield f"{lost.total()} samples {requirement} were not written, e.g. {row_name(*min(lost))}"
    strangers, repeated = extra.keys() - expected.keys(), extra.keys() & expected.keys()
    if strangers:
        yield f"{len(strangers)} samples were written that were not {requirement}, e.g. {row_name(*min(strangers))}"
    if repeated:
        limit = "wanted" if plan.balance else "once"
        yield f"{len(repeated)} samples were written more often than {limit}, e.g. {row_name(*min(repeated))}"
