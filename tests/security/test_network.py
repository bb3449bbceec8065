"""A whole run of the real command with Ray, watched: whom do the driver, the workers and Ray's own processes ask?"""

import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.security.hostile import write_knowledge_base, write_parquet

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


def test_a_run_on_local_files_asks_no_other_machine_and_its_workers_unpickle_no_column(
    tmp_path: Path, pictures: list[bytes],
) -> None:
    for name in ("in", "watch", "home"):
        (tmp_path / name).mkdir()
    write_parquet(tmp_path / "in" / "types.parquet", tmp_path, pictures[:6])
    write_knowledge_base(tmp_path / "kb.parquet")
    command = [
        sys.executable, "-m", "pipeline.cli.main", "run", "sample", str(tmp_path / "in"), "--output", str(tmp_path / "root"),
        "--workers", "1", "--set", "model.compile=false", "--set", "classes.k=1",
        "--set", f"entities.knowledge_base={tmp_path / 'kb.parquet'}",
    ]
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as own:   # short, for sockets
        environment = {
            "PYTHONPATH": str(WATCH), "SHARDMILL_WATCH": str(tmp_path / "watch"), "HOME": str(tmp_path / "home"), "RAY_TMPDIR": own,
        }
        done = subprocess.run(
            [*alone(), *command], env={**os.environ, **environment}, capture_output=True, text=True, timeout=200, check=False,
        )
    assert done.returncode == 0, done.stderr
    asked = [line.split("\t") for path in (tmp_path / "watch").iterdir() for line in path.read_text().splitlines()]
    assert any("default_worker.py" in who for _, who in asked), "the workers were watched"
    assert all("usage statistics 0" in who for _, who in asked if "started" in who and "ray/" in who), "Ray would report its use"
    assert [(host, who) for host, who in asked if not is_own(host) and not (host in METADATA and "ray/dashboard" in who)] == []
    assert not (tmp_path / "canary").exists()
