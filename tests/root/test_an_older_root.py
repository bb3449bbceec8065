"""A root that was made before stages came from a registry and outputs from a list (commit 46648e4): eleven samples of the bundled
sample in two tars, two classes. Only where its inputs are is put in anew."""

import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.api.progress import Silent
from pipeline.audit.verify import verify
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.plan import Plan
from pipeline.queries.simulate import changed_recipe, explain_sample, simulate_rules
from pipeline.queries.status import status
from pipeline.report.build import write_report
from pipeline.root.entries import file_record
from pipeline.root.existing import open_root
from pipeline.root.lifecycle import finished
from pipeline.root.log import EventLog
from tests.curations import made

PACKED = Path(__file__).parent / "root_of_46648e4.tar.xz"
WHEN = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(PACKED) as archive:
        archive.extractall(tmp_path, filter="tar")
    for path in (tmp_path / "in").iterdir():
        os.utime(path, (WHEN, WHEN))
    run = tmp_path / "root" / "run.json"
    run.write_text(run.read_text().replace("{in}", str(tmp_path / "in")))
    at = open_root(str(tmp_path / "root")).root
    manifest = at.read_json("manifest.json")
    manifest["files"]["run.json"] = file_record(at, "run.json")
    at.write_json("manifest.json", manifest)
    at.write_json("_SUCCESS", at.read_json("_SUCCESS") | {"manifest_sha256": file_record(at, "manifest.json")["sha256"]})
    return tmp_path / "root"


def test_it_is_finished_and_whole(root: Path) -> None:
    result = finished(open_root(str(root)))
    assert result is not None
    assert (result.ledger.read, result.ledger.kept, result.ledger.rejected) == (11, 6, {"clip_similarity": 4, "language": 1})
    assert verify(str(root), deep=True).faults == ()
    assert Plan.of(result.plan.root, result.plan.recipe, result.plan.shards, result.plan.settled).export != result.plan.export


def test_every_question_is_answered(root: Path) -> None:
    assert status(str(root)).kept == 6
    uid = pq.read_table(next((root / "shards").glob("*.parquet"))).column("uid")[0].as_py()
    (answer,) = explain_sample(str(root), uid)
    assert answer.uid == uid
    assert list(answer.columns) == ["samples", "image", "caption", "language", "hashes", "clip", "mentions", "entities"]
    assert simulate_rules(str(root), ["filters.clip_similarity.min=0.0"]).new.kept == 10
    write_report(open_root(str(root)))


def test_it_goes_on_with_its_own_columns(root: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (root / "columns").rglob("*.*")}
    plan = open_root(str(root))
    plan = replace(plan, recipe=changed_recipe(plan.recipe, ["filters.clip_similarity.min=0.0"]))
    driver = Driver(plan.root, LocalExecutor(), Silent(), EventLog(plan.root))
    result = made(plan, driver)
    assert (result.finished_before, result.ledger.kept) == (False, 10)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert verify(str(root), deep=True).faults == ()
    assert Plan.of(result.plan.root, result.plan.recipe, result.plan.shards, result.plan.settled).export != result.plan.export
