"""Stopping on request."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def stop_on_sigterm() -> None:
    """SIGTERM (Slurm, Kubernetes, systemd) stops a run as Ctrl-C does: what is done is kept.

    Ray sets a handler of its own when a driver connects, so this is called again after that. Nothing is done outside the main
    thread, where Python lets nobody set a handler.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)


@contextmanager
def handler_kept() -> Iterator[None]:
    """Gives the calling program its own handler of SIGTERM back when the block ends."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if previous is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
