"""The pictures of a report: chosen row ids in, captions and thumbnails out. At most one shard's rows are in hand at a time."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError, SampleFailure
from pipeline.input.discovery import Shard
from pipeline.input.reader import fetch
from pipeline.models.pixels.decoding import decode
from pipeline.plan import Plan
from pipeline.recipe.recipe import Recipe
from pipeline.report.data import LIMITS, Picture
from pipeline.report.page import cut, large_thumbnail, thumbnail
from pipeline.store.tables import read_columns

log = logging.getLogger(__name__)

RowId = tuple[str, int]
"""shard_id and row."""
READ_THROUGH = 16
"""Compressed archives that are read again: each must be read from its start, however few pictures are wanted of it."""


@dataclass(frozen=True)
class Pictures:
    """A picture for every row that was asked for, without a thumbnail where there is nothing to show."""

    pictures: Mapping[RowId, Picture]
    unread: tuple[str, ...] = ()
    """Shards whose bytes were not read again."""

    def picture(self, row: RowId, value: str = "") -> Picture:
        """The picture of a row, with what decided about it. Raises KeyError for a row that was not read."""
        return replace(self.pictures[row], value=value)


def read_pictures(plan: Plan, rows: Iterable[RowId], large: Iterable[RowId] = ()) -> Pictures:
    """Reads the input shards again, where the rows are; pictures of the `large` ones among them are larger. A shard that is gone or
    changed leaves its pictures empty."""
    enlarged = set(large)
    rows_by_shard: dict[str, list[int]] = {}
    for shard_id, row in sorted(set(rows)):
        rows_by_shard.setdefault(shard_id, []).append(row)
    pictures: dict[RowId, Picture] = {}
    unread, streamed = [], 0
    for shard in plan.shards:
        if shard.shard_id not in rows_by_shard:
            continue
        local = rows_by_shard[shard.shard_id]
        table = samples(plan, shard.shard_id, local)
        streamed += pc.any(pc.equal(table.column("location"), "stream_only")).as_py() or False
        jpegs = thumbnails(shard, table, plan.recipe, enlarged) if streamed <= READ_THROUGH else None
        if jpegs is None:
            unread.append(shard.relative)
        for row, entry in zip(local, table.select(["uid", "key", "caption"]).to_pylist(), strict=True):
            caption = cut(entry["caption"] or "", LIMITS["caption"])
            pictures[shard.shard_id, row] = Picture(
                caption, entry["key"], shard.relative, (jpegs or {}).get(row), uid=entry["uid"])
    return Pictures(pictures, tuple(unread))


def samples(plan: Plan, shard_id: str, rows: Sequence[int]) -> pa.Table:
    """What `fetch` needs of these rows, with uid, key, caption, `row` and whether it is `readable`; the metadata objects stay where
    they are."""
    names = ["uid", "key", "caption", "location", "image_offset", "image_length", "json_offset", "json_length"]
    table = read_columns(plan.root, plan.columns.folders["samples"], shard_id, names).take(pa.array(rows))
    for name in ("json_offset", "json_length"):
        table = table.set_column(table.column_names.index(name), name, pa.nulls(len(rows), pa.int64()))
    faults = read_columns(plan.root, plan.columns.folders["image"], shard_id, ["image_error"]).column("image_error")
    faults = faults.take(pa.array(rows))
    return table.append_column("row", pa.array(rows, pa.int64())).append_column("readable", pc.is_null(faults))


def thumbnails(
    shard: Shard, table: pa.Table, recipe: Recipe, enlarged: Collection[RowId] = ()
) -> dict[int, bytes] | None:
    """JPEG bytes by row, of the rows whose image was decoded before; None when the shard cannot be read as it was. The other
    rows are not tried: a picture may have ended the process that decoded it."""
    table = table.filter(pc.and_(table.column("readable"), pc.greater(pc.fill_null(table.column("image_length"), 0), 0)))
    jpegs = {}
    try:
        for row, (content, _) in zip(table.column("row").to_pylist(), fetch(shard, table), strict=True):
            jpeg = thumbnail_of(content, recipe, large=(shard.shard_id, row) in enlarged)
            if jpeg is not None:
                jpegs[row] = jpeg
    except (InputError, OSError, pa.ArrowException) as error:
        log.warning("no pictures of %s in the report: %s", shard.url, error)
        return None
    return jpegs


def thumbnail_of(content: bytes, recipe: Recipe, *, large: bool = False) -> bytes | None:
    """A thumbnail of encoded image bytes; None when they are no picture that the recipe allows."""
    try:
        decoded = decode(content, allowed_formats=recipe.image.allowed_formats, max_pixels=recipe.image.max_pixels, by_pillow=True)
    except SampleFailure:
        return None
    return large_thumbnail(decoded.pixels) if large else thumbnail(decoded.pixels)


def evenly_spread(shards: Sequence[Shard], limit: int) -> list[Shard]:
    """At most `limit` shards, evenly spread over the list, the first and the last among them."""
    positions = np.unique(np.linspace(0, max(len(shards) - 1, 0), min(limit, len(shards))).round().astype(int))
    return [shards[i] for i in positions]
