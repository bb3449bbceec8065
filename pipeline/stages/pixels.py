"""Decoded pictures in a batch: how stages read them. Imports no torch, so that stages from outside may."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.columns import PIXELS as PIXEL_COLUMNS

PIXELS = tuple(PIXEL_COLUMNS.names[:3])
"""What a stage reads that wants pictures: they are decoded once for all of them."""
VIEW = np.dtype([("length", "<i4"), ("head", "V4"), ("buffer", "<i4"), ("start", "<i4")])
"""One value of Arrow's binary_view: where it is. Up to INLINE bytes stand in it, behind the length."""
INLINE = 12


def pixel_arrays(batch: pa.RecordBatch) -> list[NDArray[np.uint8] | None]:
    """The pictures of a batch that carries PIXELS, without a copy: uint8 [rows, columns, 3], read-only, or None."""
    rgb = batch["pixels_rgb"]
    _, views, *values = rgb.buffers()
    where = np.frombuffer(views, VIEW)[rgb.offset:rgb.offset + len(rgb)] if len(rgb) else np.zeros(0, VIEW)
    inline = where.view(np.uint8).reshape(-1, VIEW.itemsize)[:, 4:]
    shapes = zip(batch["pixels_rows"].to_pylist(), batch["pixels_columns"].to_pylist(), strict=True)
    pictures: list[NDArray[np.uint8] | None] = []
    for inlined, (length, _, buffer, start), (rows, columns) in zip(inline, where.tolist(), shapes, strict=True):
        if rows is None:
            pictures.append(None)
            continue
        picture = inlined[:length] if length <= INLINE else np.frombuffer(values[buffer], np.uint8)[start:start + length]
        pictures.append(picture.reshape(rows, columns, 3))
    return pictures
