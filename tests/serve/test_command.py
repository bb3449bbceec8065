"""`shardmill serve` says what is wrong before it serves."""

import socket
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.serve.roots.roots import named
from tests.roots import asked


def test_what_cannot_be_served_is_said_with_exit_code_2(demo_root: Path, tmp_path: Path) -> None:
    root, token = str(demo_root), tmp_path / "token"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            ((str(tmp_path / "nothing"),), "is not an output root of shardmill"),
            ((root, "--host", "0.0.0.0"), "--token-file"),
            ((root, "--port", "70000"), "0 (any that is free) to 65535"),
            ((root, "--port", port), f"cannot listen at 127.0.0.1:{port}"),
            ((root, "--token-file", str(token)), "cannot be read"),
        ):
            said = asked("serve", *arguments, check=2)
            assert words in said.stderr
            assert said.stdout == ""
    token.write_text("short")
    token.chmod(0o644)
    assert "chmod 600" in asked("serve", root, "--token-file", str(token), check=2).stderr
    token.chmod(0o600)
    assert "16 or more" in asked("serve", root, "--token-file", str(token), check=2).stderr


def test_roots_have_the_names_they_are_given_or_those_of_their_folders() -> None:
    assert named(["/data/out", "s3://bucket/out/", "day=/data/day"]) == {
        "out": "/data/out", "out-2": "s3://bucket/out/", "day": "/data/day"}
    with pytest.raises(InputError, match="give a root"):
        named([])
