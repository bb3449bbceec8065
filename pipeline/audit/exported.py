"""The output shards of a root against their sidecars and the verdicts: kept = written. One output shard is in hand for each thread,
and 4 bytes a row of the run in a file without a name."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Rows, Run, RunShard, row_name
from pipeline.export.plan import taken_rows
from pipeline.export.stored import stored_sizes
from pipeline.input.discovery import discover
from pipeline.input.reader import read
from pipeline.input.samples import TXT, Reading, uid_of
from pipeline.plan import Plan
from pipeline.process.ahead import Threads
from pipeline.select.ledger import Ledger
from pipeline.store.tables import read_known
from schemas.exports import EXPORT

SIDECAR = pa.schema([EXPORT.field(name) for name in (
    "key", "uid", "source_shard_id", "source_row", "caption", "caption_encoding", "caption_raw", "written_image_sha256")])
"""What is asked of the sidecars."""
ROWS = 4096
"""Rows of a sidecar that are Python objects at a time."""
WRITTEN = Reading(caption_keys=(TXT,))
"""How output shards are read."""
RowId = tuple[str, int]
"""shard_id and row."""


class Tar(NamedTuple):
    """What was found of one output shard."""

    faults: list[str]
    shard_ids: pa.ChunkedArray
    """Of the sources of its samples, by its sidecar."""
    rows: NDArray[np.int64]


def export_faults(plan: Plan, run: Run, ledger: Ledger, pool: Threads) -> Iterator[str]:
    """kept = written (x copies, where the export is balanced): every tar against its members and its sidecar, and the sidecars
    against the verdicts."""
    with tempfile.TemporaryFile() as file:
        written = Written.over(run.rows, file)
        for tar in pool.each(partial(checked_tar, plan), stored_sizes(plan.root, plan.export).items()):
            yield from tar.faults
            written.add(tar)
        yield from written_faults(plan, run, ledger, written, pool)


def checked_tar(plan: Plan, item: tuple[str, int]) -> Tar:
    """An output shard against its members and its sidecar; `item`: its name, and how many samples sizes.json says it has."""
    root, folder, (tar, samples) = plan.root, plan.export, item
    sidecar = read_known(root, f"{folder}/{tar.removesuffix('.tar')}.parquet", SIDECAR)
    listed = (row for batch in sidecar.to_batches(ROWS) for row in batch.to_pylist())
    members, same = 0, True
    for member, row in zip_longest(exported_samples(f"{root.url}/{folder}/{tar}"), listed):
        members += member is not None
        same = same and member is not None and row is not None and is_written(member, row)
    faults = []
    if members != samples or sidecar.num_rows != samples:
        faults = [f"{folder}/{tar}: {members} samples, sizes.json says {samples}, its sidecar {sidecar.num_rows}"]
    elif not same:
        faults = [f"{folder}/{tar}: keys or uids (made anew from its bytes) are not those of its sidecar"]
    return Tar(faults, sidecar.column("source_shard_id"), np.asarray(sidecar.column("source_row"), np.int64))


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


@dataclass
class Written:
    """How often each row of a run was written, by its number in the run; and what was written that is no row of it."""

    rows: Rows
    times: NDArray[np.int32]
    """int32 [rows of the run]."""
    places: dict[str, int]
    """Of each shard, in the order of the run."""
    offsets: NDArray[np.int64]
    """As `Rows.offsets`."""
    strangers: int = 0
    first_stranger: RowId | None = None

    @classmethod
    def over(cls, rows: Rows, file: Any) -> "Written":
        """Nothing is written yet; `file` holds the counts."""
        times = np.memmap(file, np.int32, "w+", shape=(max(rows.total, 1),))
        return cls(rows, times, {shard_id: place for place, shard_id in enumerate(rows.shard_ids)}, rows.offsets)

    def add(self, tar: Tar) -> None:
        """Counts the samples of an output shard."""
        names = tar.shard_ids.combine_chunks().dictionary_encode()
        if isinstance(names, pa.ChunkedArray):
            names = names.combine_chunks()
        known = names.dictionary.to_pylist()
        places = np.array([self.places.get(name, -1) for name in known] or [-1])[np.asarray(names.indices)]
        first, end = self.offsets[places], self.offsets[places + 1]   # of no place: whatever is there
        inside = (places >= 0) & (tar.rows >= 0) & (tar.rows < end - first)
        np.add.at(self.times, first[inside] + tar.rows[inside], 1)
        outside = {(known[names.indices[int(i)].as_py()], int(tar.rows[i])) for i in np.flatnonzero(~inside)}
        self.note(len(outside), min(outside, default=None))

    def note(self, strangers: int, first: RowId | None) -> None:
        """Counts samples that were not to be written, and keeps the first of all."""
        self.strangers += strangers
        self.first_stranger = min(filter(None, (self.first_stranger, first)), default=None)


def written_faults(plan: Plan, run: Run, ledger: Ledger, written: Written, pool: Threads) -> Iterator[str]:
    """Every kept row once, or as often as the balance of the export takes it, and no other."""
    requirement, limit = ("to be exported", "wanted") if plan.balance else ("kept", "once")
    total = Difference()
    for part in pool.each(partial(difference, plan, written), run.rows.shards):
        total = total.with_part(part)
    if plan.balance is None and total.expected != ledger.kept:
        yield f"ledger: {ledger.kept} samples kept, the verdicts say {total.expected}"
    if total.lost:
        yield f"{total.lost} samples {requirement} were not written, e.g. {named(total.first_lost)}"
    written.note(total.strangers, total.first_stranger)
    if written.strangers:
        example = named(written.first_stranger)
        yield f"{written.strangers} samples were written that were not {requirement}, e.g. {example}"
    if total.repeated:
        yield f"{total.repeated} samples were written more often than {limit}, e.g. {named(total.first_repeated)}"


def named(row: RowId | None) -> str:
    """A row id in one word."""
    return "" if row is None else row_name(*row)


@dataclass(frozen=True)
class Difference:
    """Between what was to be written of some shards and what was."""

    expected: int = 0
    """Samples to be written, repeats counted."""
    lost: int = 0
    """Of them: not written."""
    strangers: int = 0
    """Rows that were written and were not to be."""
    repeated: int = 0
    """Rows that were written more often than they were to be."""
    first_lost: RowId | None = None
    first_stranger: RowId | None = None
    first_repeated: RowId | None = None

    def with_part(self, part: "Difference") -> "Difference":
        """Of these shards and of others."""
        def first(name: str) -> RowId | None:
            return min(filter(None, (getattr(self, name), getattr(part, name))), default=None)

        return Difference(
            self.expected + part.expected, self.lost + part.lost, self.strangers + part.strangers, self.repeated + part.repeated,
            first("first_lost"), first("first_stranger"), first("first_repeated"))


def difference(plan: Plan, written: Written, shard: RunShard) -> Difference:
    """Of one shard."""
    count = written.rows.counts[written.places[shard.shard_id]]
    taken = taken_rows(plan.root, plan.verdicts, plan.balance, shard.shard_id)
    expected = np.bincount(taken[taken < count], minlength=count)
    more = written.times[shard.first_row : shard.first_row + count] - expected
    lost, strangers, repeated = more < 0, (more > 0) & (expected == 0), (more > 0) & (expected > 0)

    def first(rows: NDArray[np.bool_]) -> RowId | None:
        return (shard.shard_id, int(np.argmax(rows))) if rows.any() else None

    return Difference(
        len(taken), int(-more[lost].sum()) + int(np.count_nonzero(taken >= count)), int(strangers.sum()), int(repeated.sum()),
        first(lost), first(strangers), first(repeated))
