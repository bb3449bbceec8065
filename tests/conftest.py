import os
from pathlib import Path

import pytest

from tests.roots import shardmill

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")   # ray's own future default; silences its warning

SAMPLE = Path(__file__).parent.parent / "pipeline" / "assets" / "sample"


@pytest.fixture(scope="session")
def sample_folder() -> Path:
    return SAMPLE


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory) -> Path:
    """What `shardmill run sample` writes with two actors. Read only."""
    root = tmp_path_factory.mktemp("demo") / "root"
    shardmill("run", "sample", "--output", str(root), "--workers", "2")
    return root
