"""Tables of image paths and captions: csv, tsv, JSON lines (each plain, gzip or zstd) and parquet, row by row in bounded memory."""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.input.loose.columns import IS_URL, Columns, captions_of, object_of, text_of
from pipeline.input.loose.items import Candidate, Item, LeftOut, shown
from pipeline.input.loose.separated import Record, Records
from pipeline.input.parquet import image_column
from pipeline.input.samples import MAX_TEXT
from pipeline.input.text import is_encoding
from pipeline.input.values import bare, bare_value, is_bytes, is_number, is_text, json_value, numbers, raw
from pipeline.store.source import CODECS, DamagedStream, Decompressed, SourceFile
from pipeline.store.store import open_url

TEXT = (".csv", ".tsv", ".jsonl", ".ndjson")
COMPRESSED = ("", ".gz", ".zst")
TABLES = (*(kind + codec for kind in TEXT for codec in COMPRESSED), ".parquet")
DELIMITERS = (",", "\t", ";", "|")
MAX_LINE = 4 << 20
"""Characters of a line; a longer one is several, none of which is a row."""
BUFFER = 256 << 10
MAX_NAMED = 500
"""Characters of a row's name."""
WIDE = ("utf-16", "utf-32", "iso2022", "hz")
"""Encodings in which bytes that are not valid may be those of ASCII: they are replaced and not kept."""
ROWS = 256
"""Of a parquet file, decoded at once."""


class Row(NamedTuple):
    """One row of a table."""

    place: str
    values: dict[str, Any] | None
    """By column; None where it cannot be read."""


class Reads(Protocol):
    """What can be read from first to last byte."""

    def read(self, size: int, /) -> bytes: ...


def is_table(url: str) -> bool:
    """Whether a file is a table by its name."""
    return url.lower().endswith(TABLES)


def table_items(url: str, columns: Columns, encoding: str = "", prefix: str = "") -> Iterator[Item]:
    """The samples that a table names, in its order; keys are numbers of rows. A row with several captions is several samples.

    `encoding`: of the text; by default UTF-8, or UTF-16 where it begins so; bytes that are not valid go through as they are. Raises
    InputError for what is no such table, or names images by URL.
    """
    name = shown(url.rpartition("/")[2])
    with open_url(url, scattered=url.lower().endswith(".parquet")) as file:
        names, rows = _parquet(url, file) if url.lower().endswith(".parquet") else _text(url, file, encoding)
        first = next(rows, None)
        if first is not None and first.values is not None:
            known = names if names is not None else list(first.values)
            image, _ = columns.chosen(known)
            columns.check(url, known, text_of(first.values.get(image or "")))
        elif names is not None:
            columns.check(url, names, None)
        for number, row in enumerate(chain([] if first is None else [first], rows)):
            yield from _samples(name, row, columns, f"{prefix}{number:09d}")


def _samples(table: str, row: Row, columns: Columns, key: str) -> Iterator[Item]:
    place = f"{table} {row.place}"
    if row.values is None:
        yield LeftOut("bad_row", place)
        return
    image, caption = columns.chosen(tuple(row.values))
    path = text_of(row.values.get(image or ""))
    if not isinstance(path, str) or not path.strip():
        yield LeftOut("no_path", place)
        return
    named = f"{place}: {shown(path)}"[:MAX_NAMED]
    if IS_URL.match(path):
        yield LeftOut("url", named)
        return
    original = object_of(row.values)
    captions = captions_of(row.values.get(caption or ""))
    if len(original) > MAX_TEXT or any(len(text or b"") > MAX_TEXT for text in captions):
        yield LeftOut("too_large", place)
        return
    keys = [key] if len(captions) == 1 else [f"{key}-{i}" for i in range(len(captions))]
    for one, text in zip(keys, captions, strict=True):
        yield Candidate(one, named, path.strip(), caption=text, row=original)


def _text(url: str, file: SourceFile, encoding: str) -> tuple[list[str] | None, Iterator[Row]]:
    """Names of the columns (None: each row has its own) and rows."""
    head = file.read(4)
    file.seek(0)
    codec = next((codec for magic, codec in CODECS.items() if head.startswith(magic)), None)
    source: Reads = file if codec is None else Decompressed(file, codec)
    buffered = io.BufferedReader(_Raw(source, url), BUFFER)
    if not encoding:
        encoding = "utf-16" if buffered.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    elif not is_encoding(encoding):
        raise InputError(f"--encoding {encoding!r} is no encoding of texts; usual ones are utf-8, cp1252, latin-1, utf-16-le")
    errors = "replace" if codecs.lookup(encoding).name.startswith(WIDE) else "surrogateescape"
    text = io.TextIOWrapper(buffered, encoding, errors, newline="")
    lines = _lines(url, text, encoding)
    kind = next(kind for kind in TEXT if any(url.lower().endswith(kind + codec) for codec in COMPRESSED))
    return (None, _json_lines(lines)) if kind in (".jsonl", ".ndjson") else _separated(url, lines, tabs=kind == ".tsv")


class _Raw(io.RawIOBase):
    """A stream as Python's own readers take it."""

    def __init__(self, source: Reads, url: str) -> None:
        super().__init__()
        self._source, self._url = source, url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._source.read(len(buffer))
        except DamagedStream as damage:
            raise InputError(f"input {self._url!r}: its compressed bytes are damaged: {damage}") from damage
        buffer[: len(content)] = content
        return len(content)


def _lines(url: str, text: io.TextIOWrapper, encoding: str) -> Iterator[str]:
    try:
        while line := text.readline(MAX_LINE):
            yield line
    except UnicodeError as error:
        wide = codecs.lookup(encoding).name
        if wide in ("utf-16", "utf-32"):
            raise InputError(f"input {url!r}: no byte order mark, which --encoding {encoding!r} needs: say {wide}-le or {wide}-be"
                             ) from error
        raise InputError(f"input {url!r}: it is not in --encoding {encoding!r} ({error}): name another one") from error


def _separated(url: str, lines: Iterator[str], *, tabs: bool) -> tuple[list[str], Iterator[Row]]:
    header = next(lines, "")
    if "\0" in header:
        raise InputError(f"input {url!r}: zero bytes in its first line: it is no text, or --encoding utf-16-le is missing")
    delimiter = "\t" if tabs else max(DELIMITERS, key=header.count)
    records = Records(chain([header], lines), delimiter, quotes=not tabs)
    try:
        names = [_unquoted(name.strip()) if tabs else name.strip() for name in records.columns()]
    except csv.Error as error:
        raise InputError(f"input {url!r}: its first line is no list of columns: {error}") from error
    return names, _csv_rows(records, names, _unquoted if tabs else str)


def _unquoted(field: str) -> str:
    """A field of a tsv: some writers put quotes around those that hold quotes, others nowhere."""
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else field


def _csv_rows(records: Iterable[Record], names: list[str], value: Callable[[str], str]) -> Iterator[Row]:
    for line, fields in records:
        if fields is None:
            yield Row(f"line {line}", None)
        elif fields:
            yield Row(f"line {line}", {name: value(field) for name, field in zip(names, fields, strict=False) if field})


def _json_lines(lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        yield Row(f"line {number}", value if isinstance(value, dict) else None)


def _parquet(url: str, file: SourceFile) -> tuple[list[str], Iterator[Row]]:
    try:
        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        schema = opened.schema_arrow
    except (OSError, pa.ArrowException) as error:
        if file.failed:
            raise
        raise InputError(f"input {url!r}: it is no parquet file that can be read: {error}") from error
    images = image_column(schema)
    if images is not None:
        raise InputError(f"input {url!r}: column {images!r} holds the images themselves: `shardmill run` reads it as it is")
    return list(schema.names), _parquet_rows(url, file, opened)


def _parquet_rows(url: str, file: SourceFile, opened: pq.ParquetFile) -> Iterator[Row]:
    number = 0
    try:
        for batch in opened.iter_batches(ROWS, use_threads=False):
            values = {name: _values(batch.column(i)) for i, name in enumerate(batch.schema.names)}
            for i in range(batch.num_rows):
                yield Row(f"row {number}", {name: column[i] for name, column in values.items() if column[i] is not None})
                number += 1
    except (OSError, pa.ArrowException) as error:
        if file.failed:
            raise
        raise InputError(f"input {url!r}: it cannot be decoded from row {number} on: {error}") from error


def _values(column: pa.Array) -> list[Any]:
    """Texts (with half a surrogate for a byte that is not UTF-8), bytes, lists of either, or what JSON can say; None for null."""
    kind = bare(column.type)
    if is_bytes(kind):
        return list(raw(column))
    if is_text(kind):
        return [None if one is None else text_of(one) for one in raw(column)]
    if _is_list(kind) and (is_bytes(kind.value_type) or is_text(kind.value_type)):
        lists = map(bare_value, column)
        return [None if one is None else [] if one.values is None else _values(one.values) for one in lists]
    return numbers(column) if is_number(kind) else [json_value(scalar) for scalar in column]


def _is_list(kind: pa.DataType) -> bool:
    return any(fits(kind) for fits in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))
