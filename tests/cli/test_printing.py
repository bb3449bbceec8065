"""What the command line prints for people is what its JSON says, and nothing in it can command a terminal."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli import class_printing, printing
from pipeline.quantities import counted
from pipeline.queries.thin_classes import thin_classes
from schemas.answers.classes import ClassRow, NumberAdvice, NumberOfClasses
from schemas.answers.samples import Damaged, ListedSample, SampleList
from tests.curations import curated
from tests.roots import asked


def both(*arguments: str) -> tuple[str, Any]:
    """The text for people, and the JSON."""
    return asked(*arguments).stdout, json.loads(asked(*arguments, "--json").stdout)


def value_of(text: str, name: str) -> str:
    """What stands behind a name in a table."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return line.strip().removeprefix(name).split()[0]


def test_the_account_is_the_same_in_status_and_verify(demo_root: Path) -> None:
    for command in ("status", "verify"):
        text, answer = both(command, str(demo_root))
        counts = {"kept": answer["kept"], "read": answer["read"]}
        for kind in ("rejected", "failed"):
            counts |= {f"{kind}:{reason}": count for reason, count in answer[kind].items()}
        assert len(counts) > 6
        assert {name: value_of(text, name) for name in counts} == {name: f"{count:,}" for name, count in counts.items()}


def test_verify_says_ok_or_each_fault_first(demo_root: Path, tmp_path: Path) -> None:
    text, answer = both("verify", str(demo_root), "--deep")
    assert text.splitlines()[-1] == "verify: ok"
    assert value_of(text, "compared with the inputs") == f"{answer['compared']:,}"
    root = Path(shutil.copytree(demo_root, tmp_path / "root", symlinks=True))
    next(iter((root / "exports").rglob("*.tar"))).unlink()
    damaged = asked("verify", str(root), check=1).stdout.splitlines()
    assert damaged[0].startswith("FAULT ")
    assert damaged[-1] == f"verify: {counted(sum(line.startswith('FAULT') for line in damaged), 'fault')}"


def test_status_says_where_time_went_and_what_lies_there(demo_root: Path) -> None:
    text, answer = both("status", str(demo_root))
    assert text.splitlines()[0] == f"{demo_root}: finished (recipe sample)"
    assert value_of(text, "pass label") == str(answer["passes"]["label"]["done"])
    longest = max(answer["time"], key=lambda spent: spent["thread_seconds"])["pass"]
    assert f"time {longest}" in text
    assert {f"columns {columns['name']}" for columns in answer["columns"]} <= {
        " ".join(line.split()[:2]) for line in text.splitlines()}


def test_status_and_gc_show_what_another_recipe_left(sample_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for names in ("false", "true"):
        made = curated(root, [sample_folder / "00008.tar"], ("model.compile=false", "classes.k=40", f"entities.ner={names}"))
    assert thin_classes(made.plan, made.ledger).startswith(f"classes.k is 40 for {made.ledger.kept} samples: --set classes.k=1")
    assert "of another recipe or model" in asked("status", str(root)).stdout
    text, answer = both("gc", str(root), "--dry-run")
    assert [folder["folder"].partition("@")[0] for folder in answer["folders"] if "mentions" in folder["folder"]]
    assert all(folder["folder"] in text for folder in answer["folders"])
    assert text.splitlines()[-1].endswith("would be removed")
    assert asked("gc", str(root)).stdout.splitlines()[-1].endswith(" removed")


def test_explain_shows_every_rule_and_every_column(demo_root: Path) -> None:
    rows = pq.read_table(sorted(demo_root.glob("verdicts@*/*.parquet"))[0]).to_pylist()
    for verdict in ("kept", "rejected:clip_similarity"):
        uid = next(row["uid"] for row in rows if row["verdict"] == verdict)
        text, (sample, *_) = both("explain", str(demo_root), uid)
        assert [rule["rule"] for rule in sample["rules"]] == [
            line.split()[1] for line in text.splitlines() if line.startswith(("  pass ", "  REJECT "))][: len(sample["rules"])]
        assert ("  REJECT clip_similarity" in text) == (verdict != "kept")
        assert all(f"    {name} " in text for columns in sample["columns"].values() for name in columns)
        assert ("  labels " in text) == (sample["labels"] is not None)


def test_simulate_has_a_line_for_each_verdict(demo_root: Path) -> None:
    text, answer = both("simulate", str(demo_root), "--set", "filters.clip_similarity.min=0.3")
    (kept,) = [line.split()[1:] for line in text.splitlines() if line.strip().startswith("kept ")]
    assert kept == [f"{answer[when]['kept']:,}" for when in ("old", "new")]
    assert all(f"rejected:{reason} " in text for reason in answer["new"]["rejected"])


def test_classes_are_listed_shown_compared_and_counted(demo_root: Path) -> None:
    text, answer = both("classes", str(demo_root))
    assert len(text.splitlines()) == len(answer)
    assert all(row["name"][:20] in text for row in answer)
    one, details = both("classes", str(demo_root), str(answer[0]["class_id"]))
    assert value_of(one, "samples") == f"{details['size']:,}"
    assert sum(line.strip().startswith("nearest ") for line in one.splitlines()) == len(details["exemplars"])
    same, matched = both("classes", str(demo_root), "--compare", str(demo_root))
    assert value_of(same, "classes matched") == str(matched["matched"])
    assert value_of(same, "ARI over them") == "1.000"
    counted, advice = both("classes", str(demo_root), "--suggest", "4,8")
    assert [line.split()[0] for line in counted.splitlines()[1:3]] == ["4", "8"]
    assert advice["advice"]["reason"] in counted


def test_a_finished_run_and_a_plan_are_told(demo_root: Path, sample_folder: Path) -> None:
    text, answer = both("run", "sample", "--output", str(demo_root))
    assert text.startswith("shardmill: finished before in ")
    assert value_of(text, "kept") == f"{answer['kept']:,}"
    assert f"report: {demo_root}/report.html" in text
    plan, estimate = both("plan", "sample", str(sample_folder / "00008.tar"), "--set", "model.compile=false")
    assert estimate["shards"] == 1
    assert estimate["rate"] > 0, "fewer than fill a batch are measured, too"
    assert {"recipe", "model", "route", "shards", "rate", "time"} <= {line.split()[0] for line in plan.splitlines()}
    assert estimate["warnings"] == [next(line for line in plan.splitlines() if "warning" in line).strip().removeprefix("warning: ")]
    assert estimate["warnings"][0].startswith("classes.k is 32 for 28 samples")


def test_a_name_of_little_confidence_is_marked_and_one_of_a_thing_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    row = ClassRow(
        class_id=1, level=0, parent=None, name="dog", named=True, confidence=0.02, size=1, mean_similarity=None, entities=(),
        exemplars=(), outliers=())
    class_printing.classes([row, row.model_copy(update={"confidence": 0.98}), row.model_copy(update={"confidence": None})])
    first, second, third = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert (first, second, third) == ("1 dog? 1 2 % sure", "1 dog 1 98 % sure", "1 dog 1 no good name")
    printing.verify(Damaged(faults=("gone",)))
    assert capsys.readouterr().out.splitlines()[-1] == "verify: 1 fault"
    class_printing.suggestion(NumberOfClasses(root="r", reference_column=None, estimate=None, advice=NumberAdvice(
        k=None, between=None, judged=(), rows=40, reason="no number of classes stands out: why")))
    assert capsys.readouterr().out.splitlines()[-1] == "advice: no number of classes stands out: why"


def test_a_class_without_a_name_is_told_by_its_number_once(capsys: pytest.CaptureFixture[str]) -> None:
    sample = ListedSample(
        uid="00" * 16, source_uid=None, shard_id="a-1", row=0, key="k", url="u", verdict="kept", caption="c", class_id=1,
        class_name="class 1", values={})
    listed = SampleList(root="r", matching=None, samples=(sample, sample.model_copy(update={"class_name": "fruit"})))
    printing.samples(listed)
    assert [line for line in capsys.readouterr().out.splitlines() if "kept" in line] == ["  kept  class 1", "  kept  class 1 fruit"]


def test_what_the_web_wrote_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[2Jb\u202ec\nd"
    class_printing.classes([ClassRow(
        class_id=1, level=0, parent=None, name=hostile, named=True, confidence=None, size=1, mean_similarity=None, entities=(),
        exemplars=(), outliers=())])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert not {"\x1b", "\u202e"} & set(printed)
    assert "a [2Jb c d" in printed
