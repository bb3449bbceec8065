"""The standard streams as other Unix tools have them. Standard output is for answers alone: what Ray, its workers and libraries
print meanwhile goes to standard error.

A reader that has gone (`| head`) ends the command without a word, with the code of SIGPIPE. A full device, or a standard output
that is closed, is said in one line. Standard error is a courtesy: what cannot be written there is dropped, and a run goes on.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from typing import Any, NoReturn

NULL = {0: os.O_RDONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""How /dev/null stands in for a closed stream: whatever is opened later must not get its number. A write of an answer fails."""
READER_GONE = 141
"""128 + SIGPIPE, as a shell says of a program that died of it."""
TROUBLE = 2
COLOURS = re.compile(rb"\x1b\[[0-9;]*m")


class Answers(io.FileIO):
    """Standard output. The first write that fails is remembered and raised; nobody is told of those after it."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.error is not None:
            return len(data)
        try:
            return super().write(data) or 0
        except OSError as error:
            self.error = error
            raise


class Messages(io.FileIO):
    """Standard error. What cannot be written is dropped; colours are where it is no terminal, for Ray writes some to any log."""

    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            super().write(data if self.isatty() else COLOURS.sub(b"", bytes(data)))
        return len(data)


def exit_with_streams(run: Any) -> NoReturn:
    """Runs the command line, which ends with SystemExit, and exits with its code, or with that of what befell standard output."""
    for number, mode in NULL.items():
        try:
            os.fstat(number)
        except OSError:   # closed
            os.dup2(os.open(os.devnull, mode), number)
    answers = Answers(1, "w", closefd=False)
    sys.stdout = _text(io.BufferedWriter(answers), sys.stdout, line_buffering=answers.isatty())
    sys.stderr = _text(io.BufferedWriter(Messages(2, "w", closefd=False)), sys.stderr, line_buffering=True)
    code: Any = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:
        if error is not answers.error:
            raise
    with suppress(OSError):
        sys.stdout.flush()
    if answers.error is not None:
        code = READER_GONE
        if answers.error.errno != errno.EPIPE:
            print(f"shardmill: standard output: {answers.error.strerror}", file=sys.stderr)
            code = TROUBLE
    sys.exit(code)


def _text(buffer: io.BufferedWriter, before: Any, *, line_buffering: bool) -> io.TextIOWrapper:
    """As the stream before, but no character is an error."""
    encoding = getattr(before, "encoding", None) or "utf-8"
    return io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", line_buffering=line_buffering)


class _Kept:
    """Standard output while it is kept for the answer."""

    def __init__(self) -> None:
        self._copy: int | None = os.dup(1)
        sys.stdout.flush()
        os.dup2(2, 1)

    def give_back(self) -> None:
        if self._copy is not None:
            os.dup2(self._copy, 1)
            os.close(self._copy)
            self._copy = None


_kept: ContextVar[tuple[_Kept, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def kept_for_the_answer() -> Iterator[None]:
    """Within it, whatever is printed by Python or past it goes to standard error, until `answering`."""
    kept = _Kept()
    token = _kept.set((kept, sys.stdout))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        kept.give_back()
        _kept.reset(token)


@contextmanager
def answering() -> Iterator[None]:
    """Within it, what is printed is the answer, on standard output."""
    found = _kept.get()
    if found is None:
        yield
        return
    kept, stdout = found
    kept.give_back()
    with redirect_stdout(stdout):
        yield
