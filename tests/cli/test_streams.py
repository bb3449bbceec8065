"""Standard streams as other Unix tools have them."""

import os
import subprocess
import sys

import pytest

PRINT = """
import os, sys
from contextlib import suppress
from pipeline.cli.streams import answering, exit_with_streams, kept_for_the_answer

def run():
    with kept_for_the_answer():
        print("a library says")
        with suppress(OSError):
            os.write(1, b"past Python\\n")
        print("\\x1b[32mprogress\\x1b[0m", file=sys.stderr)
        with answering():
            print("\\n".join(map(str, range({lines}))))
        sys.exit(3)

exit_with_streams(run)
"""


def ran(shell: str, lines: int = 1) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a command `$@` that prints so many lines as its answer; it says the command's exit code."""
    script = f"set -o pipefail; {shell}"
    command = ["bash", "-c", script, "bash", sys.executable, "-c", PRINT.format(lines=lines)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_standard_output_is_for_the_answer_alone() -> None:
    done = ran('"$@"')
    assert (done.returncode, done.stdout) == (3, "0\n")
    assert sorted(done.stderr.splitlines()) == ["a library says", "past Python", "progress"], "plain, for it is no terminal"


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_reader_that_has_gone_ends_it_without_a_word_as_sigpipe_would(reader: str) -> None:
    done = ran(f'"$@" 2>/dev/null | {reader}; exit ${{PIPESTATUS[0]}}', lines=100_000)
    assert (done.returncode, done.stderr) == (141, "")
    assert done.stdout == ("0\n" if reader == "head -1" else "")


@pytest.mark.parametrize(("where", "why"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")])
def test_an_answer_that_cannot_be_written_is_said_in_one_line_and_is_no_success(where: str, why: str) -> None:
    done = ran(f'"$@" {where}')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"shardmill: standard output: {why}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "<&-", "<&- 2>&-"])
def test_what_cannot_be_said_beside_the_answer_is_dropped(where: str) -> None:
    done = ran(f'"$@" {where}')
    assert (done.returncode, done.stdout) == (3, "0\n")


def test_a_character_that_the_terminal_lacks_is_no_error() -> None:
    code = "from pipeline.cli.streams import exit_with_streams; exit_with_streams(lambda: print('\\u65e5 \\udc80'))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True,
                          text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "\\u65e5 \\udc80\n")
