from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.serve.settings import Settings
from tests.serve.running import Running, running


@pytest.fixture(scope="session")
def served(demo_root: Path) -> Iterator[Running]:
    """The demo root, served as `demo`, with one host on the list of those that pictures may be fetched from."""
    with running([f"demo={demo_root}"], Settings(image_hosts=("pictures.example",))) as server:
        yield server
