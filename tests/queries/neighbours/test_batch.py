"""A file of queries: answered part by part, whoever does it, and bad ones by name."""

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api.progress import Silent
from pipeline.distributed.local import LocalExecutor
from pipeline.queries.neighbours import batch
from pipeline.queries.neighbours.asked import Scope
from pipeline.queries.neighbours.batch import AnswerQueries, Batch
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.query import Query
from tests.answers import checked
from tests.queries.neighbours.test_exact import queries
from tests.roots import asked


def answered(root: Catalogue, file: Path, *options: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    output = file.with_suffix(".answers.parquet")
    said = checked("query_batch", asked(
        "query", root.plan.root.url, "--queries", str(file), "-o", str(output), *options, "--json").stdout)
    return said, pq.read_table(output).to_pylist()


def test_texts_are_answered_as_one_by_one_and_bad_ones_say_why(demo: Catalogue, tmp_path: Path) -> None:
    texts = ["a flag", None, "a fish", " ", "x" * 10_001]
    pq.write_table(pa.table({"text": texts, "other": range(5)}), tmp_path / "q.parquet", row_group_size=2)
    said, rows = answered(demo, tmp_path / "q.parquet", "-k", "3")
    assert (said["queries"], said["errors"], said["exact"]) == (5, 3, True)
    for number in (0, 2):
        hits = demo.search(demo.vector(Query(text=texts[number]))[None], 3)[0]
        assert [(row["rank"], row["uid"], row["shard_id"], row["row"], row["error"]) for row in rows if row["query"] == number] == [
            (rank, hit.uid, hit.shard_id, hit.row, None) for rank, hit in enumerate(hits)]
    errors = {row["query"]: row["error"] for row in rows if row["uid"] is None}
    assert {number: error[:20] for number, error in errors.items()} == {
        1: "the text is empty: s", 3: "the text is empty: s", 4: "the text has 10,001 "}
    assert {path.name for path in tmp_path.iterdir()} == {"q.parquet", "q.answers.parquet"}


@pytest.mark.parametrize("form", ["npy", "lists"])
def test_vectors_are_answered_in_parts_and_the_parts_change_no_bit(
    demo: Catalogue, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = queries(9, demo.dimension)
    vectors[4] = 0
    vectors[7, 3] = np.nan
    file = tmp_path / ("q.npy" if form == "npy" else "q.parquet")
    if form == "npy":
        np.save(file, vectors)
    else:
        pq.write_table(pa.table({"v": pa.array(vectors.tolist(), pa.list_(pa.float32()))}), file)
    _, whole = answered(demo, file, "-k", "4", "--verdict", "any")
    at_once = file.with_suffix(".answers.parquet").read_bytes()
    assert {row["query"]: row["error"] for row in whole if row["error"]} == {
        4: "is all zeros", 7: "has values that are no finite float32 numbers"}
    found = demo.nearest(np.delete(vectors, [4, 7], 0), 4, verdict="any")
    assert [row["uid"] for row in whole if row["uid"]] == demo.uids(found.ids.ravel())
    monkeypatch.setattr(batch, "PART", 2)
    _, in_parts = answered(demo, file, "-k", "4", "--verdict", "any")
    assert in_parts == whole
    assert file.with_suffix(".answers.parquet").read_bytes() != at_once   # row groups


def test_a_stopped_batch_goes_on_where_it_was(demo: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PART", 2)
    np.save(tmp_path / "q.npy", queries(6, demo.dimension))
    asked_of = Batch(demo.plan.root.url, str(tmp_path / "q.npy"), str(tmp_path / "a.parquet"), Scope(2))
    done: list[int] = []
    answer = AnswerQueries._answer

    def counted(self: AnswerQueries, catalogue: Any, file: Any, part: int) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part)
        return answer(self, catalogue, file, part)

    monkeypatch.setattr(AnswerQueries, "_answer", counted)
    with pytest.raises(KeyboardInterrupt):
        asked_of.run(LocalExecutor(), Silent())
    assert not (tmp_path / "a.parquet").exists()

    def answered_again(self: AnswerQueries, catalogue: Any, file: Any, part: int) -> Any:
        done.append(part)
        return answer(self, catalogue, file, part)

    monkeypatch.setattr(AnswerQueries, "_answer", answered_again)
    asked_of.run(LocalExecutor(), Silent())
    assert done == [0, 1, 2]
    assert pq.read_table(tmp_path / "a.parquet").column("query").to_pylist() == [n for n in range(6) for _ in range(2)]


@pytest.mark.parametrize(("name", "table", "message"), [
    ("q.parquet", {"texts": ["a"]}, "queries are in a column `text`, or in one column of lists of numbers; it has neither"),
    ("q.parquet", {"a": [[1.0]], "b": [[1.0]]}, "it has several of these (a, b)"),
    ("q.parquet", {"v": [[1.0] * 256, [1.0]]}, "the vectors of queries 0 to 1 have different lengths, [1, 256]"),
    ("q.parquet", {"v": [[1.0, 2.0]]}, "has vectors of 2 values, and the root of 256: embed by the same model"),
    ("q.parquet", None, "no such file of queries"),
    ("q.csv", None, "end it with .parquet or .npy"),
    ("q.npy", b"no array", "is no .npy file of an array of floats"),
    ("q.parquet", b"no table", "cannot be read"),
])
def test_what_is_no_file_of_queries_is_said_before_the_work(
    demo: Catalogue, tmp_path: Path, name: str, table: Any, message: str
) -> None:
    if isinstance(table, dict):
        pq.write_table(pa.table(table), tmp_path / name)
    elif table is not None:
        (tmp_path / name).write_bytes(table)
    said = asked("query", demo.plan.root.url, "--queries", str(tmp_path / name), "-o", str(tmp_path / "a.parquet"), check=2)
    assert message in said.stderr


def test_options_that_do_not_go_together_are_refused(demo: Catalogue, tmp_path: Path) -> None:
    for options in (["--queries", "q.npy"], ["-o", "a.parquet"], ["--queries", "q.npy", "-o", "a.parquet", "--text", "a"]):
        assert "--queries FILE and --output FILE go together" in asked("query", demo.plan.root.url, *options, check=2).stderr
    assert "are for a file of queries" in asked("query", demo.plan.root.url, "--text", "a", "--ray", check=2).stderr


def test_the_job_is_the_command_on_ray(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/query.py", "nowhere", "--text", "a"])
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("jobs.query", run_name="__main__")
    assert end.value.code == 2
    assert "--ray, --workers and --address are for a file of queries" in capfd.readouterr().err
