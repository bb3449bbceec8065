"""What a user can get wrong is said in seconds, before Ray or torch is imported, and leaves nothing behind."""

import json
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.root.lock import lock_state
from pipeline.store import reach
from pipeline.store.store import Store
from tests.roots import asked

ASKED = """
import json, sys, time

from typer.testing import CliRunner
from pipeline.cli.main import app
for arguments in json.loads(sys.argv[1]):
    started = time.monotonic(), time.process_time()
    result = CliRunner().invoke(app, ["run", *arguments])
    seconds = time.monotonic() - started[0], time.process_time() - started[1]
    print(json.dumps([result.exit_code, result.stderr or repr(result.exception), *seconds]))
assert not {"ray", "torch", "open_clip"} & sys.modules.keys()
"""
OUT = ["--output", "{root}"]
MODEL = ["sample", *OUT, "--set"]
VIT = [*MODEL, "model.name=ViT-B-32", "--set"]
MISTAKES: list[tuple[list[str], list[str]]] = [
    (["smaple", *OUT], ["did you mean sample"]),
    (["sample", "{tmp}/nowhere", *OUT], ["no such file or folder", "nowhere"]),
    ([*MODEL, "model.name=ViT-B-33", "--set", "model.pretrained=openai"], ["open_clip knows no model ViT-B-33", "ViT-B-32"]),
    ([*VIT, "model.pretrained=opnai"], ["has no weights 'opnai'", "did you mean openai?", "or a checkpoint file"]),
    ([*VIT, "model.pretrained={tmp}/my.pt"], ["model.pretrained: no such file", "my.pt", "by the path that every worker"]),
    ([*VIT, "model.pretrained=weights.safetensors"], ["no such file weights.safetensors"]),
    ([*VIT, "model.pretrained={tmp}"], ["is a folder", "local-dir:"]),
    ([*VIT, "model.pretrained=openai"],
     ["ViT-B-32/openai are not on this machine", "127.0.0.1:9 cannot be reached", "model.pretrained",
      "hub/models--timm--vit_base_patch32_clip_224.openai"]),
    ([*MODEL, "model.name=ViT-B-16-SigLIP", "--set", "model.pretrained={tmp}/weights.pt"],
     ["the tokenizer of model ViT-B-16-SigLIP", "is not on this machine", "hub/models--timm--ViT-B-16-SigLIP"]),
    ([*MODEL, "model.name=hf-hub:me/mine"], ["hf-hub:me/mine are not on this machine", "local-dir:FOLDER"]),
    ([*MODEL, "model.name=local-dir:{tmp}/none"], ["there is no", "none/open_clip_config.json"]),
    ([*MODEL, "model.name=local-dir:{tmp}/bare"], ["there are no weights in", "bare"]),
    ([*MODEL, "model.device=cuda"], ["model.device is cuda, but this machine has no GPU", "set it to auto"]),
    ([*MODEL, "model.precision=tf32"], ["model.precision is tf32, but this machine has no GPU"]),
    ([*MODEL, "entities.knowledge_base={tmp}/kb.parquet"], ["entities.knowledge_base: no such file", "kb.parquet"]),
    ([*MODEL, "classes.fit_on={tmp}/none"], ["classes.fit_on", "none is not a finished run"]),
    (["sample", "--output", "{tmp}/file"], ["cannot be an output root", "is a file"]),
    (["sample", "--output", "{tmp}/file/below"], ["cannot be an output root", "file is a file"]),
    (["sample", "--output", "/proc/nowhere"], ["/proc/nowhere cannot be written"]),
    (["sample", "--output", "{tmp}/bare"], ["not a root of shardmill"]),
    (["sample", "http://127.0.0.1:9/a.tar", *OUT], ["http://127.0.0.1:9/a.tar: 127.0.0.1:9 cannot be reached"]),
    (["sample", "s3://bucket/{{0..9}}.tar", *OUT], ["s3://bucket/", "at http://127.0.0.1:9"]),
    (["sample", "--output", "s3://bucket/root"], ["s3://bucket/root at http://127.0.0.1:9: 127.0.0.1:9 cannot be reached"]),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, float, float]]:
    """Exit code, last words, seconds and CPU seconds of each mistake, one after another in one process."""
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "file").write_text("")
    (tmp / "weights.pt").write_text("unread")
    (tmp / "bare").mkdir()
    (tmp / "bare" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"embed_dim": 2, "vision_cfg": {}, "text_cfg": {}}, "preprocess_cfg": {}}))
    arguments = [[one.format(tmp=tmp, root=tmp / "root") for one in given] for given, _ in MISTAKES]
    environment = {
        "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp / "hf"), "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "PATH": "/bin",
        "HOME": str(tmp), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", ASKED, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=True)
    assert {path.name for path in tmp.iterdir()} == {"file", "bare", "weights.pt"}, "a failed start leaves no root and no lock"
    assert [path.name for path in (tmp / "bare").iterdir()] == ["open_clip_config.json"]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda number: MISTAKES[number][1][0][:40])
def test_every_mistake_is_said_in_seconds_before_ray_or_torch_is_imported(
    answers: list[tuple[int, str, float, float]], number: int,
) -> None:
    code, said, seconds, computed = answers[number]
    assert code == 2, said
    assert all(words in said for words in MISTAKES[number][1]), said
    assert said.splitlines()[-1].startswith("shardmill: ")
    assert computed < 3
    assert seconds < 20, "somebody waits and tries again; the test's machine may have other work, so that 3 s tell nothing"


@pytest.mark.parametrize("arguments", [["run", "sample", "-o", "x", "--local"], ["plan", "sample"]])
def test_too_little_address_space_is_said_instead_of_hanging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4_500_000 << 10, -1))
    said = asked(*arguments, check=2).stderr.splitlines()[-1]
    assert "this process may map 4.6 GB (ulimit -v), and torch would map" in said
    assert not list(tmp_path.iterdir())


def test_a_run_that_would_start_ray_under_such_a_limit_is_refused(tmp_path: Path) -> None:
    """In a process of its own: this one may be connected to a cluster, whose workers need not be here."""
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "sample", "-o", str(tmp_path / "x")]
    done = subprocess.run(["bash", "-c", 'ulimit -v 4500000; exec "$@"', "bash", *command],
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "this process may map 4.6 GB (ulimit -v), and Ray and torch would map" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_server_that_takes_no_connection_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as stack:
        for _ in range(3):   # those that wait to be accepted; the kernel drops the others
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        started = time.monotonic()
        assert "127.0.0.1" in reach.unreachable(f"http://127.0.0.1:{server.getsockname()[1]}/a.tar")
        assert 0.4 < time.monotonic() - started < 3


def test_weights_that_turn_out_to_be_none_leave_the_lock_released(tmp_path: Path, sample_folder: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    bundled = sample_folder.parent / "model"
    (model / "open_clip_config.json").write_bytes((bundled / "open_clip_config.json").read_bytes())
    (model / "open_clip_model.safetensors").write_bytes(b"no weights")
    root = tmp_path / "root"
    done = asked("run", "sample", str(sample_folder / "00008.tar"), "--output", str(root), "--local", "--set",
                 f"model.name=local-dir:{model}", "--set", "filters.clip_similarity=null", check=2)
    assert "cannot be loaded" in done.stderr.splitlines()[-1]
    assert lock_state(Store(str(root))).released
