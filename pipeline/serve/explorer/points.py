"""The samples that a map shows: drawn by seed, with what colours them, each at its place in the plane.

A run of any size costs the same: at most SHARDS shards are read, and of them the columns of Points and the drawn rows' embeddings.
"""

import numpy as np
import pyarrow as pa

from pipeline.draws import drawn_places, sampled
from pipeline.errors import InputError
from pipeline.queries.rows.columns import RootColumns
from pipeline.reduce.layout.plane import plane
from pipeline.search.threads import single_threaded
from pipeline.vectors import Floats

POINTS, SHARDS = 100_000, 256
"""Samples of a map, and shards that they come from, at most."""
EMBEDDING = "image_embedding"
DESCRIBED = ("uid", "shard_id", "row", "clip_similarity", "verdict", "class_id", "class_name")
"""Columns of a point, those that the root has."""
REQUIRED = ("uid", "verdict", EMBEDDING)
SCHEMA = pa.schema({
    "uid": pa.string(), "shard_id": pa.string(), "row": pa.int32(), "clip_similarity": pa.float32(), "verdict": pa.string(),
    "class_id": pa.int32(), "class_name": pa.string(), "x": pa.float32(), "y": pa.float32(),
})
"""A point. Null: no similarity, no class."""


def points(columns: RootColumns, count: int = POINTS, seed: int = 0, shards: int = SHARDS) -> pa.Table:
    """At most `count` samples that have a picture's embedding, from at most so many shards, in SCHEMA. Raises InputError where the
    root has no embeddings of pictures, RootError where it is unfinished."""
    missing = [name for name in REQUIRED if name not in columns.schema.names]
    if missing:
        raise InputError(f"a map needs the column {missing[0]}, which this root does not have")
    ids = [shard.shard_id for shard in columns.plan.shards]
    chosen = [ids[place] for place in drawn_places(len(ids), shards, seed)]
    rows = [columns.count(shard_id) for shard_id in chosen]
    allotted = np.diff(np.searchsorted(drawn_places(sum(rows), count, seed), np.cumsum([0, *rows])))
    drawn = [_of_shard(columns, shard_id, int(part), seed) for shard_id, part in zip(chosen, allotted, strict=True)]
    vectors = np.concatenate([vectors for _, vectors in drawn])
    single_threaded()
    places = plane(vectors, seed)
    table = pa.concat_tables(table for table, _ in drawn)
    table = table.append_column("x", pa.array(places[:, 0])).append_column("y", pa.array(places[:, 1]))
    return table.select(SCHEMA.names).cast(SCHEMA)


def _of_shard(columns: RootColumns, shard_id: str, count: int, seed: int) -> tuple[pa.Table, Floats]:
    """The described columns of `count` samples of a shard, and f32 [n, d]; fewer where few have an embedding."""
    present = [name for name in DESCRIBED if name in columns.schema.names]
    read = columns.read(shard_id, [*present, EMBEDDING])
    valid = np.flatnonzero(read[EMBEDDING].is_valid().to_numpy(zero_copy_only=False))
    chosen = sampled(valid, count, seed)
    matrix = np.asarray(columns.vectors(shard_id, EMBEDDING)[chosen], np.float32)
    nulls = {name: pa.nulls(len(chosen), SCHEMA.field(name).type) for name in DESCRIBED if name not in present}
    taken = {name: read[name].take(pa.array(chosen)).cast(SCHEMA.field(name).type) for name in present}
    return pa.table({name: (taken | nulls)[name] for name in DESCRIBED}), matrix
