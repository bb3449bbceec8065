"""A whole run of the real command with Ray, watched: whom do the driver, the workers and Ray's own processes ask?"""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.security.hostile import write_knowledge_base, write_parquet

ROOT = Path(__file__).parents[2]
WATCH = Path(__file__).parent / "watch"
ALONE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
METADATA = ("169.254.169.254", "metadata.google.internal")
"""What Ray 2.60's dashboard process asks at its start, whatever is switched off: which cloud is this? It is sent nowhere."""


def alone() -> list[str]:
    """The prefix of a command that gets a network of its own with nobody on it; empty where the system forbids it."""
    able = shutil.which("unshare") and subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    return ALONE if able else []


def is_own(host: str) -> bool:
    if host in ("", "None", "localhost", socket.gethostname()) or host.startswith(("/", "b'/", "\0", "b'\\x00")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or host in socket.gethostbyname_ex(socket.gethostname())[2]
    except ValueError:
        return False


@dataclass(frozen=True)
class Watched:
    """What a run said, whom its processes asked, and what else it left in its folder."""

    done: subprocess.CompletedProcess[str]
    asked: list[list[str]]
    folder: Path


COMMAND = "import sys; sys.path.insert(0, {facade!r}); from shardmill.__main__ import main; main()"
"""What is installed as the command `shardmill`."""
NAMES = ("open_clip", "torch", "PIL", "faiss", "ray", "typer", "pydantic", "pyarrow", "pipeline", "schemas", "jobs", "select")
"""Of code that lies beside the input: libraries, our own packages, a module of Python's."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes]) -> Watched:
    """A run whose working folder is its input, and holds code. PYTHONPATH has an empty entry, which is the working folder."""
    folder = tmp_path_factory.mktemp("watched")
    for name in ("in", "watch", "home"):
        (folder / name).mkdir()
    write_parquet(folder / "in" / "types.parquet", folder, pictures[:6])
    for name in NAMES:
        (folder / "in" / f"{name}.py").write_text(f"open({str(folder / 'imported')!r}, 'a').write({name!r})\nraise SystemExit(9)\n")
    write_knowledge_base(folder / "kb.parquet")
    command = [
        sys.executable, "-P", "-c", COMMAND.format(facade=str(ROOT / "pipeline" / "api")), "run", "sample", ".",
        "--output", "../root", "--workers", "1", "--json", "--set", "model.compile=false", "--set", "classes.k=1",
        "--set", f"entities.knowledge_base={folder / 'kb.parquet'}",
    ]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as own:   # short, for sockets
        environment = {
            "PYTHONPATH": os.pathsep.join([str(WATCH), ""]), "SHARDMILL_WATCH": str(folder / "watch"),
            "HOME": str(folder / "home"), "RAY_TMPDIR": own,
        }
        done = subprocess.run(
            [*alone(), *command], cwd=folder / "in", env={**os.environ, **environment}, capture_output=True, text=True, timeout=200,
            check=False)
    asked = [line.split("\t") for path in (folder / "watch").iterdir() for line in path.read_text().splitlines()]
    return Watched(done, asked, folder)


def test_nothing_in_the_working_folder_is_imported(watched: Watched) -> None:
    assert not (watched.folder / "imported").exists(), (watched.folder / "imported").read_text()
    assert watched.done.returncode == 0, watched.done.stderr
    assert json.loads(watched.done.stdout)["read"] == 6


def test_a_run_on_local_files_asks_no_other_machine_and_its_workers_unpickle_no_column(watched: Watched) -> None:
    asked = watched.asked
    assert watched.done.returncode == 0, watched.done.stderr
    assert any("default_worker.py" in who for _, who in asked), "the workers were watched"
    assert all("usage statistics 0" in who for _, who in asked if "started" in who and "ray/" in who), "Ray would report its use"
    assert [(host, who) for host, who in asked if not is_own(host) and not (host in METADATA and "ray/dashboard" in who)] == []
    assert not (watched.folder / "canary").exists()
