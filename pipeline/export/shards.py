"""The work that writes one output shard: a deterministic WebDataset tar and its sidecar. Which samples it has is `export/plan.py`,
what their members are `export/members.py`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ConservationError
from pipeline.export.members import caption_member, image_member
from pipeline.export.plan import OutputShard, part_rows, taken_rows
from pipeline.export.sample_json import sample_json
from pipeline.export.samples import ExportColumns
from pipeline.input.discovery import Shard
from pipeline.input.reader import write_tar
from pipeline.input.witnesses import Witnesses
from pipeline.models.pixels.encoding import AS_STORED, PictureRule
from pipeline.store.tables import write_table
from pipeline.timing.clock import OTHER, READ, WRITE, spent, timed
from pipeline.work import Facts, Work, beat
from schemas.exports import EXPORT

Member = tuple[str, str, bytes, bytes, bytes]
"""Key, extension of the picture, picture, caption and JSON object of an exported sample."""


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
    pictures: PictureRule = AS_STORED
    witnesses: Witnesses = field(default_factory=dict)
    """Inputs that are asked when one cannot be read: whether it is the store."""

    def rows_of(self, item: OutputShard) -> int:
        return item.samples

    @contextmanager
    def open(self) -> Iterator[Callable[[OutputShard], Facts]]:
        label_names = self.columns.class_names()
        yield lambda item: self._run(item, label_names)

    def _run(self, item: OutputShard, label_names: Mapping[int, str]) -> Facts:
        rows = [row for part in item.parts for row in part_rows(part, self.kept(part.shards), self.seed)]
        if len(rows) != item.samples:
            raise ConservationError(f"output shard {item.name}: {item.samples} samples planned, {len(rows)} kept rows found")
        shards = {shard.shard_id: shard for part in item.parts for shard in part.shards}
        table = self.columns.samples(rows, shards)
        keys = [f"{item.name}{i:0{self.digits}d}" for i in range(len(rows))]
        store, written_hashes = self.columns.columns.store, list[str | None]()
        with spent(WRITE), store.create(f"{self.folder}/{item.name}.tar") as file:
            hashed = _Hashing(file)
            extensions = set[str]()
            members = noted(self.members(keys, table, shards, label_names, written_hashes), extensions)
            offsets = write_tar(cast(IO[bytes], hashed), members)
            if len(offsets) != len(rows):   # inside the block: nothing is committed
                raise ConservationError(f"output shard {item.name}: {len(rows)} samples to write, {len(offsets)} written")
        sidecar = export_table(table, {"key": keys, "tar_offset": offsets}, shards, self.columns.added_fields, written_hashes)
        write_table(store, f"{self.folder}/{item.name}.parquet", sidecar, {"tar_sha256": hashed.hexdigest()})
        stats = {"count": len(rows), "successes": len(rows), "failed_to_download": 0, "failed_to_resize": 0,
                 "status_dict": {"success": len(rows)}, "bytes": hashed.size, "sha256": hashed.hexdigest(),
                 "extensions": sorted(extensions)}
        store.write_json(f"{self.folder}/{item.name}_stats.json", stats)
        return {"rows": len(rows), "bytes": hashed.size}

    def kept(self, shards: Sequence[Shard]) -> dict[str, NDArray[np.int32]]:
        """The rows of each shard that are exported, ascending, each as often as it is."""
        store = self.columns.columns.store
        return {shard.shard_id: taken_rows(store, self.columns.verdicts, self.copies, shard.shard_id) for shard in shards}

    def members(
        self, keys: list[str], table: pa.Table, shards: Mapping[str, Shard], label_names: Mapping[int, str],
        written: list[str | None],
    ) -> Iterator[Member]:
        """What goes into the tar; `written` gets for each sample the hash of its image where it is another than at the source."""
        added = [field.name for field in self.columns.added_fields]
        for key, sample in zip(keys, timed(READ, self.columns.bytes_of(table, shards, self.witnesses)), strict=True):
            with spent(OTHER):
                if hashlib.sha256(sample.image).hexdigest() != sample.row["sha256"]:
                    raise ConservationError(
                        f"input shard {shards[sample.row['shard_id']].url} changed since it was read: sample "
                        f"{sample.row['key']!r} has other bytes now; run again to read it anew"
                    )
                extension, image = image_member(sample, self.pictures)
                written.append(None if image is sample.image else hashlib.sha256(image).hexdigest())
                original = sample_json(sample, label_names, added, self.columns.with_empty)
                member = key, extension, image, caption_member(sample), original
            beat(1)
            yield member


@dataclass(frozen=True)
class ReadAgain(Work[Shard]):
    """Everything that an export asks of one input shard, and nothing is written: tells whose fault it is that an output shard could
    not be made."""

    export: Export

    def name(self, item: Shard) -> str:
        return item.shard_id

    @contextmanager
    def open(self) -> Iterator[Callable[[Shard], Facts]]:
        label_names = self.export.columns.class_names()
        yield lambda item: self._run(item, label_names)

    def _run(self, item: Shard, label_names: Mapping[int, str]) -> Facts:
        rows = np.unique(self.export.kept([item])[item.shard_id]).tolist()
        table = self.export.columns.samples([(item.shard_id, row) for row in rows], {item.shard_id: item}) if rows else None
        keys = [str(row) for row in rows]
        read = () if table is None else self.export.members(keys, table, {item.shard_id: item}, label_names, [])
        return {"rows": sum(1 for _ in read)}


def export_table(
    table: pa.Table, places: Mapping[str, Sequence[Any]], shards: Mapping[str, Shard], added: Sequence[pa.Field],
    written: Sequence[str | None],
) -> pa.Table:
    """The sidecar rows (schemas/exports.py, and the added columns behind) of the samples in `table`; `places` has their `key` and
    `tar_offset`, `written` the hash of each image that is not the one at the source."""
    schema = pa.schema([*EXPORT, *added])
    entity_ids = [[entity["id"] for entity in entities] for entities in table.column("entities").to_pylist()]
    shard_ids = table.column("shard_id").to_pylist()
    renamed = {"source_shard_id": "shard_id", "source_key": "key", "source_row": "row", "image_sha256": "sha256"}
    urls = [shards[shard_id].url for shard_id in shard_ids]
    computed = {**places, "entity_ids": entity_ids, "source_url": urls, "written_image_sha256": written}
    columns = [
        pa.array(computed[f.name], f.type) if f.name in computed else table.column(renamed.get(f.name, f.name)).cast(f.type)
        for f in schema
    ]
    return pa.table(columns, schema=schema)


def noted(members: Iterator[Member], extensions: set[str]) -> Iterator[Member]:
    """The members as they are; the extensions of their pictures are added to the set as they go by."""
    for member in members:
        extensions.add(member[1])
        yield member


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
