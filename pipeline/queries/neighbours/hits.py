"""What is known of samples that were found: columns of the few shards that they are in."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.process.ahead import threads
from pipeline.queries.rows.columns import RootColumns
from pipeline.search.index.ids import parted
from pipeline.vectors import Ints
from schemas.answers.neighbours import FoundSample, Hit

SHOWN = ("uid", "source_uid", "key", "caption", "verdict", "clip_similarity", "width", "height", "language", "labels", "entities")
"""Columns of a hit that files hold, as far as the root has them."""
PLAIN = ("source_uid", "key", "caption", "verdict", "clip_similarity", "width", "height", "language")
HELD = 128 << 20
"""Bytes of columns that are kept in memory, of the shards that were asked about last."""
REQUESTS = 16
"""Shards that a remote store is asked for at once."""


@dataclass
class HitColumns:
    """The columns of hits, shard by shard; safe for many threads. Holds HELD bytes, and a shard's columns for each thread."""

    columns: RootColumns
    names: tuple[str, ...] = SHOWN
    """Those that are read, as far as the root has them."""
    _held: OrderedDict[str, pa.Table] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def hits(self, rows: Sequence[tuple[str, int]], similarities: Sequence[float]) -> list[Hit]:
        """A hit for each row id, with its similarity, in order. Reads the shards that they are in, several at once where the root
        is remote. Raises RootError where the run is not as far as its columns."""
        return [Hit(**sample, similarity=value) for sample, value in zip(self.values(rows), similarities, strict=True)]

    def samples(self, rows: Sequence[tuple[str, int]]) -> list[FoundSample]:
        """The same for rows that were compared with nothing."""
        return [FoundSample(**sample) for sample in self.values(rows)]

    def values(self, rows: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
        """The fields of a sample for each row id; null for what is not read."""
        places: dict[str, list[int]] = {}
        for place, (shard_id, _) in enumerate(rows):
            places.setdefault(shard_id, []).append(place)
        samples: list[dict[str, Any]] = [{} for _ in rows]

        def of_shard(shard_id: str) -> list[dict[str, Any]]:
            return self._of_shard(shard_id, [rows[place][1] for place in places[shard_id]])

        remote = self.columns.plan.root.local is None
        with threads(REQUESTS if remote else 1, "hits") as pool:
            answers = pool.each(of_shard, places) if remote else map(of_shard, places)
            for shard_id, found in zip(places, answers, strict=True):
                for place, sample in zip(places[shard_id], found, strict=True):
                    samples[place] = sample
        return samples

    def _of_shard(self, shard_id: str, rows: Sequence[int]) -> list[dict[str, Any]]:
        table = self._table(shard_id).take(pa.array(rows, pa.int64()))
        values = {name: table.column(name).to_pylist() for name in table.column_names}
        nothing: list[Any] = [None] * len(rows)
        class_ids: Sequence[int | None] = nothing
        class_names: Sequence[str | None] = nothing
        if self.columns.classes is not None and "labels" in values:
            names = self.columns.classes.name_by_id
            class_ids = [labels[0] if labels else None for labels in values["labels"]]
            class_names = [None if class_id is None else names[class_id] for class_id in class_ids]
        entities = [_confirmed(of_sample) for of_sample in values.get("entities", nothing)]
        return [{
            "shard_id": shard_id, "row": row,
            "uid": values["uid"][i], **{name: _number(values.get(name, nothing)[i]) for name in PLAIN},
            "class_id": class_ids[i], "class_name": class_names[i],
            "entities": tuple(entities[i]), "entity_names": tuple(entities[i].values()),
        } for i, row in enumerate(rows)]

    def _table(self, shard_id: str) -> pa.Table:
        with self._lock:
            if shard_id in self._held:
                self._held.move_to_end(shard_id)
                return self._held[shard_id]
        names = [name for name in self.names if name in self.columns.stored]
        table = pa.table(self.columns.read(shard_id, names))
        with self._lock:
            if shard_id not in self._held:
                self._held[shard_id] = table
                self._bytes += table.nbytes
            while self._bytes > HELD:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
        return table


def _number(value: Any) -> Any:
    """None for what is no number, for JSON has none."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _confirmed(entities: Sequence[Mapping[str, Any]] | None) -> dict[str, str]:
    """Name by id of the confirmed entities."""
    return {entity["id"]: entity["name"] for entity in entities or () if entity["confirmed"]}


def row_ids(columns: RootColumns, ids: Ints) -> list[tuple[str, int]]:
    """(shard_id, row) of each id, i64 [n]; the number of a shard is its place in the plan."""
    numbers, rows = parted(ids)
    return [(columns.plan.shards[number].shard_id, row) for number, row in zip(numbers.tolist(), rows.tolist(), strict=True)]
