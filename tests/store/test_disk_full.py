"""Output that cannot be written, on real file systems: a tmpfs of 4 MB, a read-only mount, a folder of somebody else."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.store.writing import unwritable

CHILD = """
import json, os, resource, sys
from pipeline.errors import OutputError
from pipeline.store.store import Store

root, script = sys.argv[1], sys.argv[2]
store, said = Store(root + "/out"), []
def attempt(action):
    try:
        action()
        said.append(None)
    except OutputError as error:
        said.append(str(error))
exec(script)
left = [os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names]
print(json.dumps({"said": said, "left": sorted(left)}))
"""
CREATE = """
def create(name, size):
    with store.create(name) as file:
        for _ in range(size):
            file.write(os.urandom(1 << 20))
"""


def child(root: Path, script: str, mount: Sequence[str] | None = ()) -> Any:
    """What OutputErrors a script got in a process of its own, and which files are left; with `mount`, on a file system
    that only this process sees."""
    command = [sys.executable, "-c", CHILD, str(root), script]
    if mount:
        command = [*mount, "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"', str(root), *command]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def mount() -> list[str] | None:
    """How a process gets mounts of its own here: as root, or in a user namespace."""
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        probe = [*command, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return command
    pytest.fail("a full disk cannot be tested: neither root nor a user namespace may mount a tmpfs here (unshare -Urm)")


def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path: Path, mount: list[str] | None) -> None:
    found = child(tmp_path, CREATE + """
store.write("kept", b"before")
attempt(lambda: store.write("big", bytes(8 << 20)))
attempt(lambda: store.write("kept", bytes(8 << 20)))
attempt(lambda: create("stream", 8))
attempt(lambda: store.create_new("lock", bytes(8 << 20)))
assert store.read("kept") == b"before"
attempt(lambda: create("small", 2))   # the room is free again
""", mount)
    *full, small = found["said"]
    for name, message in zip(("big", "kept", "stream", "lock"), full, strict=True):
        assert message.startswith(f"{tmp_path}/out/{name} cannot be written: OSError: [Errno 28]")
        assert message.endswith("free space there, then run the same command again")
    assert small is None
    assert found["left"] == ["out/kept", "out/small"]


def test_a_parquet_file_that_does_not_fit_is_named(tmp_path: Path, mount: list[str] | None) -> None:
    found = child(tmp_path, """
import numpy as np, pyarrow as pa
from pipeline.store.tables import write_table
table = pa.table({"a": np.random.default_rng(0).integers(0, 1 << 60, 2_000_000)})
attempt(lambda: write_table(store, "columns/t.parquet", table, {}))
""", mount)
    assert "columns/t.parquet cannot be written: OSError: [Errno 28]" in found["said"][0]
    assert found["left"] == []


def test_a_file_system_that_becomes_read_only_is_named(tmp_path: Path, mount: list[str] | None) -> None:
    found = child(tmp_path, CREATE + """
store.write("kept", b"before")
import subprocess
subprocess.run(["mount", "-o", "remount,ro", root], check=True)
for action in (lambda: store.write("a", b"1"), lambda: create("a", 1), lambda: store.remove("kept"), lambda: store.link("l", "x"),
               lambda: store.append_line("log", "x"), store.clear_partial):
    attempt(action)
""", mount)
    assert all("cannot be written" in message and "read-only" in message for message in found["said"][:5])
    assert found["said"][5] is None, "nothing was left to clear"
    assert found["left"] == ["out/kept"]


def test_a_size_limit_is_named(tmp_path: Path) -> None:
    found = child(tmp_path, CREATE + """
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
attempt(lambda: create("big", 3))
attempt(lambda: store.write("big", bytes(3 << 20)))
try:
    with store.create("big") as file:
        file.write(bytes(3 << 18))   # more than may be, but still in memory
        raise KeyError
except KeyError:
    pass   # the error of the block, not a later one of its file
""")
    assert all("out/big cannot be written" in message and "ulimit -f" in message for message in found["said"])
    assert found["left"] == []


def test_a_folder_of_somebody_else_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.name.startswith("pytest"):
            folder.chmod(0o755)   # so that somebody else gets there
    found = child(tmp_path, """
if os.getuid() == 0:
    os.seteuid(65534)
else:
    os.chmod(root, 0o555)
attempt(lambda: store.write("a", b"1"))
""")
    assert "right to write there, or choose another --output" in found["said"][0]


def test_a_quota_is_named() -> None:
    message = str(unwritable("/x", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))))
    assert message.endswith("free space under the quota, or raise it, then run the same command again")
