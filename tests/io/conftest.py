"""A real S3 API on loopback, and archives made by the standard library."""

import io
import os
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import fsspec
import pytest


@pytest.fixture
def sample():
    """The folder of the bundled sample."""
    return Path(__file__).parents[2] / "pipeline" / "assets" / "sample"


@pytest.fixture(scope="session")
def s3_server():
    """The endpoint of a moto server; clients find it by the environment, as they would find a real one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        _wait_for(f"{endpoint}/moto-api/data.json")
        fsspec.filesystem("s3").mkdir("bucket")
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _wait_for(url):
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(params=["local", "s3"])
def anywhere(request, tmp_path):
    """The URL of an empty folder: on this disk, and behind an S3 API."""
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("s3_server")
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def archive(tmp_path):
    """Writes a tar of (name, bytes) or ready TarInfo members and returns its path."""

    def write(*members, name="a.tar", form=tarfile.USTAR_FORMAT, cut=None):
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
