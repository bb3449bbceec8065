import atexit
import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests import s3
from tests.roots import shardmill

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")   # ray's own future default; silences its warning
for flag in ("RAY_prestart_worker_first_driver", "RAY_enable_worker_prestart"):   # as `connection` has it, on tests' own clusters
    os.environ.setdefault(flag, "0")
if "PYTEST_XDIST_WORKER" in os.environ:   # two test processes at once must not join each other's Ray
    os.environ.setdefault("OMP_NUM_THREADS", "1")   # nor wait for threads; `make test` sets it before numpy is there
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")   # short: it has sockets
    atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)

SAMPLE = Path(__file__).parent.parent / "pipeline" / "assets" / "sample"


@pytest.fixture(scope="session")
def sample_folder() -> Path:
    return SAMPLE


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `shardmill run sample` writes with two actors, which also fit the classes. Read only. What it said meanwhile is in
    `said` beside it."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base   # one for all test processes
    with (folder / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = folder / "demo" / "root"
        if not (root / "_SUCCESS").exists():
            said = shardmill("run", "sample", "--output", str(root), "--workers", "2", SHARDMILL_FIT_ALONE="0")
            (folder / "demo" / "said").write_text(said.stderr, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of a moto server with a bucket; clients find it by the environment, as they would find a real one."""
    with s3.s3_server() as endpoint:
        fsspec.filesystem("s3").mkdir("bucket")
        yield endpoint


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the collector need not look at it again and again, nor after every 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests say by `record_property("say", …)`: how many kills, how many mutated inputs, which seeds."""
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == "say":
                terminalreporter.write_line(value)
