"""Stopping on request."""

import signal
from types import FrameType


def stop_on_sigterm() -> None:
    """SIGTERM (Slurm, Kubernetes, systemd) stops a run as Ctrl-C does: what is done is kept.

    Ray sets a handler of its own when a driver connects, so this is called again after that.
    """
    signal.signal(signal.SIGTERM, _stop)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
