"""Pictures of samples, out of the input shards that they were read from: one ranged read each, and thumbnails of them."""

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

import pyarrow as pa

from pipeline.errors import InputError, SampleFailure
from pipeline.input.discovery import Shard
from pipeline.models.pixels.decoding import decode
from pipeline.models.pixels.encoding import transcoded
from pipeline.models.pixels.formats import DECODABLE, recognised
from pipeline.models.pixels.header import refuse_large
from pipeline.queries.naming import RowId
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.rows.pictures import READ, image_bytes
from pipeline.report.page import thumbnail
from pipeline.serve.problems import Refused
from pipeline.store.store import read_ranges

PLACES_BYTES = 48 << 20
"""Of columns that say where pictures are, in memory."""
THUMBS_BYTES = 24 << 20
"""Of thumbnails in memory."""
SIDES = (64, 128, 256, 512)
"""Longest sides of thumbnails, pixels."""
THUMB_LIMIT = 256 << 10
"""Bytes of a thumbnail."""

Value = TypeVar("Value")


class Picture(NamedTuple):
    """An encoded picture."""

    content: bytes
    media_type: str
    """image/… by its first bytes; application/octet-stream for what no decoder of ours reads"""
    sha256: str


@dataclass
class Recent(Generic[Value]):
    """Values that were asked for last, of so many bytes in all; safe for many threads."""

    limit: int
    size: Callable[[Value], int]
    _values: OrderedDict[object, Value] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def get(self, key: object, make: Callable[[], Value]) -> Value:
        """The value of a key, made where it is not there. Two threads may make one at the same time."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._bytes += self.size(value)
            while self._bytes > self.limit and self._values:
                self._bytes -= self.size(self._values.popitem(last=False)[1])
        return value


@dataclass
class Images:
    """The pictures of a root; safe for many threads."""

    columns: RootColumns
    _places: Recent[pa.Table] = field(default_factory=lambda: Recent(PLACES_BYTES, lambda table: int(table.nbytes)))
    _thumbs: Recent[bytes] = field(default_factory=lambda: Recent(THUMBS_BYTES, len))

    @cached_property
    def _shards(self) -> dict[str, Shard]:
        return {shard.shard_id: shard for shard in self.columns.plan.shards}

    def picture(self, row_id: RowId) -> Picture:
        """The bytes of a sample's picture, as they are in its input shard, checked against the hash that was stored. Raises Refused
        for a sample that has none, and where the shard is gone or has other bytes now."""
        sample = self._sample(row_id)
        try:
            content = image_bytes(self._shards[row_id[0]], sample)
        except InputError:
            raise Refused(404, "the picture of this sample is not to be had: it has none, or its input shard is gone or changed",
                          code="no_picture") from None
        try:
            format = recognised(content)
        except SampleFailure:
            format = ""
        known = format in DECODABLE
        return Picture(content, f"image/{format}" if known else "application/octet-stream", str(sample["sha256"]))

    def thumbnail(self, row_id: RowId, size: int) -> bytes:
        """A JPEG whose longest side is the smallest of SIDES that is no less than `size`. Raises Refused as `picture`, and for a
        picture that could not be decoded when it was read: it may have ended the process that tried."""
        side = next((side for side in SIDES if side >= size), SIDES[-1])
        return self._thumbs.get((row_id, side), lambda: self._made(row_id, side))

    def jpeg(self, row_id: RowId) -> bytes | None:
        """A sample's picture as a JPEG, of the stored bytes where they are one; None where there is no picture to show."""
        try:
            picture = self.picture(row_id)
            return picture.content if picture.media_type == "image/jpeg" else self._transcoded(row_id, picture)
        except Refused:
            return None

    def _transcoded(self, row_id: RowId, picture: Picture) -> bytes | None:
        rules = self.columns.plan.recipe.image
        if self._sample(row_id)["image_error"] is not None:
            return None
        try:
            refuse_large(picture.content, rules.allowed_formats, rules.max_pixels)
            return transcoded(picture.content, "jpeg 95")[1]
        except SampleFailure:
            return None

    def metadata(self, row_id: RowId) -> dict[str, str]:
        """`url` of a sample, where the metadata object that its input brought has one."""
        shard, sample = self._shards[row_id[0]], self._sample(row_id)
        if not sample["json_length"] or sample["location"] != "tar_range":
            return {}
        start = int(str(sample["json_offset"]))
        try:
            [content] = read_ranges(shard.url, [(start, start + int(str(sample["json_length"])))])
            url = json.loads(content).get("url")
        except (InputError, FileNotFoundError, ValueError, AttributeError, RecursionError):
            return {}
        return {"url": url} if isinstance(url, str) else {}

    def _made(self, row_id: RowId, side: int) -> bytes:
        if self._sample(row_id)["image_error"] is not None:
            raise Refused(404, "the picture of this sample cannot be decoded", code="no_picture")
        rules = self.columns.plan.recipe.image
        try:
            decoded = decode(self.picture(row_id).content, allowed_formats=rules.allowed_formats, max_pixels=rules.max_pixels,
                             by_pillow=True)
            return thumbnail(decoded.pixels, side, THUMB_LIMIT)
        except (SampleFailure, ValueError):
            raise Refused(404, "the picture of this sample cannot be decoded", code="no_picture") from None

    def _sample(self, row_id: RowId) -> dict[str, object]:
        """The columns of a sample that say where its picture is. Raises Refused for a row that is not there."""
        shard_id, row = row_id
        if shard_id not in self._shards:
            raise Refused(404, "this root has no such sample")
        names = [*READ, "image_error", "json_offset", "json_length"]
        table = self._places.get(shard_id, lambda: pa.table(
            {name: column for name, column in self.columns.read(shard_id, names).items() if name not in ("shard_id", "row")}))
        if not 0 <= row < table.num_rows:
            raise Refused(404, "this root has no such sample")
        sample: dict[str, object] = table.slice(row, 1).to_pylist()[0]
        return {**sample, "shard_id": shard_id, "row": row}
