"""Who holds a root: a process, told apart from every other one, on any machine. Reads /proc; sends no signal."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

PROC = Path("/proc")
GONE = ("Z", "X")
"""States of a process that has ended and only waits for its parent to ask."""

Standing = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class Holder:
    """A process. Fields are empty or 0 where this machine does not say; such a process is never taken for dead."""

    host: str
    boot: str
    """Boot id of the kernel: another one after every start of the machine."""
    namespace: str
    """Namespace of process ids: containers on one machine have their own."""
    pid: int
    started: int
    """Clock ticks from the start of the machine to that of the process: a process id comes back, the pair does not."""
    since: str
    """UTC, for people; nothing is decided by it."""

    @classmethod
    def this_process(cls) -> "Holder":
        """The process that calls."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        process = _process(os.getpid())
        return cls(socket.gethostname(), _boot(), _namespace(), os.getpid(), process[1] if process else 0, since)

    @classmethod
    def read(cls, content: bytes) -> "Holder":
        """The holder that a lock file names. Whatever the file lacks is unknown: an unreadable lock is a lock still."""
        try:
            stored = json.loads(content)
        except ValueError:
            stored = None
        fields = stored if isinstance(stored, dict) else {}
        host, boot, namespace, since = (str(fields.get(name) or "") for name in ("host", "boot", "namespace", "since"))
        pid, started = (value if type(value := fields.get(name)) is int else 0 for name in ("pid", "started"))
        return cls(host, boot, namespace, pid, started, since)

    def as_bytes(self) -> bytes:
        """The content of a lock file; `read` reads it."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    def __str__(self) -> str:
        return f"process {self.pid or '?'} on {self.host or 'an unknown host'}, since {self.since or 'an unknown time'}"

    @property
    def standing(self) -> Standing:
        """Whether it lives, as far as this machine can know: only of processes that it can see, never by the age of a file."""
        visible = (self.host, self.boot, self.namespace) == (socket.gethostname(), _boot(), _namespace())
        if not (visible and self.boot and self.namespace and self.pid > 0 and self.started > 0):
            return "unknown"
        try:
            os.kill(self.pid, 0)   # asks whether it is there: /proc may hide the processes of other users
        except (ProcessLookupError, OverflowError):
            return "dead"
        except PermissionError:
            pass
        process = _process(self.pid)
        if process is None:
            return "unknown"
        return "dead" if process[0] in GONE or process[1] != self.started else "alive"


def _boot() -> str:
    return _text(PROC / "sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return os.readlink(PROC / "self/ns/pid")
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, int] | None:
    """State and start of a process (fields 3 and 22 of /proc/<pid>/stat; its name, field 2, may hold anything)."""
    rest = _text(PROC / f"{pid}/stat").rpartition(")")[2].split()
    return (rest[0], int(rest[19])) if len(rest) > 19 and rest[19].isdigit() else None
