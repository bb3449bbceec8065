"""Runs of the real command, and comparing what they wrote."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from pipeline.audit.verify import verify
from pipeline.cli.main import app
from schemas.answers.samples import Verified

FREE = ("log", "quarantine", "report.html", ".partial")
"""What design decision 1 lets differ between runs."""


def shardmill(*arguments: str, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *arguments], capture_output=True, text=True, timeout=280,
        env={**os.environ, **environment}, check=False,
    )
    assert check is None or done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True)
class Printed:
    """What a command said."""

    code: int
    stdout: str
    stderr: str


def asked(*arguments: str, check: int | None = 0) -> Printed:
    """Runs the command line in this process: for commands that only look, and for what is refused. A quarter of the time."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert check is None or result.exit_code == check, f"exit {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return Printed(result.exit_code, result.stdout, result.stderr)


def hashes(root: Path) -> dict[str, str]:
    """SHA-256 of every file whose bytes are promised, by relative path."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.relative_to(root).parts[0] not in FREE)
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def counted(root: Path, *, deep: bool = False) -> Verified:
    """What `verify` says of a root whose samples could be counted."""
    found = verify(str(root), deep=deep)
    assert isinstance(found, Verified), found.faults
    return found
