"""What DuckDB says of wrong SQL, in one line of ours: where it is wrong, and which views and columns there are."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.queries.sql.views import Views
from pipeline.recipe.rule_columns import spelling_hint

LONGEST = 400
"""Letters of what DuckDB says: it may list every type of a sample."""
EXPLAIN = "EXPLAIN "


@dataclass(frozen=True)
class Text:
    """What a user wrote, or one statement of it."""

    sql: str
    what: str = "SQL"
    """What it is called."""
    before: str = ""
    """Text of the same user's that stands before it."""
    lead: str = ""
    """SQL of ours that stands before it where DuckDB gets it."""


@contextmanager
def told(connection: duckdb.DuckDBPyConnection, views: Views, text: Text) -> Iterator[None]:
    """While it runs: raises what befell a file of the root as it is, and an InputError for what DuckDB says."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as error:
        if "Query interrupted" in str(error):   # Ctrl-C, or SIGTERM, while DuckDB computes
            raise KeyboardInterrupt from None
        for source in views.tables.values():
            if source.error is not None:
                raise source.error from None
        facts = _facts(str(error)) or _bound(connection, text) or {"exception_message": str(error)}
        raise fault(text, facts, views, connection) from None


def fault(text: Text, facts: Mapping[str, Any], views: Views, connection: duckdb.DuckDBPyConnection) -> InputError:
    """The error of a text, from what DuckDB says as JSON."""
    return InputError(f"{text.what}{_place(text, facts)}: {_said(connection, views, text.sql, facts)}")


def _facts(text: str) -> dict[str, Any]:
    """What DuckDB says as JSON, behind the kind of error; nothing where it says it in words."""
    try:
        return dict(json.loads(text[text.index("{"):]))
    except ValueError:
        return {}


def _bound(connection: duckdb.DuckDBPyConnection, text: Text) -> dict[str, Any]:
    """The same of a query that is planned and not run: as a relation, DuckDB tells no place."""
    if text.lead:
        return {}
    try:
        connection.execute(EXPLAIN + text.sql)
    except duckdb.Error as error:
        facts = _facts(str(error))
        if str(facts.get("position", "")).isdecimal():
            facts["position"] = int(facts["position"]) - len(EXPLAIN)
        return facts
    return {}


def _place(text: Text, facts: Mapping[str, Any]) -> str:
    """Where the fault is in the text, as an editor counts; DuckDB counts bytes of what it gets."""
    if not str(facts.get("position", "")).isdecimal():
        return ""
    bytes_before = max(0, int(facts["position"]) - len(text.lead))
    lines = (text.before + text.sql.encode()[:bytes_before].decode(errors="replace")).split("\n")
    column = f"column {len(lines[-1]) + 1}"
    return f", line {len(lines)}, {column}" if "\n" in (text.before + text.sql).strip() else f", {column}"


def _said(connection: duckdb.DuckDBPyConnection, views: Views, statement: str, facts: Mapping[str, Any]) -> str:
    kind, name = facts.get("error_subtype"), str(facts.get("name", ""))
    said = shorten(str(facts["exception_message"]), LONGEST, placeholder=" …")
    if kind == "MISSING_ENTRY" and facts.get("type") in ("Table", "View"):
        if name in views.missing:
            return f"{name} is not there: {views.missing[name]}"
        return f"no view {name}{spelling_hint(name, views.names) or '; there are ' + ', '.join(views.names)}"
    if kind == "COLUMN_NOT_FOUND":
        return f"no column {name}{_columns(connection, views, statement, name)}"
    if facts.get("exception_type") == "Missing Extension":
        return f"{said.partition(' requires ')[0]} needs an extension of DuckDB's, and none is loaded or fetched here"
    return said


def _columns(connection: duckdb.DuckDBPyConnection, views: Views, statement: str, name: str) -> str:
    """The nearest column of the views that a statement names, else all that there are."""
    words = set(re.findall(r"\w+", statement.lower()))
    named = [view for view in views.names if view in words] or ["samples"]
    columns = {view: connection.view(view).columns for view in named}
    hint = spelling_hint(name, [column for of_view in columns.values() for column in of_view])
    return hint or "".join(f"; {view} has {', '.join(of_view)}" for view, of_view in columns.items())
