"""`shardmill sql` as a person and as a script use it."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from schemas.answers.tables import SqlAnswer
from tests.roots import asked

QUERY = "SELECT caption, clip_similarity, entities, row FROM samples WHERE verdict = 'kept' ORDER BY shard_id, row LIMIT 3"


def test_an_answer_is_json_csv_parquet_and_a_table(demo_root: Path, tmp_path: Path) -> None:
    answer = json.loads(asked("sql", str(demo_root), QUERY, "--json").stdout)
    TypeAdapter(SqlAnswer).validate_python(answer)
    assert [column["name"] for column in answer["columns"]] == ["caption", "clip_similarity", "entities", "row"]
    rows = answer["rows"]
    assert asked("sql", str(demo_root), QUERY, "--parquet", str(tmp_path / "some.parquet")).stdout.startswith("3 rows: ")
    assert [row["caption"] for row in pq.read_table(tmp_path / "some.parquet").to_pylist()] == [row["caption"] for row in rows]
    lines = list(csv.DictReader(io.StringIO(asked("sql", str(demo_root), QUERY, "--csv").stdout)))
    assert [line["caption"] for line in lines] == [row["caption"] for row in rows]
    assert [json.loads(line["entities"]) for line in lines] == [row["entities"] for row in rows]
    shown = asked("sql", str(demo_root), QUERY, "-n", "2").stdout.splitlines()
    assert shown[0].split() == ["caption", "clip_similarity", "entities", "row"]
    assert shown[1].startswith(rows[0]["caption"][:40])
    assert shown[-1] == "the first 2 rows; -n shows more, --csv, --json and --parquet give all"
    assert len(shown) == 4


def test_a_long_query_comes_from_a_file_and_escapes_of_captions_reach_no_terminal(demo_root: Path, tmp_path: Path) -> None:
    (tmp_path / "long.sql").write_text("SELECT e'\\x1b[31mred' AS said,\n  NULL AS nothing, [1.5, 'nan'::FLOAT] AS list\n")
    query = str(tmp_path / "long.sql")
    assert asked("sql", str(demo_root), query).stdout.split() == [
        "said", "nothing", "list", "[31mred", "null", "[1.5,null]", "1", "row"]
    printed = asked("sql", str(demo_root), query, "--json").stdout
    assert "\x1b" not in printed
    assert json.loads(printed)["rows"] == [{"said": "\x1b[31mred", "nothing": None, "list": [1.5, None]}]
    assert asked("sql", str(demo_root), "SELECT 1 AS a WHERE false", "--json").stdout.endswith('"rows": []\n}\n')


@pytest.mark.parametrize(("query", "option", "says"), [
    ("SELECT captoin FROM samples", "--csv", "shardmill: SQL, column 8: no column captoin; did you mean caption?\n"),
    ("SELECT CAST(caption AS INTEGER) FROM samples", "--json", "shardmill: SQL, column 8: Could not convert string"),
    ("SELECT 1 AS a, 2 AS a", "--json", "two columns of the answer are named a"),
    ("missing.sql", "--csv", "missing.sql cannot be read"),
])
def test_what_is_wrong_is_one_line_and_exit_code_2(demo_root: Path, query: str, option: str, says: str) -> None:
    said = asked("sql", str(demo_root), query, option, check=2)
    assert says in said.stderr
    assert said.stderr.count("\n") == 1
    assert said.stdout == ""
