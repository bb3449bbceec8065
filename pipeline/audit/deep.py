"""`verify --deep`: every output sample against the bytes of its input.

Two streaming passes. The inputs are read again, each once (parquet files twice, side by side: samples and metadata objects),
held against their stored `samples` columns, and of every kept sample the hashes of what its output must be go to a
temporary file, DIGEST.itemsize bytes each. Then the output shards are read against it. Memory holds one window of an
archive, one shard's stored columns and nothing that grows with the run.
"""

import hashlib
import json
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Run, RunShard
from pipeline.errors import SampleFailure
from pipeline.export.members import caption_member, image_member
from pipeline.export.sample_json import sample_json
from pipeline.export.samples import ExportColumns, Sample
from pipeline.export.stored import stored_sizes
from pipeline.input import samples as source
from pipeline.input.aside.ignored import IgnoredMembers
from pipeline.input.discovery import Shard
from pipeline.input.metadata import carried_object, strict
from pipeline.input.parquet import ParquetSamples, rows_at
from pipeline.input.reader import BATCH_BYTES, BATCH_ROWS, codec_of, tar_members
from pipeline.plan import Plan
from pipeline.process.ahead import Threads
from pipeline.select.stored import kept_rows
from pipeline.store.source import UNSUPPORTED
from pipeline.store.store import open_url
from pipeline.store.tables import read_columns, read_table
from schemas.columns import SAMPLES
from schemas.exports import SAMPLE_JSON

NAMED = 10
"""Faults named one by one, of each file; the others are counted."""

DIGEST = np.dtype([("kept", "?"), ("extension", "S8"), ("image", "u1", 32), ("caption", "u1", 32), ("json", "u1", 32)])
"""What the output of one kept sample must be: SHA-256 of its three members."""
MEMBERS = {"image": "its image is not", "caption": "its caption is not", "json": "its JSON object, but for ours, is not"}


@dataclass
class Deep:
    """One deep verification. `faults` can be iterated once, and `compared` (output samples compared so far) grows while it is."""

    plan: Plan
    run: Run
    compared: int = 0
    shards: dict[str, Shard] = field(init=False)

    def __post_init__(self) -> None:
        self.shards = {shard.shard_id: shard for shard in self.plan.shards}

    @property
    def _columns(self) -> ExportColumns:
        return self.plan.exported

    @cached_property
    def _class_names(self) -> dict[int, str]:
        return self._columns.class_names()

    def faults(self, pool: Threads) -> Iterator[str]:
        """Every difference between the inputs, the stored columns and the output shards, in words: the first NAMED of each file,
        and how many more."""
        rows, _ = self.run.rows, self._class_names   # read once, before threads ask for them
        with tempfile.TemporaryFile() as file:
            digests = np.memmap(file, DIGEST, "w+", shape=(max(rows.total, 1),))
            offsets = dict(zip(rows.shard_ids, rows.offsets.tolist(), strict=False))

            def of_input(item: tuple[RunShard, int]) -> list[str]:
                shard, count = item
                part = digests[shard.first_row : shard.first_row + count]
                return list(first_faults(self._input_faults(self.shards[shard.shard_id], part)))

            def of_output(tar: str) -> tuple[list[str], int]:
                compared = Counter[str]()
                found = self._output_faults(f"{self.plan.export}/{tar}", digests, offsets, compared)
                return list(first_faults(found)), compared.total()

            for faults in pool.each(of_input, zip(rows.shards, rows.counts, strict=True)):
                yield from faults
            for faults, compared in pool.each(of_output, stored_sizes(self.plan.root, self.plan.export)):
                self.compared += compared
                yield from faults

    def _input_faults(self, shard: Shard, digests: NDArray[Any]) -> Iterator[str]:
        """What differs from the stored columns; fills `digests` where a sample is kept."""
        store, folders = self.plan.root, self.plan.columns.folders
        stored = read_columns(store, folders["samples"], shard.shard_id, SAMPLES.names)
        kept = kept_rows(store, self.plan.verdicts, shard.shard_id)
        rows, kept_rest = self._rows(shard, kept), iter(kept.tolist())
        row, start = next(kept_rest, None), 0
        try:
            for batch, originals in contents(shard, self.plan.recipe.reading, kept):
                yield from _differing(shard, stored.slice(start, batch.num_rows), batch, start)
                for i, original in enumerate(originals):
                    if row == start + i and row < len(digests):
                        image = batch.column("image")[i].as_py() or b""
                        digests[row], fault = self._digest(Sample(next(rows), image, original))
                        if fault is not None:
                            yield f"input {shard.url}: sample {batch.column('key')[i].as_py()!r} (row {row}): {fault}"
                        row = next(kept_rest, None)
                start += batch.num_rows
        except FileNotFoundError:
            yield f"input {shard.url} is no longer there: its samples in the output cannot be compared"
            return
        if start != stored.num_rows:
            yield f"input {shard.url} has {start} samples, it had {stored.num_rows} when it was read"

    def _rows(self, shard: Shard, kept: NDArray[np.int32]) -> Iterator[dict[str, Any]]:
        """The stored columns of the kept samples of a shard, in its order."""
        if len(kept):
            table = self._columns.samples([(shard.shard_id, int(row)) for row in kept], self.shards)
            for batch in table.to_batches(max_chunksize=BATCH_ROWS):
                yield from batch.to_pylist()

    def _digest(self, sample: Sample) -> tuple[tuple[Any, ...], str | None]:
        """A value of DIGEST, and what is wrong with the sample's stored columns."""
        fault = None if sha256(sample.image).hex() == sample.row["sha256"] else "its image is not the one that was read"
        try:
            extension, image = image_member(sample, self.plan.recipe.export.pictures)
        except SampleFailure:
            extension, image = "", sample.image
        try:
            added = [column.name for column in self._columns.added_fields]
            exported = sample_json(sample, self._class_names, added, self._columns.with_empty)
            if not carried(sample.json, exported, added):
                fault = fault or "its JSON object is not whole in the output"
        except (ValueError, RecursionError):
            exported, fault = b"", fault or "its JSON object can no longer be read"
        members = (image, caption_member(sample), exported)
        digests = (np.frombuffer(sha256(member), np.uint8) for member in members)
        return (True, extension.encode()[:8], *digests), fault

    def _output_faults(
        self, path: str, digests: NDArray[Any], offsets: dict[str, int], compared: Counter[str]
    ) -> Iterator[str]:
        """What differs from what the output must be; counts in `compared` while it is read."""
        columns = ["key", "source_shard_id", "source_row", "source_key"]
        sidecar = read_table(self.plan.root, f"{path.removesuffix('.tar')}.parquet", columns)
        samples = _output(f"{self.plan.root.url}/{path}")
        for row, parts in zip(sidecar.to_pylist(), samples, strict=False):   # how many there are, the sidecar's check has said
            compared[path] += 1
            shard_id = row["source_shard_id"]
            digest = digests[offsets[shard_id] + row["source_row"]] if shard_id in offsets else np.zeros((), DIGEST)
            url = self.shards[shard_id].url if shard_id in self.shards else shard_id
            source_name = f"sample {row['source_key']!r} (row {row['source_row']}) of input {url}"
            if not digest["kept"] or parts.key != row["key"]:
                yield f"{path}: sample {parts.key}: no kept sample is behind it; its sidecar names {source_name}"
                continue
            for name, member in (("image", parts.image), ("caption", parts.text), ("json", parts.json)):
                if member is None or member.content is None or sha256(member.content) != digest[name].tobytes():
                    yield f"{path}: sample {parts.key}: {MEMBERS[name]} that of {source_name}"
            if parts.image is not None and parts.image.extension.encode()[:8] != digest["extension"]:
                yield f"{path}: sample {parts.key}: the extension of its image is not that of {source_name}"


def contents(
    shard: Shard, reading: source.Reading, kept: NDArray[np.int32]
) -> Iterator[tuple[pa.RecordBatch, list[bytes | None]]]:
    """The samples of a shard in batches of at most BATCH_ROWS, each with the metadata objects of its rows; of a parquet file
    only those of the kept rows (`kept`: int32, ascending). Raises FileNotFoundError where the shard is gone."""
    objects: deque[bytes | None] = deque()
    with open_url(shard.url, scattered=shard.kind == "parquet") as file:
        codec = codec_of(file) if shard.kind == "tar" else None
        if codec in UNSUPPORTED.values():
            return
        if shard.kind == "tar":
            location = "tar_range" if codec is None else "stream_only"
            parts = source.group_members(tar_members(file, codec), IgnoredMembers())
            pairs = _tar_samples(parts, reading, in_place=codec is None)
        else:
            location, pairs = "parquet_row", _parquet_samples(shard, ParquetSamples(file, reading.caption_keys), kept)
        for batch in source.batches(_first(pairs, objects), location, BATCH_ROWS, BATCH_BYTES, reading.fallback):
            yield batch, [objects.popleft() for _ in range(batch.num_rows)]


SamplesAndJson = Iterator[tuple[source.Sample, bytes | None]]


def _tar_samples(members: Iterable[source.Parts], reading: source.Reading, *, in_place: bool) -> SamplesAndJson:
    for ordinal, parts in enumerate(members):
        original = parts.json.content if parts.json is not None else None
        yield source.sample_of(parts, None if in_place else ordinal, reading), original


def _parquet_samples(shard: Shard, samples: Iterable[source.Sample], kept: NDArray[np.int32]) -> SamplesAndJson:
    with open_url(shard.url, scattered=True) as file:
        objects, rows = rows_at(file, kept.astype(np.int64)), iter(kept.tolist())
        row = next(rows, None)
        for sample in samples:
            if sample.image_offset == row and row is not None:
                yield sample, next(objects, (b"", None))[1]
                row = next(rows, None)
            else:
                yield sample, None


def _first(pairs: SamplesAndJson, objects: deque[bytes | None]) -> Iterator[source.Sample]:
    """The samples; their objects wait in the queue until the batch is made."""
    for sample, original in pairs:
        objects.append(original)
        yield sample


def _output(url: str) -> Iterator[source.Parts]:
    with open_url(url) as file:
        yield from source.group_members(tar_members(file, None), IgnoredMembers())


def _differing(shard: Shard, stored: pa.Table, batch: pa.RecordBatch, start: int) -> Iterator[str]:
    """Rows whose columns are not the stored ones. Of a root of an older version, which read some samples otherwise, those columns
    count that say which bytes were read."""
    compared = SAMPLES.names if set(SAMPLES.names) <= set(stored.column_names) else ["uid", "key", "image_offset", "image_length"]
    stored, columns = stored.select(compared), pa.Table.from_batches([batch.select(compared)])
    if columns.slice(0, stored.num_rows).equals(stored):
        return
    for i, (before, after) in enumerate(zip(stored.to_pylist(), columns.to_pylist(), strict=False)):
        names = [name for name in compared if before[name] != after[name]]
        if names:
            yield (
                f"input {shard.url}: sample {before['key']!r} (row {start + i}) is not what was read: "
                f"{', '.join(names)} differ{'s' if len(names) == 1 else ''}"
            )


def carried(original: bytes | None, exported: bytes, added: Sequence[str] = ()) -> bool:
    """Whether an exported JSON object has all of the original one that JSON can say: each key as it was, or, where ours has its
    name, in `source` beside what the original itself has there."""
    before, after = strict(carried_object(original)), json.loads(exported)
    added_names = {*SAMPLE_JSON.names, *added}
    displaced = {key: value for key, value in before.items() if key in added_names}
    kept = {key: value for key, value in before.items() if key not in added_names}
    if displaced:
        own_source = kept.get("source", {})
        mergeable = isinstance(own_source, dict) and not own_source.keys() & displaced.keys()
        kept["source"] = {**(own_source if mergeable else {"source": own_source}), **displaced}
    return _text(kept) == _text({key: value for key, value in after.items() if key not in added_names})


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)   # as text NaN equals NaN, and 1 is not True


def sha256(content: bytes) -> bytes:
    """The 32 bytes of the hash."""
    return hashlib.sha256(content).digest()


def first_faults(faults: Iterator[str]) -> Iterator[str]:
    """The first NAMED faults of a file, and how many more it has."""
    yield from islice(faults, NAMED)
    remaining = sum(1 for _ in faults)
    if remaining:
        yield f"... and {remaining} more of this file"
