"""`shardmill sql`: the answer of a query as a table for people, as JSON, CSV or parquet."""

import sys
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import AsJson, Root, working
from pipeline.cli.streams import answering
from pipeline.cli.tables.rows import Rows, csv_lines, distinct, json_lines, table_lines
from pipeline.errors import InputError
from pipeline.quantities import counted

QUERY = "SQL; a file of it, NAME.sql; or - for standard input"
SUFFIX = ".sql"


def sql(  # noqa: PLR0913 (its options)
    root: Root,
    query: Annotated[str, typer.Argument(metavar="QUERY", help=QUERY)],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="rows that are shown as a table")] = 100,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV; lists and the like as JSON")] = False,
    parquet: Annotated[str, typer.Option(metavar="FILE", help="write the answer to a parquet file, made or replaced")] = "",
) -> None:
    """Ask a root in SQL (DuckDB's): views samples, verdicts, labels, classes, entities, mentions, duplicates and exported."""
    from pipeline.queries.rows.columns import RootColumns
    from pipeline.queries.sql.saved import save_parquet
    from pipeline.queries.sql.session import answer
    from pipeline.root.existing import open_root, readable

    if as_json + as_csv + bool(parquet) > 1:
        raise InputError("give one of --json, --csv and --parquet")
    text = _written(query)
    columns = RootColumns(readable(open_root(root)))
    if parquet:
        with working("asking the root", as_json):
            saved = save_parquet(answer(columns, text), parquet)
        with answering():
            typer.echo(f"{counted(saved, 'row')}: {parquet}")
        return
    with closing(answer(columns, text)) as reader:
        batches = iter(reader)
        first = next(batches, None)   # most of what can be wrong is said before anything is printed
        rows = Rows(distinct(reader.schema) if as_json else reader.schema, chain([first] if first is not None else [], batches))
        with answering():
            for line in json_lines(root, rows) if as_json else csv_lines(rows) if as_csv else table_lines(rows, count):
                sys.stdout.write(line)


def _written(query: str) -> str:
    """The SQL that is meant. Raises InputError for a file that cannot be read."""
    if query == "-":
        return sys.stdin.read()
    if not query.endswith(SUFFIX) or len(query.split()) != 1:
        return query
    try:
        return Path(query).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{query} cannot be read: {error}") from None
