"""What a run shows while it works: shards, samples per second, time left. The only rich import."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipeline.driver import Reporter

QUIET_SECONDS = 10.0
"""Without a terminal (a job's log) a line at most this often."""


class Silent:
    """Shows nothing: for tests and `--json`."""

    def start(self, title: str, total: int, done: int) -> None: ...

    def advance(self, samples: int) -> None: ...

    def finish(self) -> None: ...

    def note(self, text: str) -> None: ...


class Lines:
    """One line now and then, for a log file."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def start(self, title: str, total: int, done: int) -> None:
        self._title, self._total, self._done, self._samples = title, total, done, 0
        self._began = self._last = time.monotonic()

    def advance(self, samples: int) -> None:
        self._done += 1
        self._samples += samples
        now = time.monotonic()
        if now - self._last >= QUIET_SECONDS:
            self._last = now
            self._line()

    def finish(self) -> None:
        self._line()

    def _line(self) -> None:
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = f", {self._samples / seconds:,.0f} samples/s" if self._samples else ""
        self._console.print(f"{self._title}: {self._done:,} of {self._total:,} shards{rate}, {seconds:,.1f} s")

    def note(self, text: str) -> None:
        self._console.print(text)


class Bar:
    """A progress bar for a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)

    def start(self, title: str, total: int, done: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TextColumn("shards"),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), console=self._console,
        )
        self._task: TaskID = self._bar.add_task(title, total=total, completed=done, rate="")
        self._samples, self._began = 0, time.monotonic()
        self._bar.start()

    def advance(self, samples: int) -> None:
        self._samples += samples
        rate = f"{self._samples / max(time.monotonic() - self._began, 1e-9):,.0f} samples/s" if self._samples else ""
        self._bar.update(self._task, advance=1, rate=rate)

    def finish(self) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        self._console.print(text)


def reporter() -> Reporter:
    """A bar on a terminal, lines elsewhere; both on stderr."""
    return Bar() if sys.stderr.isatty() else Lines()
