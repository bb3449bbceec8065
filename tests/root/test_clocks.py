"""Clocks that are wrong or go backwards, and files from 1970 and 2100, change no byte."""

import itertools
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from pipeline.audit.verify import verify
from pipeline.input.discovery import discover
from pipeline.queries.status import status
from pipeline.report.clocks import read_clock
from pipeline.root.existing import open_root
from pipeline.store.store import Store
from tests.curations import curated
from tests.mixed import OVERRIDES, TIMES, mixed
from tests.roots import counted, hashes

DONE = (
    "_SUCCESS", "manifest.parquet", "exports/*/000001*", "labels@*/1*", "verdicts@*/0-*", "tables/classes@*/classes.parquet",
    "columns/entities@*/2-*",
)


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Path:
    return mixed(tmp_path_factory.getbasetemp() / "mixed", sample_folder)


def test_a_root_continued_under_a_clock_that_goes_backwards_has_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, whole = tmp_path / "root", hashes(made / "root")
    shutil.copytree(made / "root", root, symlinks=True)
    for pattern in DONE:
        for path in root.glob(pattern):
            path.unlink()
    for path in root.rglob("*"):
        os.utime(path, (TIMES[1], TIMES[1]), follow_symlinks=False)
    backwards = itertools.count(2e9, -1e7)
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: next(backwards))
        curated(root, [made / "in"], OVERRIDES)
    assert next(backwards) < 2e9 - 5e7, "nobody asked the clock"
    assert hashes(root) == whole
    events = [json.loads(line) for path in (root / "log").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert all(0 <= event["seconds"] < 600 for event in events if event.get("done"))
    assert read_clock(Store(str(root))).seconds >= 0
    assert status(str(root)).state == "finished"


def test_inputs_of_1970_and_2100_are_curated_like_any_and_another_time_is_another_version(made: Path, tmp_path: Path) -> None:
    stored = open_root(str(made / "root")).shards
    assert [shard.version.partition("-")[0] for shard in stored] == [str(seconds * 10**9) for seconds in TIMES]
    assert verify(str(made / "root")).faults == ()
    assert counted(made / "root").kept > 12
    path = tmp_path / "old.tar"
    shutil.copy(made / "in" / "0.tar", path)
    os.utime(path, (-86400, -86400))
    assert discover([str(path)])[0].version.startswith("-86400000000000-")
