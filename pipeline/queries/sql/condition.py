"""Samples by a condition in SQL: `language = 'en' AND clip_similarity > 0.3`, over the columns of `samples`."""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.sql.faults import EXPLAIN, Text, fault, told
from pipeline.queries.sql.session import BATCH, connected
from pipeline.queries.sql.views import Views, views_of
from pipeline.search.index.ids import ShardNumbers, ids_of
from pipeline.vectors import Ints

WHAT = "the condition"
GIVE = "give one expression, as \"language = 'en' AND clip_similarity > 0.3\""
ALONE = "SELECT "
"""Stands before a condition where DuckDB parses it alone."""
ROWS = "SELECT shard_id, row FROM samples WHERE ("
"""The same where it is run."""


def rows_where(
    plan: Plan, condition: str, numbers: ShardNumbers | None = None, columns: RootColumns | None = None
) -> Ints:
    """i64 [matches], ascending: the ids (number of the shard << 32 | row) of the samples for which a condition holds; null is no.

    `plan` is over the shards that can be read. `numbers`: those of an index, whose unknown shards have no ids; None: the places of
    the plan's shards. `columns`: the plan's, where somebody has them already. Only the columns that the condition names are read,
    shard by shard; in memory are 8 bytes for each match. Raises InputError, in one line with the position, for what is not a single
    expression that is true or false."""
    found = list(batches_where(plan, condition, numbers, columns))
    return np.sort(np.concatenate([np.zeros(0, np.int64), *found]))


def batches_where(
    plan: Plan, condition: str, numbers: ShardNumbers | None = None, columns: RootColumns | None = None
) -> Iterator[Ints]:
    """The same some ten thousand ids at a time, in the order in which they are found."""
    numbers = ShardNumbers([shard.shard_id for shard in plan.shards]) if numbers is None else numbers
    views = views_of(RootColumns(plan) if columns is None else columns)
    with connected(views, files=False) as connection:
        _check(connection, views, condition)
        with told(connection, views, Text(condition, WHAT, lead=ROWS)):
            rows: Any = connection.sql(f"{ROWS}{condition}\n)")
            for batch in rows.to_arrow_reader(BATCH):
                yield _ids(batch, numbers)


def _check(connection: duckdb.DuckDBPyConnection, views: Views, condition: str) -> None:
    """Raises InputError for what is not one expression, true or false for each sample, by what DuckDB's own parser makes of it: so
    a text that would end the expression and begin something else is none."""
    if not condition.strip():
        raise InputError(f"{WHAT} is empty: {GIVE}")
    alone = _parsed(connection, condition)
    if alone["error"] and alone["error_type"] == "parser":
        facts = {**alone, "exception_message": alone["error_message"]}
        raise fault(Text(condition, WHAT, lead=ALONE), facts, views, connection)
    queries = [statement["node"] for statement in alone.get("statements", ())]   # none where there is more than queries
    expressions: list[Any] = queries[0].get("select_list", []) if queries else []
    plain = _parsed(connection, "1")["statements"][0]["node"]
    if len(queries) != 1 or len(expressions) != 1 or expressions[0]["alias"] or _around(queries[0]) != _around(plain):
        raise InputError(f"{WHAT}: {GIVE}")
    with told(connection, views, Text(condition, WHAT, lead=EXPLAIN + ROWS)):
        connection.execute(f"{EXPLAIN}{ROWS}{condition}\n)")   # the line break ends a comment
    judged: Any = connection.sql(f"SELECT ({condition}\n) FROM samples")
    if str(judged.types[0]) != "BOOLEAN":
        raise InputError(f"{WHAT}: it is {judged.types[0]}, not true or false: compare it with something")


def _parsed(connection: duckdb.DuckDBPyConnection, expression: str) -> dict[str, Any]:
    """The syntax tree of `SELECT expression`, or what is wrong with it."""
    (tree,) = connection.execute("SELECT json_serialize_sql(?)", [ALONE + expression]).fetchall()[0]
    return dict(json.loads(tree))


def _around(node: dict[str, Any]) -> dict[str, Any]:
    """What a query has beside its list of expressions."""
    return {key: value for key, value in node.items() if key != "select_list"}


def _ids(batch: pa.RecordBatch, numbers: ShardNumbers) -> Ints:
    """i64 [n]: the ids of rows by shard_id (string [n]) and row (i32 [n]), without those of unknown shards."""
    shards = batch.column(0).dictionary_encode()
    known = [numbers.number(shard_id) for shard_id in shards.dictionary.to_pylist()]
    number = np.array([-1 if one is None else one for one in known], np.int64)[np.asarray(shards.indices)]
    rows = np.asarray(batch.column(1), np.int64)
    there = number >= 0
    return ids_of(number[there], rows[there])
