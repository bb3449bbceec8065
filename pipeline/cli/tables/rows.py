"""Rows of an answer as text, as they come: JSON, CSV, and a table for people."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic_core import to_json

from pipeline.errors import InputError
from pipeline.quantities import clean
from schemas.answers.tables import SqlAnswer, TableColumn

LONGEST = 60
"""Characters of a cell that are shown."""
WIDE = 10_000
"""Characters of a line where no terminal says how many it has."""


class Rows(NamedTuple):
    """A table as a stream."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch in self.batches:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def distinct(schema: pa.Schema) -> pa.Schema:
    """The schema. Raises InputError where two columns have one name."""
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise InputError(f"SQL: two columns of the answer are named {name}: give one another name, with AS")
    return schema


def json_lines(root: str, rows: Rows) -> Iterator[str]:
    """The text of a `SqlAnswer`, a row on a line."""
    columns = tuple(TableColumn(name=field.name, type=str(field.type)) for field in rows.schema)
    head = json.dumps(SqlAnswer(root=root, columns=columns, rows=()).as_json(), indent=2, ensure_ascii=False)
    yield _printable(head.removesuffix("[]\n}"))
    before = "["
    for row in rows:
        yield f"{before}\n    {_printable(_json(dict(zip(rows.schema.names, row, strict=True))))}"
        before = ","
    yield "[]\n}\n" if before == "[" else "\n  ]\n}\n"


def csv_lines(rows: Rows) -> Iterator[str]:
    """A header and the rows; null is an empty field, lists and the like are JSON."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(rows.schema.names)
    for row in rows:
        yield line.getvalue()
        line.seek(0)
        line.truncate()
        writer.writerow(["" if value is None else _text(value) for value in row])
    yield line.getvalue()


def table_lines(rows: Rows, count: int) -> Iterator[str]:
    """The first `count` rows as a table, and whether there are more."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    first = list(islice(rows, count + 1))
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    for field in rows.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        table.add_column(Text(clean(field.name)), justify="right" if number else "left", overflow="ellipsis", no_wrap=True)
    for row in first[:count]:
        table.add_row(*(Text(_cell(value), "dim" if value is None else "") for value in row))
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, highlight=False, width=None if terminal else WIDE)
    with console.capture() as capture:
        console.print(table)
    yield "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    shown = f"{min(len(first), count):,} row{'' if len(first) == 1 else 's'}"
    yield f"the first {shown}; -n shows more, --csv, --json and --parquet give all\n" if len(first) > count else f"{shown}\n"


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    text = clean(f"{value:.6g}" if isinstance(value, float) else _text(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _text(value: Any) -> str:
    """A value as text: lists and the like as JSON, bytes in hex digits."""
    if isinstance(value, bytes):
        return value.hex()
    return _json(value) if isinstance(value, list | dict | bool) else str(value)


def _json(value: Any) -> str:
    return to_json(value, bytes_mode="hex", inf_nan_mode="null", fallback=str).decode()


def _printable(text: str) -> str:
    """The JSON with every character that no terminal should get escaped."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
