"""What a terminal gets: colours where a person looks and wants them (rich knows NO_COLOR and TERM=dumb), and warnings beside a bar
that moves."""

import logging
import sys
from typing import TextIO

STYLES = {
    "kept": "green", "rejected": "yellow", "failed": "red", "gap": "red", "quarantined": "red", "FAULT": "red", "REJECT": "red",
    "ok": "green", "error": "bold red", "name": "bold",
}
"""By what a text is; anything else is left as it is."""


def coloured(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text as this terminal shows it in its style of STYLES; the text itself where `stream` (default: stdout) is no
    terminal. `text` must hold no control characters."""
    if not (stream or sys.stdout).isatty():   # rich takes time to load, and a pipe need not wait
        return text
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream or sys.stdout, soft_wrap=True, highlight=False)
    with console.capture() as capture:
        console.print(Text(text, STYLES.get(style, "")), end="")
    return capture.get()


class Warnings(logging.Handler):
    """Python's log goes to standard error as it is at that moment: a bar that moves stands in for it, and keeps lines apart."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record."""
        if sys.stderr is not None:
            print(self.format(record), file=sys.stderr)
