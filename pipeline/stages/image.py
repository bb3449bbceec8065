"""The image stage: format, size and shape of each picture, and its pixels for the stages behind it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError, SampleFailure
from pipeline.models.pixels.decoding import PILLOW_NAMES, Decoded, decode
from pipeline.models.pixels.guard import Guard
from pipeline.stage import Contract, Stage, Transform
from pipeline.stages.pixels import INLINE, VIEW
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
        """What decides which pictures decode; the guard does not."""
        return {"allowed_formats": self.allowed_formats, "max_pixels": self.max_pixels}

    def careful(self) -> "ImageStage":
        """The stage with a guard, for the last try of a shard."""
        return replace(self, guard=self.guard or Guard())

    @contextmanager
    def open(self) -> Iterator[Transform]:
        unknown = sorted(set(self.allowed_formats) - set(PILLOW_NAMES))
        if unknown:
            raise InputError(f"image.allowed_formats: {unknown} cannot be decoded; there is {', '.join(PILLOW_NAMES)}")
        guarded = nullcontext() if self.guard is None else self.guard.open(self.allowed_formats, self.max_pixels)
        with guarded as check:
            yield partial(image_columns, partial(self._decoded, check))

    def _decoded(self, check: Callable[[bytes], None] | None, data: memoryview) -> Decoded:
        if check is not None:
            check(bytes(data))
        return decode(data, allowed_formats=self.allowed_formats, max_pixels=self.max_pixels)


def image_columns(decoded: Callable[[memoryview], Decoded], batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas IMAGE and PIXELS."""
    rows: list[dict[str, Any]] = []
    pictures: list[Decoded | None] = []
    sizes = zip(batch["source_width"].to_pylist(), batch["source_height"].to_pylist(), strict=True)
    for uid, image, source in zip(batch["uid"].to_pylist(), batch["image"], sizes, strict=True):
        row: dict[str, Any] = {"uid": uid}
        picture = None
        encoded = image.as_buffer()
        if encoded is not None:
            row["image_bytes"] = encoded.size
            try:
                picture = decoded(memoryview(encoded).cast("B"))
                row |= picture_measures(picture, source)
            except SampleFailure as failure:
                row["image_error"] = failure.code
        rows.append(row)
        pictures.append(picture)
    columns = pa.RecordBatch.from_pylist(rows, schema=IMAGE)
    return pa.RecordBatch.from_arrays([*columns.columns, *pixel_columns(pictures)], schema=pa.schema([*IMAGE, *PIXELS]))


def picture_measures(picture: Decoded, source: tuple[int | None, int | None]) -> dict[str, Any]:
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


def pixel_columns(decoded: Sequence[Decoded | None]) -> list[pa.Array]:
    """The columns of schemas PIXELS; null where there is no picture. Each picture stays where its decoder put it."""
    pictures = [None if picture is None else picture.pixels for picture in decoded]
    flat = [np.zeros(0, np.uint8) if picture is None else picture.reshape(-1) for picture in pictures]
    views = np.zeros(len(flat), VIEW)
    views["length"] = [picture.size for picture in flat]
    views["buffer"] = np.arange(len(flat))
    for view, picture in zip(views.view(np.uint8).reshape(-1, VIEW.itemsize), flat, strict=True):
        if picture.size <= INLINE:
            view[4:] = 0
            view[4:4 + picture.size] = picture
        else:
            view[4:8] = picture[:4]
    valid = pa.array([picture is not None for picture in pictures], pa.bool_())
    rgb = pa.Array.from_buffers(
        pa.binary_view(), len(flat), [valid.buffers()[1], pa.py_buffer(views), *map(pa.py_buffer, flat)]
    )
    rows = pa.array([None if picture is None else picture.shape[0] for picture in pictures], pa.int32())
    columns = pa.array([None if picture is None else picture.shape[1] for picture in pictures], pa.int32())
    plain = pa.array([None if picture is None else picture.plain for picture in decoded], pa.bool_())
    return [rgb, rows, columns, plain]
