"""One way to name a sample, for every command: its uid, the uid that its input brought, SHARD:ROW, or its key."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import row_name
from pipeline.errors import InputError, RootError
from pipeline.export.stored import has_export, stored_sizes
from pipeline.input.discovery import Shard
from pipeline.input.patterns import stem_of
from pipeline.plan import Plan
from pipeline.process.ahead import threads
from pipeline.store.tables import read_columns, read_facts, read_table

FORMS = "a uid (its first 6 digits will do), the uid that its input brought, SHARD:ROW, or a key"
"""The names that a sample has, for messages and help."""
MOST = 100
"""Samples that one name may stand for: a key may be in every shard."""
UID = re.compile(r"[0-9a-fA-F]{32}")
UID_START = re.compile(r"[0-9a-fA-F]{6,32}")
PLACE = re.compile(r"(?P<shard>.+):(?P<row>[0-9]{1,18})", re.DOTALL)
NAMES = ("uid", "source_uid", "key")
REQUESTS = 32
"""Shards whose uids a remote store is asked for at once."""

RowId = tuple[str, int]


def find_samples(plan: Plan, name: str) -> tuple[RowId, ...]:
    """The samples (shard_id, row) that have this name, in the order of the input; never none. Tried in this order, and the first
    that fits decides: SHARD:ROW (the shard by its id, its URL, its path in the inputs, or the stem of that); a uid, a uid that the
    input brought, or a key; the key of a sample of the export; the first digits of a uid or of a uid that the input brought.

    `plan` is over the readable shards. All but the first read the names of all samples, shard by shard. Raises InputError for a
    name that no sample has, or more than MOST, RootError where the run has not read all shards yet."""
    name = name.encode("utf-8", "replace").decode()   # a terminal may give halves of characters; no stored name has any
    found = _by_place(plan, name) or _by_columns(plan, name)
    if not found:
        raise InputError(f"{plan.root.url} has no sample {name!r}: name it by {FORMS}")
    if len(found) > MOST:
        some = ", ".join(row_name(*row) for row in found[:3])
        raise InputError(f"{len(found):,} samples of {plan.root.url} are named {name!r}, e.g. {some}: name one as SHARD:ROW")
    return found


def first_of_uid(plan: Plan, uid: str) -> RowId | None:
    """The first sample (shard_id, row) with this uid, 32 hex digits; None where there is none. Reads that column of one shard after
    another, of a remote root of several at once, up to the one that has it. Raises RootError as `find_samples`."""
    def place(shard: Shard) -> int:
        return int(pc.index(_names(plan, shard.shard_id, ["uid"]).column("uid"), uid).as_py())

    with threads(REQUESTS if plan.root.local is None else 1, "uids") as pool:
        for shard, row in zip(plan.shards, pool.each(place, plan.shards), strict=True):
            if row >= 0:
                return shard.shard_id, row
    return None


def names_of(plan: Plan, rows: Sequence[RowId]) -> dict[RowId, Mapping[str, Any]]:
    """`uid`, `source_uid` and `key` of each of these samples (shard_id, row); reads the shards that they are in."""
    by_shard: dict[str, list[int]] = {}
    for shard_id, row in rows:
        by_shard.setdefault(shard_id, []).append(row)
    named: dict[RowId, Mapping[str, Any]] = {}
    for shard_id, places in by_shard.items():
        part = _names(plan, shard_id).take(pa.array(places, pa.int64())).to_pylist()
        named.update({(shard_id, row): names for row, names in zip(places, part, strict=True)})
    return named


def _by_place(plan: Plan, name: str) -> tuple[RowId, ...]:
    """The sample behind SHARD:ROW; more than one where several folders have a shard of that name. Nothing where no shard has it: a
    key may have a colon too."""
    place = PLACE.fullmatch(name)
    if place is None:
        return ()
    row, shards = int(place["row"]), [shard for shard in plan.shards if place["shard"] in shard_names(shard)]
    counts = {shard.shard_id: _count(plan, shard.shard_id) for shard in shards}
    found = tuple((shard_id, row) for shard_id, count in counts.items() if row < count)
    if shards and not found:
        shard_id, count = next(iter(counts.items()))
        raise InputError(f"shard {shard_id} has {count:,} samples, numbered from 0, and no row {row}")
    return found


def shard_names(shard: Shard) -> set[str]:
    """What a shard may be called: its id, its URL, its path in the inputs, the name of its file and the stem of that."""
    file = shard.relative.rpartition("/")[2]
    return {shard.shard_id, shard.url, shard.relative, file, stem_of(file)}


def _by_columns(plan: Plan, name: str) -> tuple[RowId, ...]:
    """The samples that have this name in a column; else the exported one with this key; else those whose uid starts so."""
    start = name.lower() if UID_START.fullmatch(name) else None
    exact, begun = list[RowId](), list[RowId]()
    for shard in plan.shards:
        columns = _names(plan, shard.shard_id)
        exact += _rows(shard, [pc.equal(columns.column("uid"), start or name), *(
            pc.equal(columns.column(column), wanted) for column in NAMES[1:] for wanted in {name, start or name})])
        if start is not None:
            begun += _rows(shard, [pc.starts_with(columns.column(column), start, ignore_case=True) for column in NAMES[:2]])
    return tuple(exact or _by_exported_key(plan, name) or begun)


def _rows(shard: Shard, masks: list[pa.ChunkedArray]) -> Iterator[RowId]:
    """The rows of a shard for which one of the masks (bool [n]; null is no) holds."""
    met = np.logical_or.reduce([np.asarray(pc.fill_null(mask, False)) for mask in masks])
    yield from ((shard.shard_id, int(row)) for row in np.flatnonzero(met))


def _by_exported_key(plan: Plan, name: str) -> list[RowId]:
    """The sample that has this key in the export: it begins with the name of its tar, so one sidecar is read."""
    if not (name.isdigit() and name.isascii() and has_export(plan.root, plan.export)):
        return []
    for tar in stored_sizes(plan.root, plan.export):
        if name.startswith(tar.removesuffix(".tar")):
            path = f"{plan.export}/{tar.removesuffix('.tar')}.parquet"
            rows = read_table(plan.root, path, ["key", "source_shard_id", "source_row"], pc.field("key") == name).to_pylist()
            return [(row["source_shard_id"], row["source_row"]) for row in rows]
    return []


def _names(plan: Plan, shard_id: str, names: Sequence[str] = NAMES) -> pa.Table:
    try:
        return read_columns(plan.root, plan.columns.folders["samples"], shard_id, names)
    except FileNotFoundError:
        raise _unread(plan, shard_id) from None


def _count(plan: Plan, shard_id: str) -> int:
    try:
        return int(read_facts(plan.root, f"{plan.columns.folders['samples']}/{shard_id}.parquet")["rows"])
    except FileNotFoundError:
        raise _unread(plan, shard_id) from None


def _unread(plan: Plan, shard_id: str) -> RootError:
    return RootError(f"{plan.root.url} has not read shard {shard_id} yet: run its command again to go on")
