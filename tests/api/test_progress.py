"""What a run shows while it works."""

import io
import logging
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.api import progress
from pipeline.api.progress import Bar, Lines, reporter
from pipeline.cli.colours import Warnings
from pipeline.timing.progress import Reporter, Scope, Step, phase
from pipeline.work import SHARDS

NOTE = "annotate: shard x[bold].tar[/] was read again"


def told(tell: Reporter) -> None:
    """A pass over five shards, of which two were done before and two more get done."""
    with phase(tell, "annotate", Scope(5, 2, units=SHARDS)):
        tell.moved(10)
        tell.advance(Step(100, 0.1))
        tell.advance(Step(0, 0.1))
        tell.note(NOTE)


def test_a_log_gets_plain_lines_one_for_each_phase(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("RAY_COLOR_PREFIX", raising=False)
    tell = reporter()
    assert isinstance(tell, Lines)
    assert os.environ["RAY_COLOR_PREFIX"] == "0", "Ray marks its workers' lines by escape codes otherwise"
    told(tell)
    with phase(tell, "what takes no time and counts nothing"):
        pass
    tell.note("a\x1b[2Jb\u202ec\rd")
    captured = capsys.readouterr()
    assert captured.out == "", "stdout is for answers"
    note, end, hostile = captured.err.splitlines()
    assert hostile == "a [2Jb c d", "what others wrote cannot command a terminal"
    assert note == NOTE, "as it was said: brackets are no markup"
    assert end.startswith("annotate: 4 of 5 shards, 100 samples, ")
    assert "\x1b" not in captured.err


def test_a_run_in_a_log_says_what_each_phase_did_in_its_own_units_and_nothing_foreign(demo_root: Path) -> None:
    said = (demo_root.parent / "said").read_text(encoding="utf-8")
    assert "\x1b" not in said
    for line in (
        r"annotate: 9 of 9 shards, 828 samples, 5 failed, \S+ samples/s, \S+ s( \(\S+ s of them to start\))?",
        r"entity texts: ([\d,]+) of \1 texts, \S+ texts/s, .*",
        r"select: 9 of 9 shards, 828 samples, 576 kept, 247 rejected, 5 failed, .*",
        r"clustering: \d+ passes, \S+ s",
        r"export: 6 of 6 shards, 576 of 576 samples, .*",
    ):
        assert len(re.findall(f"^{line}$", said, re.MULTILINE)) == 1, line
    ours = re.compile(r"[a-z][a-z ]+: .*|starting Ray: .*")
    assert [line for line in said.splitlines() if not ours.fullmatch(line)] == []


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_log_hears_soon_and_now_and_then_of_what_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert progress.FIRST + progress.TICK < 1.5   # what goes before it takes less than another 1.5 s
    for name, value in (("TICK", 0.02), ("FIRST", 0.1), ("SOON", 0.1), ("RARELY", (0.3, 0.3))):
        monkeypatch.setattr(progress, name, value)
    tell, printed = Lines(), list[str]()

    def lines() -> list[str]:
        printed.extend(capsys.readouterr().err.splitlines())
        return printed

    with phase(tell, "starting Ray"):
        until(lambda: len(lines()) == 1)
        with phase(tell, "a part of it", Scope(1, units=SHARDS)):
            until(lambda: len(lines()) == 3)
        until(lambda: len(lines()) == 5)
    titles = [line.partition(":")[0] for line in lines()]
    assert titles == ["starting Ray", "a part of it", "a part of it", "a part of it", "starting Ray", "starting Ray"]
    until(lambda: not any(thread.name == "progress" for thread in threading.enumerate()))


def test_the_first_word_in_a_log_comes_sooner_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TICK", 0.02), ("FIRST", 0.1), ("SOON", 60.0)):
        monkeypatch.setattr(progress, name, value)
    stream = io.StringIO()
    tell = Lines(stream)
    with phase(tell, "loading"):
        until(lambda: stream.getvalue().startswith("loading: "))
    with phase(tell, "inputs"):
        time.sleep(0.3)
    assert len(stream.getvalue().splitlines()) == 1


def test_a_log_that_nobody_reads_stops_no_run() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(os.dup(writer), "w") as stream:
        told(Lines(stream))
        os.close(writer)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())   # what it still holds has to go somewhere


def test_a_terminal_gets_a_line_that_moves_and_one_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    reader, terminal = pty.openpty()
    printed = list[bytes]()

    def read() -> None:
        with suppress(OSError):   # Linux says so that nobody writes there any more
            while part := os.read(reader, 4096):
                printed.append(part)

    threading.Thread(target=read, daemon=True).start()
    with os.fdopen(terminal, "w", encoding="utf-8") as stream:
        tell = Bar(stream)
        with phase(tell, "annotate", Scope(5, 2, units=SHARDS)):
            tell.advance(Step(100, 0.1))
            until(lambda: b"3 of 5 shards" in b"".join(printed))
            tell.note(NOTE)
            Warnings().emit(logging.makeLogRecord({"msg": "WARNING: shard y"}))
            tell.advance(Step(100, 0.1))
        until(lambda: b"200 samples" in b"".join(printed).rpartition(b"\n")[0])
    text = b"".join(printed).decode()
    assert "\x1b[" in text
    assert "\x1b[?25l" not in text, "the cursor is not hidden: nobody would bring it back after a kill"
    assert "WARNING: shard y" in "".join(line for line in re.split(r"[\r\n]", text) if "━" not in line), "on a line of its own"
    kept = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", line).strip() for line in re.split(r"\n|\r(?!\n)", text)]
    assert NOTE in kept, "as it was said, whole"
    assert any(line.startswith("annotate: 4 of 5 shards, 200 samples, ") for line in kept)


def test_a_terminal_has_a_bar_and_a_dumb_one_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(reporter(), Bar)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(reporter(), Lines)
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(reporter(), Lines), "and none at all stops nothing"
