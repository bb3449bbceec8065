"""Parquet files with image bytes: a binary column, or the {bytes, path} struct of Hugging Face datasets.

One row is one sample. The image and caption columns are found by name and type; all other columns together are the
sample's metadata object, which is made when it is asked for (`fetch`), not when the samples are read. Values are taken out of Arrow
by `values.py`, whatever their type.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.input.members import Gap, add_gap, decode_name
from pipeline.input.metadata import dumped
from pipeline.input.samples import MAX_IMAGE, MAX_TEXT, TRAINERS_EXTENSIONS, Sample, pixels_or_none
from pipeline.input.values import bare, fields, is_bytes, is_number, is_text, json_value, may_be_pictures, numbers, raw
from pipeline.store.source import SourceFile
from schemas.reasons import GapKind, SampleFault

IMAGE_KEYS = ("image", "jpg", "png", "jpeg", "webp", "image_bytes", "img")
"""Columns that may hold the encoded image, the first one of a fitting type."""
KEYS = ("__key__", "key")
READING = {"buffer_size": 4 << 20, "pre_buffer": False, "page_checksum_verification": True}
"""A row group is streamed, 4 MiB of each column at a time: memory is bounded by the largest page, not the row group."""
DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What Arrow raises on damaged data."""
MAX_RATIO = 100
"""Bytes of a column per compressed byte, where they are more than MAX_IMAGE."""
DECODED_ROWS = 64
DECODED_BYTES = 8 << 20
"""What is decoded at once."""
MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}

Row = tuple[bytes, bytes | None]
"""Image bytes and metadata object."""


@dataclass(frozen=True)
class Layout:
    """Which column means what."""

    image: str
    in_struct: bool
    caption: str | None
    key: str | None
    metadata: tuple[str, ...]
    """Columns of the metadata object."""


def image_column(schema: pa.Schema, image_keys: Sequence[str] = IMAGE_KEYS) -> str | None:
    """The column with encoded images, or None: one of the names, else the only struct of {bytes, path}."""
    types = types_of(schema)
    named = [key for key in image_keys if key in types and _holds_bytes(types[key])]
    structs = [name for name, kind in types.items() if pa.types.is_struct(bare(kind)) and _holds_bytes(kind)]
    return named[0] if named else structs[0] if len(structs) == 1 else None


def types_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The columns by name; those that share a name cannot be told apart and are left out."""
    names = Counter(schema.names)
    return {field.name: field.type for field in schema if names[field.name] == 1}


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = bare(kind)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and may_be_pictures(kind.field("bytes").type)
    return may_be_pictures(kind)


def layout_of(schema: pa.Schema, caption_keys: Sequence[str]) -> Layout | None:
    """Which column means what in a file of this schema; None where no column holds images."""
    image = image_column(schema)
    if image is None:
        return None
    types = types_of(schema)
    texts = [name for name, kind in types.items() if is_text(kind)]
    captions = [*texts, *(name for name, kind in types.items() if is_bytes(kind) and name != image)]
    caption = next((key for key in caption_keys if key in captions), None)
    metadata = tuple(name for name in types if name != image)
    in_struct = pa.types.is_struct(bare(types[image]))
    return Layout(image, in_struct, caption, next((key for key in KEYS if key in texts), None), metadata)


class ParquetSamples:
    """Iterates once over the samples of a file, in row order; `gaps` names row groups that cannot be decoded.

    All columns are decoded, those of the metadata object too: a row counts as read only if all of it can be fetched again.
    """

    def __init__(self, file: SourceFile, caption_keys: Sequence[str], metadata: bool = False) -> None:
        """`metadata`: each sample has its metadata object; else it is made when it is asked for."""
        self._file, self._caption_keys, self._metadata = file, caption_keys, metadata
        self.gaps: list[Gap] = []
        self.members = 0

    def __iter__(self) -> Iterator[Sample]:
        opened, schema = _opened(self._file)
        if isinstance(opened, Gap):
            self.gaps.append(opened)
            return
        layout = layout_of(schema, self._caption_keys)
        if layout is None:
            names = ", ".join(schema.names)
            self.gaps.append(Gap(GapKind.NOT_AN_ARCHIVE, 0, f"no column with image bytes among {names}"))
            return
        start = 0
        for number in range(opened.num_row_groups):
            yield from self._group(opened, layout, number, start)
            start += opened.metadata.row_group(number).num_rows
            self.members = start

    def _group(self, opened: pq.ParquetFile, layout: Layout, number: int, start: int) -> Iterator[Sample]:
        stop, row, why = start + opened.metadata.row_group(number).num_rows, start, "fewer rows than promised"
        try:
            for batch in row_batches(opened, layout, number):
                yield from _samples(batch, layout, row, self._metadata)
                row += batch.num_rows
        except DAMAGE as error:
            if self._file.failed:
                raise
            why = str(error)
        if row < stop:
            detail = f"row group {number} cannot be decoded from row {row} on: {why}"
            add_gap(self.gaps, Gap(GapKind.CORRUPT_DATA, row, detail, stop - row))


def row_batches(opened: pq.ParquetFile, layout: Layout, number: int) -> Iterator[pa.RecordBatch]:
    """The rows of one row group, all columns. What is damaged ends both reading and fetching after the same row. Raises
    ArrowInvalid for a column that would fill the memory out of a few bytes: pictures hardly compress."""
    group = opened.metadata.row_group(number)
    for column in map(group.column, range(group.num_columns)):
        if column.total_uncompressed_size > max(MAX_IMAGE, MAX_RATIO * column.total_compressed_size):
            raise pa.ArrowInvalid(f"column {column.path_in_schema} is a decompression bomb")
    average = max(group.total_byte_size // max(group.num_rows, 1), 1)
    rows = max(min(DECODED_ROWS, DECODED_BYTES // average), 1)
    yield from opened.iter_batches(rows, row_groups=[number], columns=[layout.image, *layout.metadata], use_threads=False)


def _opened(file: SourceFile) -> tuple[pq.ParquetFile | Gap, pa.Schema]:
    """The file with its schema, or the gap that it is."""
    try:
        opened = pq.ParquetFile(file, **READING)
    except DAMAGE as error:
        if file.failed:
            raise
        file.seek(0)
        cut = file.read(4) == b"PAR1"
        return Gap(GapKind.TRUNCATED if cut else GapKind.NOT_AN_ARCHIVE, 0, f"no parquet footer: {error}"), pa.schema([])
    try:
        return opened, opened.schema_arrow
    except DAMAGE as error:   # a type that Arrow does not know
        return Gap(GapKind.CORRUPT_DATA, 0, f"its schema cannot be read: {error}", opened.metadata.num_rows), pa.schema([])


def _samples(batch: pa.RecordBatch, layout: Layout, start: int, metadata: bool) -> Iterator[Sample]:
    images, paths = _images(batch.column(layout.image), layout)
    captions = [None] * batch.num_rows if layout.caption is None else raw(batch.column(layout.caption))
    keys, uids = ([decode_name(text) if text is not None else None for text in _texts(batch, name)] for name in (layout.key, "uid"))
    widths, heights = (_numbers(batch, name) for name in ("original_width", "original_height"))
    for i in range(batch.num_rows):
        image, caption, fault = images[i], captions[i], None
        key, path = keys[i], paths[i]
        name = layout.image if path is None else decode_name(path)
        if len(image or b"") > MAX_IMAGE or len(caption or b"") > MAX_TEXT:
            image, caption, fault = None, None, SampleFault.UNREADABLE_MEMBER
        elif image is None:
            fault = SampleFault.MISSING_IMAGE
        elif caption is None:
            fault = SampleFault.MISSING_CAPTION
        yield Sample(
            key if key is not None else f"{start + i:09d}",
            image,
            name,
            extension_of(name, image),
            start + i,
            caption,
            source_uid=uids[i],
            source_width=pixels_or_none(widths[i]),
            source_height=pixels_or_none(heights[i]),
            metadata=_object(batch, layout, i) if metadata else None,
            fault=fault,
        )


def _images(column: pa.Array, layout: Layout) -> tuple[list[bytes | None], list[bytes | None]]:
    """Image bytes and the path that goes with each (None without one)."""
    if not layout.in_struct:
        return raw(column), [None] * len(column)
    kind = bare(column.type)
    has_path = kind.get_field_index("path") >= 0 and is_text(kind.field("path").type)
    return raw(fields(column, "bytes")), raw(fields(column, "path")) if has_path else [None] * len(column)


def _texts(batch: pa.RecordBatch, name: str | None) -> list[bytes | None]:
    """The bytes of a column of texts, which need not be valid UTF-8; nulls where there is no such column."""
    known = name is not None and name in batch.schema.names and is_text(batch.column(name).type)
    return raw(batch.column(name)) if known else [None] * batch.num_rows


def _numbers(batch: pa.RecordBatch, name: str) -> list[Any]:
    known = name in batch.schema.names and is_number(batch.column(name).type)
    return numbers(batch.column(name)) if known else [None] * batch.num_rows


def extension_of(name: str, image: bytes | None) -> str | None:
    """The image's extension: the end of its name where trainers look for that (a column may be called jpg), else what its first
    bytes show; None where neither tells."""
    extension = name.rpartition(".")[2].lower()
    if extension in TRAINERS_EXTENSIONS:
        return extension
    return next((suffix for magic, suffix in MAGIC.items() if (image or b"").startswith(magic)), None)


def rows_at(file: SourceFile, rows: NDArray[np.int64]) -> Iterator[Row]:
    """Yields image and metadata object of these rows, i64[n], ascending; reads only the row groups they are in."""
    opened = pq.ParquetFile(file, **READING)
    layout = layout_of(opened.schema_arrow, ())
    start = 0
    for number in range(opened.num_row_groups):
        stop = start + opened.metadata.row_group(number).num_rows
        chosen = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)]
        if len(chosen) and layout is not None:
            yield from _chosen(opened, layout, number, chosen - start)
        start = stop


def _chosen(opened: pq.ParquetFile, layout: Layout, number: int, rows: NDArray[np.int64]) -> Iterator[Row]:
    start = 0
    for batch in row_batches(opened, layout, number):
        in_batch = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)] - start
        for i in in_batch.tolist():
            (image,), _ = _images(batch.column(layout.image).slice(i, 1), layout)
            yield image or b"", _object(batch, layout, i)
        start += batch.num_rows
        if rows[-1] < start:
            return   # what follows may be damaged


def _object(batch: pa.RecordBatch, layout: Layout, i: int) -> bytes:
    """The metadata object of a row."""
    return dumped({name: json_value(batch.column(name)[i]) for name in layout.metadata})
