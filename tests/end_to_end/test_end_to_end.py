"""The main job as a user runs it: the command line, Ray actors, the bundled sample, files on disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import webdataset

from pipeline.api.shardmill import curate
from pipeline.audit.verify import verify
from tests.archives import member_bytes
from tests.curations import curated
from tests.roots import asked, shardmill

QUICK = ["--set", "model.compile=false"]
"""The towers as open_clip has them: a worker starts in two thirds of the time."""


WITHOUT_LIBRARIES = """
import sys
sys.modules.update(dict.fromkeys(["ray", "torch", "torchvision", "open_clip"]))   # whoever imports one gets an ImportError
from pipeline.cli.main import main
main()
"""


def test_every_sample_is_accounted_for(demo_root: Path) -> None:
    found = json.loads(asked("verify", str(demo_root), "--json").stdout)
    assert found["faults"] == []
    assert found["read"] == found["accounted"] == 828
    assert found["kept"] + sum(found["rejected"].values()) + sum(found["failed"].values()) == 828


def test_the_same_command_again_does_nothing(demo_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo_root.rglob("*") if path.is_file() and "log" not in path.parts}
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, "run", "sample", "--output", str(demo_root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "finished before" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in demo_root.rglob("*") if path.is_file() and "log" not in path.parts} == before


def test_another_threshold_reuses_the_columns_and_leaves_the_first_verdicts(
    demo_root: Path, sample_folder: Path, tmp_path: Path,
) -> None:
    root = tmp_path / "again"
    shutil.copytree(demo_root, root, symlinks=True)
    stored = {path: path.stat().st_mtime_ns for path in [*(root / "columns").rglob("*.parquet"), *root.glob("verdicts@*/*")]}
    other = "filters.clip_similarity.min=0.2"
    said = json.loads(asked("simulate", str(root), "--set", other, "--json").stdout)
    result = curated(root, [sample_folder], (other,))
    assert verify(str(root)).faults == ()
    assert result.ledger.kept == said["new"]["kept"] < said["old"]["kept"]
    assert result.ledger.rejected == {name: count for name, count in said["new"]["rejected"].items() if count}
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_exported_shards_read_with_plain_webdataset_and_keep_the_bytes(demo_root: Path, sample_folder: Path) -> None:
    source = {}
    for tar in sorted(sample_folder.glob("*.tar")):
        with tarfile.open(tar) as archive:
            source.update({member.name: member_bytes(archive, member) for member in archive})
    sizes = json.loads((demo_root / "shards" / "sizes.json").read_text())
    count = 0
    for tar, samples in sizes.items():
        found = list(webdataset.WebDataset(str(demo_root / "shards" / tar), shardshuffle=False))
        assert len(found) == samples
        for sample in found:
            ours = json.loads(sample["json"])
            original = json.loads(source[f"{ours['key']}.json"])
            assert sample["jpg"] == source[f"{ours['key']}.jpg"]
            assert sample["txt"] == source[f"{ours['key']}.txt"]
            assert {key: ours[key] for key in original if key != "uid"} == original
            assert len(ours["labels"]) == len(ours["label_weights"]) == len(ours["label_names"]) == 8
            assert abs(sum(ours["label_weights"]) - 1) < 0.01
            count += 1
    assert f"{count:,} pairs in {len(sizes)} WebDataset shards" in (demo_root / "shards" / "README.md").read_text()
    assert count == json.loads((demo_root / "shards" / "meta.json").read_text())["output_count"] > 400


def test_explain_shows_every_rule_and_the_verdict(demo_root: Path) -> None:
    rejected = ""
    import pyarrow.parquet as pq

    for path in sorted(demo_root.glob("verdicts@*/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            if row["verdict"] == "rejected:clip_similarity":
                rejected = row["uid"]
    rows = json.loads(asked("explain", str(demo_root), rejected, "--json").stdout)   # exact duplicates share a uid
    (found,) = [row for row in rows if row["verdict"] == "rejected:clip_similarity"]
    check = next(rule for rule in found["rules"] if rule["rule"] == "clip_similarity")
    assert not check["passes"]
    assert check["value"] == pytest.approx(found["columns"]["clip"]["clip_similarity"])
    assert "REJECT clip_similarity" in asked("explain", str(demo_root), rejected).stdout


@pytest.mark.parametrize(("arguments", "words"), [
    (["run", "smaple", "--output", "x"], ["smaple", "did you mean sample"]),
    (["run", "sample", "--output", "x", "--set", "filters.clip_simlarity.min=0.1"], ["clip_simlarity", "clip_similarity?"]),
    (["run", "sample", "no/such/folder", "--output", "x"], ["no/such/folder"]),
    (["status", "no-such-root"], ["no-such-root", "run.json"]),
    (["run", "sample", "pipe:cat x", "--output", "x"], ["pipe:"]),
    (["run", "sample", "--output", "nosuch://bucket/x"], ["nosuch"]),
    (["run", "sample", "--output", "x", "--address", "127.0.0.1:9"], ["no Ray cluster answers at '127.0.0.1:9'", "--address"]),
])
def test_bad_input_exits_2_and_names_what_is_wrong(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    done = asked(*[str(tmp_path / a) if a == "x" else a for a in arguments], check=2)
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "x").exists()


def test_a_wrong_command_ends_its_process_with_2_and_one_line(tmp_path: Path) -> None:
    done = shardmill("run", "smaple", "--output", str(tmp_path / "x"), check=2)
    *before, last = done.stderr.splitlines()
    assert last.startswith("shardmill: ")
    assert all(line.startswith("loading") for line in before)   # said where a machine takes seconds for it
    assert done.stdout == ""


def test_plan_starts_nothing(tmp_path: Path, sample_folder: Path) -> None:
    found = json.loads(asked("plan", "sample", str(sample_folder), "--json", *QUICK).stdout)
    assert found["shards"] == 9
    assert 600 < found["samples"] < 1100
    assert found["rate"] > 0


def test_a_plan_for_more_samples_says_what_every_pass_takes_and_refuses_what_does_not_fit(sample_folder: Path) -> None:
    arguments = ("plan", "sample", str(sample_folder / "00008.tar"), "--rows", "1e9", *QUICK)
    found = json.loads(asked(*arguments, "--json").stdout)
    assert found["samples"] == 1_000_000_000
    assert found["shards"] == round(1_000_000_000 / 28)
    names = [part["name"] for part in found["passes"]]
    assert names[0] == "annotate"
    assert {"select", "clustering", "label", "export"} <= set(names)
    assert found["passes"][0]["seconds"] == pytest.approx(1e9 / found["rate"])
    assert any(sentence.startswith("annotate would take ") for sentence in found["refused"])


def test_exported_shards_read_with_the_training_loader_of_open_clip(demo_root: Path, tmp_path: Path) -> None:
    # open_clip's loader needs a webdataset older than ours, so it gets one of its own.
    old = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(old), "webdataset==0.2.86"]
    subprocess.run(pip, check=True, timeout=120)
    sizes = json.loads((demo_root / "shards" / "sizes.json").read_text())
    urls = f"{demo_root}/shards/{{000000..{len(sizes) - 1:06d}}}.tar"
    total = sum(sizes.values())
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.trainer_loader", urls, str(total)],
        capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "PYTHONPATH": f"{old}{os.pathsep}{os.getcwd()}", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"webdataset": "0.2.86", "seen": total, "training": -(-total // 32) * 32, "shapes": [[32, 3, 64, 64], [32, 77]]}


class Flaky(BaseHTTPRequestHandler):
    """A server that knows the file and its size, and fails whenever it is asked for its bytes, until it is healed."""

    content = b""
    healed = False

    def do_HEAD(self) -> None:
        self._answer(200, len(self.content))

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        if asked is None or not self.healed:
            self.send_error(404 if asked is None else 403, "not today")   # without a range: fsspec asks whether it is a folder
            return
        first, last = asked.removeprefix("bytes=").split("-")
        part = self.content[int(first) : int(last or len(self.content)) + 1]
        self._answer(206, len(part), f"bytes {first}-{int(first) + len(part) - 1}/{len(self.content)}")
        self.wfile.write(part)

    def _answer(self, status: int, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": length, "Content-Range": content_range, "Accept-Ranges": "bytes", "ETag": '"1"'}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_a_shard_that_cannot_be_read_is_quarantined_by_name_and_a_retry_heals(tmp_path: Path, sample_folder: Path) -> None:
    Flaky.content = (sample_folder / "00007.tar").read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    bad, root = f"http://127.0.0.1:{server.server_port}/bad.tar", tmp_path / "out"
    command = ["run", "sample", str(sample_folder / "00008.tar"), bad, "--output", str(root), "--local", *QUICK]
    try:
        done = shardmill(*command, check=3)
        assert "quarantined" in done.stdout
        assert "1 shard is in quarantine" in done.stdout.splitlines()[-1]
        assert "--retry-quarantined tries" in done.stdout.splitlines()[-1]
        found = json.loads(asked("status", str(root), "--json").stdout)
        assert found["state"] == "finished"
        assert found["read"] == 28
        assert "1 shard is in quarantine" in found["retry"]
        ((entry,),) = [found["quarantined"]]
        assert entry["shard_id"].startswith("bad-")
        assert f"not allowed to read: '{bad}'" in entry["error"]
        assert entry["shard_id"] in (root / "report.html").read_text()
        assert verify(str(root)).faults == ()
        Flaky.healed = True
        healed = curate("sample", [sample_folder / "00008.tar", bad], root, local=True, overrides=QUICK[1:], retry_quarantined=True)
        assert healed.ledger.quarantined == ()
        assert healed.ledger.read == 128
        assert healed.status().retry == ""
        assert verify(str(root)).faults == ()
    finally:
        server.shutdown()


def ray_starts(driver: subprocess.Popen[str], root: Path) -> bool:
    return any("gcs_server" in " ".join(child.cmdline()) for child in psutil.Process(driver.pid).children())


def is_claimed(driver: subprocess.Popen[str], root: Path) -> bool:
    return (root / "run.json").exists()


@pytest.mark.parametrize("moment", [ray_starts, is_claimed])
def test_sigterm_stops_with_130_as_ctrl_c_does(
    tmp_path: Path, sample_folder: Path, moment: Callable[[subprocess.Popen[str], Path], bool],
) -> None:
    root = tmp_path / "out"
    arguments = ["run", "sample", str(sample_folder / "00008.tar"), "--output", str(root), "--workers", "1", *QUICK]
    driver = subprocess.Popen([sys.executable, "-m", "pipeline.cli.main", *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not moment(driver, root) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "the same command continues it" in said
