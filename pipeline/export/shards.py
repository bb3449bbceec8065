"""Kept samples -> deterministic WebDataset shards with the side files that trainers look for.

The plan is made before any work and from counts alone: input shards shuffled by seed, taken in groups of G, the kept rows
of a group shuffled together (in a balanced export each as often as it is taken), and the whole sequence cut into shards of a
number of samples. So an output tar depends on verdicts, labels, copies, seed and G, never on who wrote it or when. Image bytes
and captions are copied, not re-encoded.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ConservationError
from pipeline.export.samples import ExportColumns, Sample, sample_json
from pipeline.input.discovery import Shard
from pipeline.input.reader import write_tar
from pipeline.select.stored import kept_rows
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, write_table
from pipeline.timing.clock import OTHER, READ, WRITE, spent, timed
from pipeline.work import Facts, Work, beat
from schemas.exports import EXPORT


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of one shuffled group of input shards."""

    shards: tuple[Shard, ...]
    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class OutputShard:
    index: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return f"{self.index:06d}"

    @property
    def samples(self) -> int:
        return sum(part.stop - part.start for part in self.parts)


def plan_export(
    shards: Sequence[Shard], kept: Mapping[str, int], *, size: int, group: int, seed: int | None
) -> list[OutputShard]:
    """The output shards: all of `size` samples, the last excepted. No seed: input order, nothing shuffled."""
    order = list(shards)
    if seed is not None:
        order = [order[i] for i in np.random.default_rng([seed, 0]).permutation(len(order))]
    groups = [tuple(order[i : i + group]) for i in range(0, len(order), group)]
    planned: list[OutputShard] = []
    parts: list[Part] = []
    room = size
    for number, members in enumerate(groups):
        position, end = 0, sum(kept[shard.shard_id] for shard in members)
        while position < end:
            step = min(room, end - position)
            parts.append(Part(members, number, position, position + step))
            position, room = position + step, room - step
            if room == 0:
                planned.append(OutputShard(len(planned), tuple(parts)))
                parts, room = [], size
    if parts:
        planned.append(OutputShard(len(planned), tuple(parts)))
    return planned


def part_rows(part: Part, kept: Mapping[str, NDArray[np.int32]], seed: int | None) -> list[tuple[str, int]]:
    """(shard_id, row) of a part's samples in output order; `kept` gives the rows of each shard that are exported, ascending."""
    rows = [(shard.shard_id, int(row)) for shard in part.shards for row in kept[shard.shard_id]]
    if seed is not None:
        order = np.random.default_rng([seed, 1, part.group]).permutation(len(rows))
        rows = [rows[i] for i in order]
    return rows[part.start : part.stop]


@dataclass(frozen=True)
class Export(Work[OutputShard]):
    """Writes one output shard: tar, sidecar parquet, then `_stats.json`, whose existence means done."""

    columns: ExportColumns
    folder: str
    seed: int | None
    digits: int = 4
    """Of a sample's number in its shard."""
    copies: str | None = None
    """Folder of how often each sample is taken; None: each kept one once."""

    def name(self, item: OutputShard) -> str:
        return item.name

    @contextmanager
    def open(self) -> Iterator[Callable[[OutputShard], Facts]]:
        label_names = self.columns.class_names()
        yield lambda item: self._run(item, label_names)

    def _run(self, item: OutputShard, label_names: Mapping[int, str]) -> Facts:
        started = time.monotonic()
        rows = [row for part in item.parts for row in part_rows(part, self._kept(part), self.seed)]
        if len(rows) != item.samples:
            raise ConservationError(f"output shard {item.name}: {item.samples} samples planned, {len(rows)} kept rows found")
        shards = {shard.shard_id: shard for part in item.parts for shard in part.shards}
        table = self.columns.samples(rows, shards)
        keys = [f"{item.name}{i:0{self.digits}d}" for i in range(len(rows))]
        store = self.columns.columns.store
        with spent(WRITE), store.create(f"{self.folder}/{item.name}.tar") as file:
            hashed = _Hashing(file)
            written = write_tar(cast(IO[bytes], hashed), self._members(keys, table, shards, label_names))
            if written != len(rows):   # inside the block: nothing is committed
                raise ConservationError(f"output shard {item.name}: {len(rows)} samples to write, {written} written")
        sidecar = export_table(keys, table, shards, self.columns.added_fields)
        write_table(store, f"{self.folder}/{item.name}.parquet", sidecar, {"tar_sha256": hashed.hexdigest()})
        stats = {"count": len(rows), "successes": len(rows), "failed_to_download": 0, "failed_to_resize": 0,
                 "status_dict": {"success": len(rows)}, "bytes": hashed.size, "sha256": hashed.hexdigest()}
        store.write_json(f"{self.folder}/{item.name}_stats.json", stats)
        return {"rows": len(rows), "bytes": hashed.size, "seconds": time.monotonic() - started}

    def _kept(self, part: Part) -> dict[str, NDArray[np.int32]]:
        store = self.columns.columns.store
        return {shard.shard_id: taken_rows(store, self.columns.verdicts, self.copies, shard.shard_id) for shard in part.shards}

    def _members(
        self, keys: list[str], table: pa.Table, shards: Mapping[str, Shard], label_names: Mapping[int, str]
    ) -> Iterator[tuple[str, str, bytes, bytes, bytes]]:
        added = [field.name for field in self.columns.added_fields]
        for key, sample in zip(keys, timed(READ, self.columns.bytes_of(table, shards)), strict=True):
            with spent(OTHER):
                if hashlib.sha256(sample.image).hexdigest() != sample.row["sha256"]:
                    raise ConservationError(
                        f"input shard {shards[sample.row['shard_id']].url} changed since it was read: sample "
                        f"{sample.row['key']!r} has other bytes now; run again to read it anew"
                    )
                extension = sample.row["image_extension"] or sample.row["image_format"]
                member = key, extension, sample.image, caption_bytes(sample), sample_json(sample, label_names, added)
            beat()
            yield member


def caption_bytes(sample: Sample) -> bytes:
    raw = sample.row["caption_raw"]
    return bytes(raw) if raw is not None else sample.row["caption"].encode()


def times_taken(store: Store, copies: str, shard_id: str) -> NDArray[np.int32]:
    """i32[rows]: how often each sample of a shard is exported."""
    return np.asarray(read_columns(store, copies, shard_id, ["copies"]).column("copies"), np.int32)


def taken_rows(store: Store, verdicts: str, copies: str | None, shard_id: str) -> NDArray[np.int32]:
    """Rows of a shard that are exported, ascending, each as often as it is."""
    if copies is None:
        return kept_rows(store, verdicts, shard_id)
    times = times_taken(store, copies, shard_id)
    return np.repeat(np.arange(len(times), dtype=np.int32), times)


def export_table(keys: list[str], table: pa.Table, shards: Mapping[str, Shard], added: Sequence[pa.Field] = ()) -> pa.Table:
    """The sidecar rows (schemas/exports.py, and the added columns behind) of the samples in `table`."""
    schema = pa.schema([*EXPORT, *added])
    entity_ids = [[entity["id"] for entity in entities] for entities in table.column("entities").to_pylist()]
    shard_ids = table.column("shard_id").to_pylist()
    renamed = {"source_shard_id": "shard_id", "source_key": "key", "source_row": "row", "image_sha256": "sha256"}
    computed: dict[str, Any] = {"key": keys, "entity_ids": entity_ids, "source_url": [shards[s].url for s in shard_ids]}
    columns = [
        pa.array(computed[f.name], f.type) if f.name in computed else table.column(renamed.get(f.name, f.name)).cast(f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)


def side_files(store: Store, folder: str, planned: Sequence[OutputShard], facts: Mapping[str, Any]) -> None:
    """sizes.json (open_clip), meta.json (DataComp's fields), wids.json; written when every tar is there."""
    tars = [f"{item.name}.tar" for item in planned]
    stats = [store.read_json(f"{folder}/{item.name}_stats.json") for item in planned]
    total = sum(item.samples for item in planned)
    store.write_json(f"{folder}/sizes.json", {tar: item.samples for tar, item in zip(tars, planned, strict=True)})
    shardlist = [
        {"url": tar, "nsamples": item.samples, "filesize": s["bytes"]} for tar, item, s in zip(tars, planned, stats, strict=True)
    ]
    store.write_json(f"{folder}/wids.json", {"wids_version": 1, "name": "shardmill", "shardlist": shardlist})
    meta = {"output_count": total, "output_shard_count": len(planned), "output_shard_format": "{:06d}.tar"}
    store.write_json(f"{folder}/meta.json", {**facts, **meta, "sha256": {t: s["sha256"] for t, s in zip(tars, stats, strict=True)}})


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self.size += len(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
