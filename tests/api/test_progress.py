"""What a run shows while it works."""

import sys

import pytest

from pipeline.api import progress
from pipeline.api.progress import Bar, Lines, reporter
from pipeline.driver import Reporter

NOTE = "annotate: shard x[bold].tar[/] was read again"


def shown(tell: Reporter, capsys: pytest.CaptureFixture[str]) -> str:
    """What a pass over five shards says, of which two were done before and two more get done."""
    tell.start("annotate", 5, 2)
    tell.advance(100)
    tell.advance(0)
    tell.note(NOTE)
    tell.finish()
    captured = capsys.readouterr()
    assert captured.out == "", "stdout is for answers"
    return captured.err


def test_a_log_gets_a_line_at_the_end_and_one_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    note, end = shown(reporter(), capsys).splitlines()
    assert note == NOTE, "as it was said: brackets are no markup"
    assert end.startswith("annotate: 4 of 5 shards, ")
    assert "samples/s" in end
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert [line.split(" shards")[0] for line in shown(Lines(), capsys).splitlines() if "of 5" in line] == [
        "annotate: 3 of 5", "annotate: 4 of 5", "annotate: 4 of 5"]


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    tell = reporter()
    assert isinstance(tell, Bar)
    assert "4/5" in shown(tell, capsys)
