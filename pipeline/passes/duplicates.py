"""From the columns of all shards to the table of duplicates. What counts as one is in `reduce/duplicates/`."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.columns import Run
from pipeline.plan import Plan
from pipeline.reduce.duplicates.find import Pictures, duplicate_table, find_duplicates
from pipeline.store.tables import write_table

THUMBNAIL_BYTES = 768
"""16 x 16 RGB."""


def write_duplicates(plan: Plan, run: Run) -> None:
    """Writes `duplicates.parquet` in `plan.duplicates`, where it is not yet."""
    store, path = plan.root, f"{plan.duplicates}/duplicates.parquet"
    if store.exists(path):
        return
    hashes = run.table("hashes", ["sha256", "phash", "thumbnail"])
    thumbnails = hashes.column("thumbnail").combine_chunks()
    pictures = Pictures(
        uid=run.table("samples", ["uid"]).column("uid").combine_chunks(),
        sha256=hashes.column("sha256").combine_chunks(),
        phash=np.asarray(hashes.column("phash").combine_chunks().fill_null(0), np.uint64),
        thumbnail=fixed_bytes(thumbnails, THUMBNAIL_BYTES),
        pixels=np.asarray(run.table("image", ["pixels"]).column("pixels").combine_chunks().fill_null(0), np.int64),
        valid=np.asarray(thumbnails.is_valid()),
        embedding=run.vectors("image_embedding"),
    )
    settings = plan.recipe.duplicates
    pairs = find_duplicates(pictures, radius=settings.radius, correlation=settings.correlation)
    write_table(store, path, duplicate_table(pairs, pictures, run.rows), {"rows": run.rows.total})


def fixed_bytes(array: pa.Array, width: int) -> NDArray[np.uint8]:
    """uint8 [rows, width] of a fixed-size binary column; zeros where null."""
    out = np.zeros((len(array), width), np.uint8)
    packed = b"".join(value for value in array.drop_null().to_pylist())
    out[np.asarray(array.is_valid())] = np.frombuffer(packed, np.uint8).reshape(-1, width)
    return out
