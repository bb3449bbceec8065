"""Every `--json` of the command line against its published schema."""

import inspect
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from jsonschema import ValidationError

from pipeline.cli import printing
from pipeline.cli.main import app
from schemas.__main__ import FOLDER
from schemas.answers.classes import ClassRow
from schemas.answers.published import ANSWERS
from tests.answers import checked
from tests.curations import curated
from tests.loose import JPEG, files

CASES = {
    "run": ["run", "sample", "--output", "{root}"],
    "label": ["label", "{copy}", "--classes", "{root}"],
    "plan": ["plan", "sample", "{sample}/00008.tar", "--set", "model.compile=false"],
    "pack": ["pack", "{loose}", "--output", "{loose}/../packed"],
    "status": ["status", "{root}"],
    "verify": ["verify", "{root}"],
    "gc": ["gc", "{copy}"],
    "path": ["path", "{root}", "shards"],
    "explain": ["explain", "{root}", "{uid}"],
    "samples": ["samples", "{root}", "{uid}", "--verdict", "kept", "-n", "3"],
    "simulate": ["simulate", "{root}", "--set", "filters.clip_similarity.min=0.3"],
    "classes": ["classes", "{root}"],
    "class": ["classes", "{root}", "0"],
    "classes_compare": ["classes", "{root}", "--compare", "{copy}"],
    "classes_suggest": ["classes", "{root}", "--suggest", "4,8"],
    "query": ["query", "{root}", "--uid", "{uid}", "-k", "3"],
    "query_batch": ["query", "{root}", "--queries", "{loose}/../queries.npy", "--output", "{loose}/../answers.parquet"],
    "query_names": ["query", "{root}", "--uid", "{uid}", "--names", "-k", "2"],
    "sql": ["sql", "{root}", "SELECT verdict, count(*) FROM verdicts GROUP BY 1"],
    "embeddings": ["embeddings", "{root}", "-o", "{loose}/../embeddings"],
    "recipes_list": ["recipes", "list"],
    "recipes_show": ["recipes", "show", "laion400m", "--set", "filters.language=null"],
    "recipes_keys": ["recipes", "keys", "filters"],
    "recipes_columns": ["recipes", "columns"],
}
WITHOUT = {"report", "serve", "recipes init", "recipes schema"}
"""Commands that answer no question: they say where they wrote, or serve."""


@pytest.fixture(scope="module")
def places(demo_root: Path, sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What stands in braces in CASES. The copy is labelled by the root's classes already: to label it again is quick."""
    copy = shutil.copytree(demo_root, tmp_path_factory.mktemp("answers") / "copy", symlinks=True)
    curated(copy, [], (f"classes.fit_on={demo_root}",))
    first = sorted(demo_root.glob("verdicts@*/*.parquet"))[0]
    table = pq.read_table(first).to_pylist()
    uid = next(row["uid"] for row in table if row["verdict"] == "kept")
    loose = copy.parent / "loose"
    matrix = next(demo_root.glob("columns/clip@*/*.npy"))
    np.save(copy.parent / "queries.npy", np.load(matrix)[:2].astype(np.float32))
    files(loose, **{"a.jpg": JPEG, "a.txt": b"a", "b.txt": b"b"})
    return {"root": demo_root, "copy": copy, "sample": sample_folder, "uid": uid, "loose": loose}


@pytest.fixture
def asked(places: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], tuple[str, int]]:
    """Runs a command with --json in this process: what it printed, and its exit code."""
    def ask(arguments: Sequence[str]) -> tuple[str, int]:
        code = app([one.format(**places) for one in arguments] + ["--json"], standalone_mode=False)
        return capsys.readouterr().out, code or 0
    return ask


def commands(of: typer.Typer = app) -> dict[str, bool]:
    """Whether a command has --json, by its name, which has two words for one of a group."""
    callbacks = [(command.name, command.callback) for command in of.registered_commands if command.callback]
    answers = {name or callback.__name__: "as_json" in inspect.signature(callback).parameters for name, callback in callbacks}
    for group in of.registered_groups:
        assert group.typer_instance is not None
        answers |= {f"{group.name} {name}": has_json for name, has_json in commands(group.typer_instance).items()}
    return answers


def test_every_command_that_answers_has_json_and_every_json_a_schema_and_a_case() -> None:
    assert {name for name, has_json in commands().items() if not has_json} == WITHOUT
    asked = {next(name for name in commands() if " ".join(arguments).startswith(name)) for arguments in CASES.values()}
    assert asked == commands().keys() - WITHOUT
    assert CASES.keys() == ANSWERS.keys()


@pytest.mark.parametrize("name", CASES)
def test_what_a_command_prints_as_json_is_as_its_published_schema_says(
    asked: Callable[[Sequence[str]], tuple[str, int]], name: str,
) -> None:
    text, code = asked(CASES[name])
    assert code == 0
    assert checked(name, text)


def test_a_root_that_cannot_be_counted_answers_verify_by_its_faults_alone(
    asked: Callable[[Sequence[str]], tuple[str, int]], places: dict[str, Any],
) -> None:
    (places["copy"] / "_SUCCESS").rename(places["copy"] / "aside")
    try:
        text, code = asked(["verify", "{copy}"])
    finally:
        (places["copy"] / "aside").rename(places["copy"] / "_SUCCESS")
    assert code == 1
    assert checked("verify", text).keys() == {"faults"}


def test_what_was_not_asked_is_missing_and_what_is_not_known_is_null(asked: Callable[[Sequence[str]], tuple[str, int]]) -> None:
    listed = checked("gc", asked(["gc", "{root}", "--dry-run"])[0])
    assert "uploads" not in listed
    assert checked("gc", asked(["gc", "{copy}"])[0])["uploads"] == 0
    assert checked("verify", asked(["verify", "{root}"])[0])["compared"] is None
    assert checked("verify", asked(["verify", "{root}", "--deep"])[0])["compared"] > 0


@pytest.mark.parametrize("spoilt", [
    lambda answer: answer | {"more": 1},
    lambda answer: {key: value for key, value in answer.items() if key != "read"},
    lambda answer: answer | {"read": "828"},
    lambda answer: answer | {"gaps": [{"shard_id": "a", "kind": "lost", "offset": 0, "detail": "", "samples": None}]},
])
def test_a_key_more_or_less_or_of_another_type_is_not_as_published(
    asked: Callable[[Sequence[str]], tuple[str, int]], spoilt: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    text, _ = asked(CASES["status"])
    with pytest.raises(ValidationError):
        checked("status", json.dumps(spoilt(json.loads(text))))


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_field_of_an_answer_says_what_it_means(name: str) -> None:
    schema = json.loads((FOLDER / "answers" / f"{name}.schema.json").read_text())
    objects = [part for part in [schema, *schema.get("$defs", {}).values()] if "properties" in part]
    assert objects
    fields = [(part["title"], field, said) for part in objects for field, said in part["properties"].items()]
    assert [(title, field) for title, field, said in fields if not said.get("description")] == []


def test_the_mean_of_no_samples_is_null() -> None:
    """A class that no sample of the root is nearest to: the table has not-a-number there, which is no JSON."""
    row: dict[str, Any] = {"class_id": 3, "level": 0, "parent": None, "name": "3", "named": False, "confidence": None, "size": 0,
           "mean_similarity": float("nan"), "entities": [], "exemplars": [], "outliers": []}
    answer = ClassRow.model_validate(row)
    assert answer.mean_similarity is None
    assert checked("classes", printing.as_json([answer]))[0]["mean_similarity"] is None


def test_a_root_whose_account_is_none_gets_a_message_and_no_traceback(
    places: dict[str, Any], capsys: pytest.CaptureFixture[str],
) -> None:
    (path,) = places["copy"].glob("verdicts@*/ledger.json")
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"gaps": [{"shard_id": "a", "kind": "lost"}]}))
    try:
        code = app(["status", str(places["copy"])], standalone_mode=False)
    finally:
        path.write_text(before)
    assert code == 2
    assert re.search(r"damaged or of another version.*gaps\.0\.kind", capsys.readouterr().err, re.DOTALL)
