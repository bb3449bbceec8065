"""What an exported sample is made of: its stored columns and its bytes at the source.

The bytes are fetched in chunks in output order by ranged reads. Samples that cannot be read in place (compressed tars,
parquet) are spooled to a temporary file first, so that a shard is passed over once per output shard.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Columns
from pipeline.entities.counts import Frequent
from pipeline.errors import InputError
from pipeline.export.class_table import class_names
from pipeline.input.discovery import Shard
from pipeline.input.reader import fetch
from pipeline.input.witnesses import Witnesses, to_blame
from pipeline.store.tables import read_columns
from schemas.columns import ENTITY, LABELS, SAMPLES

CHUNK = 256
"""Samples fetched together: bounds memory, and gives a remote store enough to read at once."""

READ = {
    "samples": tuple(SAMPLES.names[:-1]),
    "image": ("width", "height", "image_format"),
    "hashes": ("sha256", "phash"),
    "clip": ("clip_similarity",),
    "entities": ("entities",),
}


@dataclass(frozen=True)
class Sample:
    """A sample on its way into an output shard."""

    row: Mapping[str, Any]
    """Its stored columns."""
    image: bytes
    json: bytes | None


@dataclass(frozen=True)
class ExportColumns:
    """The columns that an export reads, and where they are."""

    columns: Columns
    verdicts: str
    labels: str | None
    classes: str | None
    frequent: Frequent
    added: Mapping[str, pa.Schema] = field(default_factory=dict)
    """Stage -> the columns of it that go out with every sample, of stages that not every run has."""

    with_empty: bool = False
    """The JSON object of a sample also has what says nothing of it, as in exports up to version 2."""

    @property
    def added_fields(self) -> tuple[pa.Field, ...]:
        """The columns of stages that not every run has, in the order of the stages."""
        return tuple(column for schema in self.added.values() for column in schema)

    def class_names(self) -> dict[int, str]:
        """Names by class id; empty without classes."""
        if self.classes is None:
            return {}
        return class_names(self.columns.store, self.classes)

    def samples(self, rows: Sequence[tuple[str, int]], shards: Mapping[str, Shard]) -> pa.Table:
        """A table of the stored columns of these (shard_id, row), in this order."""
        by_shard: dict[str, list[int]] = {}
        for position, (shard_id, _) in enumerate(rows):
            by_shard.setdefault(shard_id, []).append(position)
        parts, positions = [], []
        for shard_id in sorted(by_shard):
            local = pa.array([rows[p][1] for p in by_shard[shard_id]], pa.int32())
            parts.append(self._shard(shard_id).take(local))
            positions.extend(by_shard[shard_id])
        return pa.concat_tables(parts).take(pa.array(np.argsort(positions)))

    def _shard(self, shard_id: str) -> pa.Table:
        store, folders = self.columns.store, self.columns.folders
        columns: dict[str, Any] = {}
        for stage, names in (READ | {stage: tuple(schema.names) for stage, schema in self.added.items()}).items():
            table = read_columns(store, folders[stage], shard_id, names)
            columns.update({name: table.column(name) for name in names if name in table.column_names})
        count = len(columns["uid"])
        for name in set(SAMPLES.names[:-1]) - set(columns):   # of a root of an older version
            columns[name] = pa.nulls(count, SAMPLES.field(name).type)
        if self.labels is None:
            columns.update({name: pa.nulls(count, LABELS.field(name).type) for name in LABELS.names[1:]})
        else:
            table = read_columns(store, self.labels, shard_id, LABELS.names[1:])
            columns.update({name: table.column(name) for name in table.column_names})
        columns["entities"] = self._confirmed(columns["entities"])
        columns["shard_id"] = pa.array([shard_id] * count)
        columns["row"] = pa.array(np.arange(count, dtype=np.int32))
        return pa.table(columns)

    @cached_property
    def _frequent(self) -> frozenset[str]:
        return self.frequent.ids()

    def _confirmed(self, entities: pa.ChunkedArray) -> pa.Array:
        """The confirmed entities that the cut of rare ones leaves, each once, best z first."""
        rows = []
        for row in entities.to_pylist():
            entities_by_id = {e["id"]: e for e in reversed(row or ()) if e["confirmed"] and e["id"] in self._frequent}
            rows.append(sorted(entities_by_id.values(), key=lambda e: (-e["z"], e["id"])))
        return pa.array(rows, pa.list_(ENTITY))

    def bytes_of(self, table: pa.Table, shards: Mapping[str, Shard], known: Witnesses) -> Iterator[Sample]:
        """The samples of `table` with their bytes, in its order. Raises InputError or OSError where an input shard cannot be read
        any more, SourceError where none of the inputs that are `known` of its store can."""
        with tempfile.TemporaryFile() as spool:
            spooled = self._spool(table, shards, known, spool)
            for start in range(0, table.num_rows, CHUNK):
                chunk = table.slice(start, CHUNK)
                contents = self._ranged(chunk, shards, known)
                for i, row in enumerate(chunk.to_pylist()):
                    if start + i in spooled:
                        offset, image_length, json_length = spooled[start + i]
                        spool.seek(offset)
                        image = spool.read(image_length)
                        original = spool.read(json_length) if json_length is not None else None
                    else:
                        image, original = contents[i]
                    yield Sample(row, image, original)

    def _spool(
        self, table: pa.Table, shards: Mapping[str, Shard], known: Witnesses, spool: Any,
    ) -> dict[int, tuple[int, int, int | None]]:
        """Copies what cannot be read in place to the spool; position -> (offset, image length, json length)."""
        places: dict[int, tuple[int, int, int | None]] = {}
        row = table.column("row").to_pylist()
        for shard_id, unordered in _positions(table, in_place=False):
            positions = sorted(unordered, key=lambda position: int(row[position]))   # one pass over the shard, in its order
            part = table.take(pa.array(positions))
            for position, (image, original) in zip(positions, fetched(shards[shard_id], part, known), strict=True):
                places[position] = (spool.tell(), len(image), None if original is None else len(original))
                spool.write(image)
                spool.write(original or b"")
        return places

    def _ranged(
        self, chunk: pa.Table, shards: Mapping[str, Shard], known: Witnesses,
    ) -> dict[int, tuple[bytes, bytes | None]]:
        contents: dict[int, tuple[bytes, bytes | None]] = {}
        for shard_id, positions in _positions(chunk, in_place=True):
            part = chunk.take(pa.array(positions))
            contents.update(zip(positions, fetched(shards[shard_id], part, known), strict=True))
        return contents


def fetched(shard: Shard, part: pa.Table, known: Witnesses) -> Iterator[tuple[bytes, bytes | None]]:
    """Image and JSON object of these rows of a shard. What cannot be read is the shard's fault or its store's (`to_blame`)."""
    try:
        yield from fetch(shard, part)
    except (InputError, OSError) as error:
        raise to_blame(error, shard.url, known) from error


def _positions(table: pa.Table, *, in_place: bool) -> Iterator[tuple[str, list[int]]]:
    """Positions in `table` by shard, of the samples that can be (or cannot be) read by a range."""
    ranged = np.asarray(pc.equal(table.column("location"), "tar_range"))
    shard_ids = table.column("shard_id").to_pylist()
    by_shard: dict[str, list[int]] = {}
    for position in np.flatnonzero(ranged == in_place):
        by_shard.setdefault(shard_ids[position], []).append(int(position))
    yield from sorted(by_shard.items())
