"""A query of a user's, run by DuckDB over the views of a root. The root is only read; DuckDB's own tables are in memory.

The SQL is the local user's: it may read other files of theirs. It fetches no extension and has no network (DuckDB's HTTP client is
an extension that is not there), and sees no variable of this process.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.process.share import usable_cpus, usable_memory
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.sql.faults import Text, told
from pipeline.queries.sql.views import Views, views_of

SHARE = 0.5
"""Of the memory that this process may use, what DuckDB has before it writes to the disk."""
REFUSED = ("LOAD", "EXTENSION", "SET", "VARIABLE_SET")
"""Kinds of statements that are not run: those that load code, or change what is settled here."""
BATCH = 1 << 14
"""Rows of a batch of the answer, about."""


@contextmanager
def connected(views: Views, *, files: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views; `files`: its queries may read other files of the user's. What does not fit into memory goes to a
    folder of its own in the temporary one, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="shardmill-sql-", ignore_cleanup_errors=True) as spill:
        connection = duckdb.connect(":memory:", config={
            "autoinstall_known_extensions": False, "autoload_known_extensions": False, "allow_community_extensions": False,
            "allow_persistent_secrets": False, "python_enable_replacements": False, "errors_as_json": True,
            "threads": usable_cpus(), "memory_limit": f"{int(usable_memory() * SHARE) >> 20}MiB", "temp_directory": spill,
        })
        try:
            for name, source in views.tables.items():
                connection.register(name, source)
            for name, query in views.derived.items():
                connection.execute(f'CREATE TEMP VIEW "{name}" AS {query}')
            if not files:
                connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection
        finally:
            connection.close()


def answer(columns: RootColumns, query: str) -> pa.RecordBatchReader:
    """The rows that the last statement of a query gives, as a stream: of any size, for they are computed as they are read. The
    others are run before. `columns`: of the plan over the shards that can be read.

    Raises InputError for SQL that is wrong, in one line with its position; so does the stream, for what is found out as it goes.
    What a file of the root raises (RootError, OutputError) comes as it is."""
    rows = _answer(views_of(columns), query)
    schema: pa.Schema = next(rows)
    return pa.RecordBatchReader.from_batches(schema, rows)


def _answer(views: Views, query: str) -> Iterator[Any]:
    """First the schema, then the batches."""
    with connected(views) as connection:
        with told(connection, views, Text(query)):
            statements = connection.extract_statements(query)
        if not statements:
            raise InputError("SQL: there is no statement: give one, e.g. SELECT verdict, count(*) FROM samples GROUP BY ALL")
        for statement in statements:
            _refuse(statement)
        before = ""
        for statement in statements[:-1]:
            with told(connection, views, Text(statement.query, before=before)):
                connection.execute(statement)
            before += statement.query
        with told(connection, views, Text(statements[-1].query, before=before)):
            relation: Any = connection.sql(statements[-1])
            reader = pa.table({}).to_reader() if relation is None else relation.to_arrow_reader(BATCH)
            yield reader.schema
            yield from reader


def _refuse(statement: duckdb.Statement) -> None:
    try:
        kind = statement.type.name
    except ValueError:   # `UPDATE EXTENSIONS` is of a kind that Python does not know
        kind = "EXTENSION"
    if kind in REFUSED:
        text = " ".join(statement.query.split())
        raise InputError(f"SQL: {text[:60]!r} is not run here: no extension is loaded, and no setting changed")
