"""The raylet of this machine, without which Ray ends its drivers past Python, with lines of its own and no reason."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

LOOK = 0.5
"""Seconds between two looks."""
CODE = 2
SAYS = b"shardmill: Ray's process on this machine (raylet) was ended, and the run with it: the same command continues it\n"


@contextmanager
def raylet_watched() -> Iterator[None]:
    """Ends this process with one line when its node's raylet is gone: Ray would do so seconds later, without one."""
    pid, over = _raylet(str(ray.get_runtime_context().get_node_id())), threading.Event()
    if pid is not None:
        threading.Thread(target=_watch, args=(pid, over), daemon=True, name="raylet watch").start()
    try:
        yield
    finally:
        over.set()


def _watch(pid: int, over: threading.Event) -> None:
    while not over.wait(LOOK):
        if not _runs(pid):
            os.write(2, SAYS)
            os._exit(CODE)


def _raylet(node: str) -> int | None:
    """The process id of a node's raylet; None where this system does not show it."""
    flag = f"--node_id={node}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if flag in (folder / "cmdline").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:   # it has ended, or is another's
            continue
    return None


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")
