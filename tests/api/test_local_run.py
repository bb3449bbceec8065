"""Runs in one process, without Ray, as a user starts them and as a program does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest
import torch

from pipeline.api import shardmill
from pipeline.api.engines import Execution
from pipeline.audit.verify import verify
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import InputError, OutputError
from pipeline.work import Facts, Work
from tests.roots import asked, hashes

WITHOUT_RAY = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)   # as from a terminal: a shell's background jobs ignore it
sys.modules["ray"] = None   # whoever imports it gets an ImportError
sys.argv = ["curate.py", *sys.argv[1:]]
runpy.run_module("jobs.curate", run_name="__main__")
"""


def without_ray(*arguments: str | Path) -> subprocess.Popen[str]:
    """The main job, in a process that cannot import Ray."""
    return subprocess.Popen(
        [sys.executable, "-c", WITHOUT_RAY, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_local_run_writes_the_bytes_of_a_run_on_ray_and_needs_no_ray(demo_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    running = without_ray("sample", "--local", "--output", root)
    said, progress = running.communicate(timeout=280)
    assert running.returncode == 0, progress
    assert "shardmill: finished in" in said
    assert "annotate: 9 of 9 shards" in progress
    assert (root / "manifest.parquet").read_bytes() == (demo_root / "manifest.parquet").read_bytes()
    assert hashes(root) == hashes(demo_root)
    assert (root / "report.html").exists()


def test_ctrl_c_and_sigterm_stop_a_local_run_and_the_same_command_continues_it(tmp_path: Path, sample_folder: Path) -> None:
    root = tmp_path / "root"
    arguments: list[str | Path] = [sample_folder / "00008.tar", "--local", "--output", root, "--set", "model.compile=false"]
    for number in (signal.SIGINT, signal.SIGTERM):
        running, log = without_ray("sample", *arguments), len(list(root.glob("log/*.jsonl")))
        deadline = time.monotonic() + 120
        while len(list(root.glob("log/*.jsonl"))) == log and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
        assert running.returncode == 130, said
        assert "the same command continues it" in said
        assert json.loads(asked("status", str(root), "--json").stdout)["state"] == "unfinished"   # the lock is given back
    shardmill.curate("sample", sample_folder / "00008.tar", root, local=True, overrides=["model.compile=false"])
    assert verify(str(root)).faults == ()


@pytest.mark.parametrize("option", [["--workers", "2"], ["--address", "auto"], ["--actors-per-gpu", "1"], ["--stall-timeout", "9"]])
def test_a_local_run_takes_no_setting_of_a_cluster(tmp_path: Path, option: list[str]) -> None:
    done = asked("run", "sample", "--output", str(tmp_path / "x"), "--local", *option, check=2)
    assert f"leave out {option[0]}" in done.stderr


def test_a_program_gets_its_signal_handler_and_its_threads_back(tmp_path: Path, sample_folder: Path) -> None:
    def mine(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    before, threads = signal.signal(signal.SIGTERM, mine), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        root = shardmill.curate(
            "sample", sample_folder / "00008.tar", tmp_path / "root", local=True, overrides={"classes.k": 2, "filters.tiny": None})
        assert signal.getsignal(signal.SIGTERM) is mine
        assert torch.get_num_threads() == 2
    finally:
        signal.signal(signal.SIGTERM, before)
        torch.set_num_threads(threads)
    assert root.ledger.read == 28
    assert root.status().state == "finished"
    assert [one.class_id for one in root.classes()] in ([0, 1], [1, 0])
    assert "rejected:tiny" not in root.samples(["verdict"]).to_table()["verdict"].to_pylist()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "root").rglob("*")}
    again = shardmill.curate(
        "sample", [sample_folder / "00008.tar"], tmp_path / "root", local=True, overrides=["classes.k=2", "filters.tiny=null"])
    assert again.ledger == root.ledger
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "root").rglob("*")} == written


@dataclass(frozen=True)
class Half(Work[int]):
    """Fails on odd numbers, with the error that it was given."""

    error: Exception

    def name(self, item: int) -> str:
        return f"item {item}"

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        yield self._run

    def _run(self, item: int) -> Facts:
        if item % 2:
            raise self.error
        return {"rows": item}


def test_an_item_that_fails_is_given_up_by_name_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = list(LocalExecutor(gives_up=True).run(Half(InputError("gone")), [1, 2, 3, 4]))
    assert [(one.item, one.error) for one in outcomes] == [(1, "InputError: gone"), (2, None), (3, "InputError: gone"), (4, None)]
    assert [one.facts for one in outcomes] == [{}, {"rows": 2}, {}, {"rows": 4}]
    assert "item 1: given up" in caplog.text
    assert "Traceback" in caplog.text


def test_a_root_that_cannot_be_written_stops_a_local_run_and_tests_see_every_error() -> None:
    with pytest.raises(OutputError, match="disk full"):
        list(LocalExecutor(gives_up=True).run(Half(OutputError("disk full")), [1]))
    with pytest.raises(ZeroDivisionError):
        list(LocalExecutor().run(Half(ZeroDivisionError()), [1]))


def test_ray_s_settings_and_local_are_refused_together_from_python_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave out --workers"):
        shardmill.curate("sample", None, tmp_path / "x", local=True, workers=2)
    assert Execution(local=True).local
    assert not os.listdir(tmp_path)
