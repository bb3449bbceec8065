"""Folders on disk and behind a real S3 API, a proxy in front of it, and archives made by the standard library."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.store import retries
from pipeline.store import s3 as limits
from tests.store.proxy import Proxy


@pytest.fixture
def sample() -> Path:
    """The folder of the bundled sample."""
    return Path(__file__).parents[2] / "pipeline" / "assets" / "sample"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tries with hardly a pause, and no others below them."""
    monkeypatch.setattr(retries, "BACKOFF", retries.Backoff(tries=3, base=0.01, cap=0.02))
    monkeypatch.setattr(limits, "REQUEST_TRIES", 1)


@pytest.fixture(scope="session")
def proxy_server(s3_server: str) -> Iterator[Proxy]:
    with Proxy(s3_server) as running:
        yield running


@pytest.fixture
def proxy(proxy_server: Proxy, quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """In front of the S3 API, and found instead of it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy_server.endpoint)
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 9)   # fsspec keeps one client for each set of options: not the direct one
    yield proxy_server
    proxy_server.reset()


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty folder: on this disk, and behind an S3 API."""
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("s3_server")
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tar of (name, bytes) or ready TarInfo members and returns its path."""

    def write(
        *members: tuple[str, bytes] | tarfile.TarInfo, name: str = "a.tar", form: int = tarfile.USTAR_FORMAT,
        cut: int | None = None,
    ) -> Path:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for member in members:
                if isinstance(member, tarfile.TarInfo):
                    tar.addfile(member)
                    continue
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue()[:cut])
        return path

    return write
