"""Samples by a condition in SQL."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.api import shardmill
from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.queries.sql.condition import rows_where
from pipeline.root.existing import open_root, readable
from pipeline.search.index.ids import ShardNumbers


@pytest.fixture(scope="module")
def plan(demo_root: Path) -> Plan:
    return readable(open_root(str(demo_root)))


def test_rows_are_those_whose_columns_meet_the_condition(plan: Plan, demo_root: Path) -> None:
    ids = rows_where(plan, "language = 'en' AND clip_similarity > 0.3 -- the best")
    table = shardmill.open(demo_root).samples(["shard_id", "row", "language", "clip_similarity"]).to_table().to_pylist()
    place = {shard.shard_id: number for number, shard in enumerate(plan.shards)}
    wanted = [place[row["shard_id"]] << 32 | row["row"] for row in table
              if row["language"] == "en" and row["clip_similarity"] is not None and row["clip_similarity"] > 0.3]
    assert ids.dtype == np.int64
    assert ids.tolist() == sorted(wanted)
    assert 0 < len(ids) < len(table)


def test_an_index_has_numbers_of_its_own_and_no_ids_of_shards_that_it_does_not_know(plan: Plan) -> None:
    first, second = (shard.shard_id for shard in plan.shards[:2])
    here = rows_where(plan, f"shard_id IN ('{first}', '{second}') AND verdict = 'kept'")
    there = rows_where(plan, "verdict = 'kept'", ShardNumbers(["gone", second]))
    assert there.tolist() == here[here >= 1 << 32].tolist()
    assert len(here) > len(there) > 0


def test_a_condition_may_look_at_the_other_views(plan: Plan) -> None:
    rows = rows_where(plan, "uid IN (SELECT uid FROM duplicates WHERE kind = 'near' AND removed)")
    assert rows.tolist() == rows_where(plan, "uid IN (SELECT uid FROM samples WHERE near_duplicate)").tolist() != []


@pytest.mark.parametrize(("condition", "says"), [
    ("", "is empty: give one expression"),
    ("true; DROP VIEW samples", "give one expression"),
    ("true; SELECT false", "give one expression"),
    ("true) OR (true", "column 5: syntax error"),
    ("true) UNION ALL (SELECT 1, 2", "column 5: syntax error"),
    ("true LIMIT 3", "give one expression"),
    ("true FROM duplicates", "give one expression"),
    ("true, false", "give one expression"),
    ("true AS kept", "give one expression"),
    ("clip_similarity >", "column 17: syntax error"),
    ("caption = 'é' AND\nclip_similarty > 0.3", "line 2, column 1: no column clip_similarty; did you mean clip_similarity?"),
    ("count(*) > 1", "column 1: WHERE clause cannot contain aggregates"),
    ("caption", "it is VARCHAR, not true or false"),
    ("width > 0 AND CAST(caption AS INTEGER) > 3", "column 15: Could not convert string"),
    ("uid IN (SELECT uid FROM read_csv('/etc/passwd'))", "file system operations are disabled"),
])
def test_what_is_not_one_expression_that_is_true_or_false_is_refused(plan: Plan, condition: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        rows_where(plan, condition)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nothing_is_left_in_the_temporary_folder(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows_where(plan, "true")
    assert os.listdir(tmp_path) == []
