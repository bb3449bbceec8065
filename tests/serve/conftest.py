from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish
from pipeline.serve.settings import Settings
from tests.serve.running import Running, running


def quick_route() -> str:
    """The numeric route whose towers are ready at once; its vectors differ from the root's by less than float16 does."""
    return local_route(RouteWish(packed=False))


@pytest.fixture(scope="session")
def served(demo_root: Path) -> Iterator[Running]:
    """The demo root, served as `demo`, with one host on the list of those that pictures may be fetched from."""
    with running([f"demo={demo_root}"], Settings(image_hosts=("pictures.example",), route=quick_route())) as server:
        yield server
