"""The image stage: format, size and shape of each picture, and its pixels for the stages behind it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError, SampleFailure
from pipeline.models.guard import Guard
from pipeline.models.images import PILLOW_NAMES, Decoded, Pixels, decode
from pipeline.stage import Contract, Stage, Transform
from schemas.columns import IMAGE, PIXELS


@dataclass(frozen=True)
class ImageStage(Stage):
    """Decodes every picture, once. A sample without image bytes failed before and gets nulls."""

    contract = Contract(
        "image", version=2, reads=("image", "source_width", "source_height"), writes=IMAGE, carries=PIXELS
    )

    allowed_formats: tuple[str, ...] = ("jpeg", "png", "webp")
    max_pixels: int = 89_478_485

    guard: Guard | None = None
    """Decodes every picture in another process first. No part of the identity: it changes nothing of a picture that can be
    decoded, and the process does not outlive the others."""

    @property
    def identity(self) -> dict[str, Any]:
        return {"allowed_formats": self.allowed_formats, "max_pixels": self.max_pixels}

    def careful(self) -> "ImageStage":
        return replace(self, guard=self.guard or Guard())

    @contextmanager
    def open(self) -> Iterator[Transform]:
        unknown = sorted(set(self.allowed_formats) - set(PILLOW_NAMES))
        if unknown:
            raise InputError(f"image.allowed_formats: {unknown} cannot be decoded; there is {', '.join(PILLOW_NAMES)}")
        guarded = nullcontext() if self.guard is None else self.guard.open(self.allowed_formats, self.max_pixels)
        with guarded as check:
            yield partial(image_columns, partial(self._decoded, check))

    def _decoded(self, check: Callable[[bytes], None] | None, data: bytes) -> Decoded:
        if check is not None:
            check(data)
        return decode(data, allowed_formats=self.allowed_formats, max_pixels=self.max_pixels)


def image_columns(decoded: Callable[[bytes], Decoded], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas IMAGE and PIXELS."""
    rows: list[dict[str, Any]] = []
    pictures: list[Decoded | None] = []
    sizes = zip(batch["source_width"].to_pylist(), batch["source_height"].to_pylist(), strict=True)
    for uid, image, source in zip(batch["uid"].to_pylist(), batch["image"], sizes, strict=True):
        row: dict[str, Any] = {"uid": uid}
        picture = None
        encoded: bytes | None = image.as_py()
        if encoded is not None:
            row["image_bytes"] = len(encoded)
            try:
                picture = decoded(encoded)
                row |= measured(picture, source)
            except SampleFailure as failure:
                row["image_error"] = failure.code
        rows.append(row)
        pictures.append(picture)
    columns = pa.RecordBatch.from_pylist(rows, schema=IMAGE)
    return pa.RecordBatch.from_arrays([*columns.columns, *pixel_columns(pictures)], schema=pa.schema([*IMAGE, *PIXELS]))


def measured(picture: Decoded, source: tuple[int | None, int | None]) -> dict[str, Any]:
    """The columns of one readable picture, by name; `source` is the original size that the input brought."""
    size = picture.width, picture.height
    original = (source[0], source[1]) if source[0] and source[1] and min(source[0], source[1]) > 0 else size
    return {
        "image_format": picture.format,
        "width": picture.width,
        "height": picture.height,
        "shortest_side": min(size),
        "longest_side": max(size),
        "pixels": picture.width * picture.height,
        "aspect_ratio": max(size) / min(size),
        "original_shortest_side": min(original),
        "original_longest_side": max(original),
        "original_aspect_ratio": max(original) / min(original),
    }


def pixel_columns(found: Sequence[Decoded | None]) -> list[pa.Array]:
    """The columns of schemas PIXELS; null where there is no picture. Pixels are copied once, into one buffer."""
    pictures = [None if picture is None else picture.pixels for picture in found]
    plain = [None if picture is None else picture.plain for picture in found]
    parts = [picture for picture in pictures if picture is not None]
    sizes = [0 if picture is None else picture.size for picture in pictures]
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    values = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0, np.uint8)
    valid = pa.array([picture is not None for picture in pictures], pa.bool_())
    rgb = pa.Array.from_buffers(
        pa.large_binary(), len(pictures), [valid.buffers()[1], pa.py_buffer(offsets), pa.py_buffer(values)]
    )
    rows = pa.array([None if picture is None else picture.shape[0] for picture in pictures], pa.int32())
    columns = pa.array([None if picture is None else picture.shape[1] for picture in pictures], pa.int32())
    return [rgb, rows, columns, pa.array(plain, pa.bool_())]


def pixel_arrays(batch: pa.RecordBatch) -> list[Pixels | None]:
    """The pictures of a batch that carries PIXELS, without a copy: uint8 [rows, columns, 3], read-only, or None."""
    rgb = batch["pixels_rgb"]
    _, offsets, values = rgb.buffers()
    starts = np.frombuffer(offsets, np.int64)[rgb.offset:] if len(rgb) else np.zeros(0, np.int64)
    pixels = np.frombuffer(values, np.uint8) if values else np.zeros(0, np.uint8)
    shapes = zip(batch["pixels_rows"].to_pylist(), batch["pixels_columns"].to_pylist(), strict=True)
    return [
        None if rows is None else pixels[start:start + rows * columns * 3].reshape(rows, columns, 3)
        for start, (rows, columns) in zip(starts, shapes, strict=False)
    ]
