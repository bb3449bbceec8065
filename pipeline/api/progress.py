"""How progress is shown: a bar on a terminal, plain lines in a log, nothing at all. All of it on standard error."""

import io
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.quantities import clean
from pipeline.timing.progress import Meter, Reporter, Scope, Step
from pipeline.work import Units

FIRST = 1.0
"""Seconds after which a log gets its first word. The interpreter and this program took one before, or more where disks are slow."""
SOON = 2.0
"""Seconds after which a log says of something that it goes on."""
RARELY = (10.0, 60.0)
"""Seconds between two lines on the same thing in a log: the first at its beginning, the second when it has gone on for long."""
TICK = 0.25
"""Seconds between two looks at what is to be said."""


class Silent:
    """Shows nothing: for tests, `--json` and `--quiet`."""

    def start(self, title: str, scope: Scope) -> None: ...

    def moved(self, rows: int) -> None: ...

    def advance(self, step: Step) -> None: ...

    def finish(self) -> None: ...

    def note(self, text: str) -> None: ...


class _Metered:
    """Keeps a meter for whatever is under way, the innermost last."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._meters: list[Meter] = []

    def start(self, title: str, scope: Scope) -> None:
        with self._lock:
            self._meters.append(Meter(title, scope))

    def moved(self, rows: int) -> None:
        with self._lock:
            self._meters[-1].moved(rows)

    def advance(self, step: Step) -> None:
        with self._lock:
            self._meters[-1].advance(step)

    def finish(self) -> None:
        with self._lock:
            meter = self._meters.pop()
        if meter.scope.units != Units() or meter.seconds >= SOON:   # what counts nothing and takes no time is not worth a line
            self._over(meter)

    def _over(self, meter: Meter) -> None: ...


class Lines(_Metered):
    """Plain lines for a log: one when something is over, and one now and then while it goes on."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or _stderr()
        self._told: set[int] = set()
        """Of what is under way, by its place: a line has said so."""
        self._last = 0.0
        self._thread: threading.Thread | None = None

    def start(self, title: str, scope: Scope) -> None:
        with self._lock:
            super().start(title, scope)
            self._told.discard(len(self._meters) - 1)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")
                self._thread.start()

    def note(self, text: str) -> None:
        with self._lock, suppress(OSError, ValueError):   # nobody reads on: what is done goes on
            print(clean(text), file=self._stream, flush=True)

    def _over(self, meter: Meter) -> None:
        self._say(meter.line(over=True))

    def _say(self, line: str) -> None:
        with self._lock:
            self._last = time.monotonic()
            self._told = set(range(len(self._meters)))   # a line on a part says that the whole goes on
            self.note(line)

    def _watch(self) -> None:
        """Until nothing is under way."""
        pause = threading.Event()
        while not pause.wait(TICK):
            with self._lock:
                if not self._meters:
                    self._thread = None
                    return
                meter = self._meters[-1]
                untold = SOON if self._last else FIRST
                pause_now = _pause(meter) if len(self._meters) - 1 in self._told else untold
                if time.monotonic() - max(meter.began, self._last) >= pause_now:
                    self._say(meter.line())


def _pause(meter: Meter) -> float:
    first, last = RARELY
    return min(last, max(first, meter.seconds / 20))


class _Terminal(Console):
    """A terminal whose cursor is left alone: a process that is ended in the middle could not bring it back."""

    def show_cursor(self, show: bool = True) -> bool:
        """Does nothing."""
        return False


class Bar(_Metered):
    """A line that moves for whatever is under way, and one that stays when it is over."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._console = _Terminal(file=stream or _stderr(), highlight=False, markup=False, emoji=False)
        self._live: Live | None = None
        self._spinner = Spinner("dots")

    def start(self, title: str, scope: Scope) -> None:
        super().start(title, scope)
        if self._live is None:   # not under the lock: its thread draws, and asks for the meters meanwhile
            self._live = Live(get_renderable=self._shown, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()

    def finish(self) -> None:
        super().finish()
        if not self._meters and self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def note(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._console.print(Text(clean(text)), soft_wrap=True)

    def _over(self, meter: Meter) -> None:
        self.note(meter.line(over=True))

    def _shown(self) -> RenderableType:
        with self._lock:
            return Group(*map(self._row, self._meters))

    def _row(self, meter: Meter) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_column(no_wrap=True, overflow="ellipsis")
        share = meter.share
        bar = [] if share is None else [ProgressBar(total=1.0, completed=share, width=24)]
        says = Text(", ".join(meter.parts()), no_wrap=True, overflow="ellipsis")
        row.add_row(self._spinner, Text(clean(meter.title)), *bar, says)
        return row


def _stderr() -> TextIO:
    """Standard error by a number of its own: what foreign code prints is kept from it at times, and progress goes on."""
    try:
        if sys.stderr.fileno() == 2:
            return os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError, AttributeError):   # closed, or none: replaced by whoever calls
        pass
    return sys.stderr or io.StringIO()


def reporter() -> Reporter:
    """A bar on a terminal, lines elsewhere."""
    if sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Bar()
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")   # else Ray marks its workers' lines by colours, in a log too
    return Lines()
