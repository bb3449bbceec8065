"""`shardmill samples`: some samples, by verdict, class or name."""

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from pipeline.api import shardmill
from tests.answers import checked
from tests.queries.conftest import pool_uid
from tests.roots import asked


def listed(root: Path, *options: str) -> dict[str, Any]:
    answer: dict[str, Any] = checked("samples", asked("samples", str(root), *options, "--json").stdout)
    return answer


def test_the_samples_of_a_verdict_are_the_first_ones_with_caption_and_values(demo_root: Path) -> None:
    wanted = shardmill.open(demo_root).samples(["uid", "caption", "longest_side"], where={"verdict": "rejected:tiny"}).to_table()
    answer = listed(demo_root, "--verdict", "rejected:tiny", "-n", "3")
    assert answer["matching"] == wanted.num_rows > 3
    first = [(row["uid"], row["caption"], row["values"]["longest_side"]) for row in answer["samples"]]
    assert first == [tuple(row.values()) for row in wanted.slice(0, 3).to_pylist()]
    assert [next(iter(row["values"])) for row in answer["samples"]] == ["longest_side"] * 3
    text = asked("samples", str(demo_root), "--verdict", "rejected:tiny", "-n", "3").stdout
    assert all(part in text for uid, caption, _ in first for part in (uid, caption))
    assert text.splitlines()[-1] == f"3 of {wanted.num_rows}: -n shows more"


@pytest.mark.parametrize("outcome", ["kept", "rejected", "failed"])
def test_an_outcome_takes_all_of_its_reasons(demo_root: Path, outcome: str) -> None:
    verdicts = shardmill.open(demo_root).samples(["verdict"]).to_table()["verdict"]
    answer = listed(demo_root, "--verdict", outcome, "-n", "1000", "--column", "image_length")
    assert answer["matching"] == len(answer["samples"]) == pc.sum(pc.starts_with(verdicts, outcome)).as_py() > 0
    assert {tuple(row["values"]) for row in answer["samples"]} == {("image_length",)}


def test_the_samples_of_a_class_are_those_nearest_to_it(demo_root: Path) -> None:
    root = shardmill.open(demo_root)
    wanted = root.samples(["uid", "class_name"], where={"class_id": 3}).to_table()
    answer = listed(demo_root, "--class", "3", "-n", "1000")
    assert [(row["uid"], row["class_name"]) for row in answer["samples"]] == [tuple(row.values()) for row in wanted.to_pylist()]
    assert answer["matching"] is None
    assert asked("samples", str(demo_root), "--class", "3", "--verdict", "failed").stdout == "no such sample\n"


def test_samples_are_listed_by_any_of_their_names(pool_root: Path) -> None:
    answer = listed(pool_root, "00000001:3", pool_uid(0, 5), "4711")
    assert [row["source_uid"] for row in answer["samples"]] == [pool_uid(0, 2), pool_uid(0, 5), pool_uid(1, 2), pool_uid(1, 3)]
    assert f"source uid {pool_uid(0, 5)}" in asked("samples", str(pool_root), pool_uid(0, 5)).stdout


@pytest.mark.parametrize(("options", "words"), [
    (("--verdict", "rejected:tny"), "has no verdict 'rejected:tny'; did you mean rejected:tiny?"),
    (("--verdict", "x"), "has no verdict 'x'; there are rejected, failed, kept, rejected:tiny"),
    (("--class", "99"), "has no class 99; `shardmill classes"),
    (("--column", "hight"), "no column 'hight' can be shown; did you mean height?"),
    (("--column", "image_captions"), "no column 'image_captions' can be shown"), (("nobody",), "has no sample 'nobody'"),
])
def test_what_is_not_there_is_named_with_what_is(demo_root: Path, options: tuple[str, ...], words: str) -> None:
    assert words in asked("samples", str(demo_root), *options, check=2).stderr


def test_a_verdict_that_no_sample_has_is_no_error(pool_root: Path) -> None:
    assert json.loads(asked("samples", str(pool_root), "--verdict", "rejected:tiny", "--json").stdout)["samples"] == []
