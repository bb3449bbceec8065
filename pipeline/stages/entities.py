"""The entities stage: the sense of each mention that the image speaks for. Works on stored columns, without pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.entities.linking import confirmed_counts, link, mentions_of
from pipeline.entities.table import EntityTable
from pipeline.stage import Contract, Stage, Transform
from pipeline.store.store import Store
from pipeline.store.tables import as_matrix
from schemas.columns import ENTITIES


@dataclass(frozen=True)
class EntitiesStage(Stage):
    """Links mentions to entities and confirms them against the run's threshold.

    `table` is the URL of the folder that `EntityTable.save` wrote; its last part names its content (`calibration@<fp>`), so
    that it is the stage's identity, wherever the output root is. Nulls where a sample has no mentions column or no image.
    """

    contract = Contract("entities", version=1, reads=("mentions", "image_embedding"), writes=ENTITIES)

    table: str

    @property
    def identity(self) -> dict[str, Any]:
        """The table by the last part of its URL."""
        return {"table": self.table.rstrip("/").rsplit("/", 1)[-1]}

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield partial(entity_columns, EntityTable.load(Store(self.table)))


def entity_columns(table: EntityTable, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas ENTITIES for a batch with `uid`, `mentions` and `image_embedding`."""
    column, vectors = batch["mentions"], batch["image_embedding"]
    linkable = np.asarray(vectors.is_valid()) & np.asarray(column.is_valid())
    mentions = mentions_of(column, linkable)
    links = link(table, mentions, as_matrix(vectors, vectors.type.list_size))
    rows: list[list[dict[str, Any]] | None] = [[] if has_both else None for has_both in linkable]
    for mention, entity, score, z in zip(links.mentions, links.entities, links.scores, links.z, strict=True):
        row = rows[mentions.images[mention]]
        if row is not None:
            row.append({
                "id": table.ids[entity], "name": table.names[entity],
                "start": mentions.starts[mention], "end": mentions.ends[mention],
                "link_score": float(score), "z": float(z), "confirmed": bool(z >= table.threshold),
            })
    for row in rows:
        if row is not None:
            row.sort(key=lambda entity: (-entity["z"], entity["start"]))
    return pa.RecordBatch.from_arrays(
        [
            batch["uid"], pa.array(rows, ENTITIES.field("entities").type), confirmed_counts(rows),
            pa.nulls(len(rows), pa.string()),
        ],
        schema=ENTITIES,
    )
