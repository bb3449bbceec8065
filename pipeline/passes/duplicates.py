"""From the columns of all shards to the table of duplicates. What counts as one is in `reduce/duplicates/`."""

from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.plan import Plan
from pipeline.reduce.duplicates.find import Pictures, duplicate_table, find_duplicates
from pipeline.store.tables import write_table
from schemas.tables import DUPLICATES

THUMBNAIL_BYTES = 768
"""16 x 16 RGB."""


def write_duplicates(plan: Plan, run: Run) -> None:
    """Writes `duplicates.parquet` in `plan.duplicates`, where it is not yet. What the recipe does not look for costs nothing: the
    table is empty, or without near pairs, and thumbnails are not read."""
    store, path = plan.root, f"{plan.duplicates}/duplicates.parquet"
    if store.exists(path):
        return
    settings = plan.recipe.duplicates
    if settings.find == "none":
        write_table(store, path, DUPLICATES.empty_table(), {"rows": run.rows.total})
        return
    near = settings.find == "near"
    phash, no_thumbnails = run.column("hashes", "phash"), pa.array([], pa.binary(THUMBNAIL_BYTES))
    pictures = Pictures(
        uid=run.column("samples", "uid"),
        sha256=run.column("hashes", "sha256"),
        phash=np.asarray(phash.fill_null(0), np.uint64),
        thumbnail=fixed_bytes(run.column("hashes", "thumbnail") if near else no_thumbnails, THUMBNAIL_BYTES),
        pixels=np.asarray(run.column("image", "pixels").fill_null(0), np.int64),
        valid=np.asarray(phash.is_valid()),
        embedding=partial(run.vectors, "image_embedding"),
    )
    pairs = find_duplicates(pictures, radius=settings.radius, correlation=settings.correlation, near=near)
    write_table(store, path, duplicate_table(pairs, pictures, run.rows), {"rows": run.rows.total})


def fixed_bytes(array: pa.Array, width: int) -> NDArray[np.uint8]:
    """uint8 [rows, width] of a fixed-size binary column; zeros where null."""
    out = np.zeros((len(array), width), np.uint8)
    if len(array):
        values = np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, width)[array.offset : array.offset + len(array)]
        valid = np.asarray(array.is_valid())
        out[valid] = values[valid]
    return out
