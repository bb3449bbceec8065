"""What a pass takes: this process and all below it are looked at a few times a second while it lasts."""

import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.scale.counted.sitecustomize import watched

TICK = 0.25
COUNTED = Path(__file__).parent / "counted"
CLEAR_PEAK = b"5"


@dataclass
class Taken:
    """What one pass took."""

    name: str
    seconds: float = 0.0
    processor: float = 0.0
    """Seconds of all processes."""
    driver: int = 0
    """Bytes in memory of this process at most."""
    before: int = 0
    """The same before the first pass, where this process does the workers' work; 0: it does not."""
    worker: int = 0
    """The same of the largest worker; 0: there was none."""
    open_files: int = 0
    """Of the process that held most."""
    files: int = 0
    """In the root, more than before."""
    disk: int = 0
    """Bytes in the root at the end."""
    requests: int = 0
    """Files of the root that were opened, and folders that were listed, by Python's own functions."""
    moved: int = 0
    """Bytes that were read and written, wherever."""


@dataclass
class Watch:
    """Looks at the passes of one run."""

    root: Path
    folder: Path
    """For the counts of requests."""
    taken: list[Taken] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._spent: dict[int, float] = {}
        self._moved: dict[int, int] = {}
        self._files = self._before = 0
        watched(str(self.root), str(self.folder))
        os.environ["SHARDMILL_COUNTED"] = os.pathsep.join([str(self.root), str(self.folder)])
        named = [str(COUNTED), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, named))

    def before(self, *, local: bool) -> None:
        """What is there by now is not the next pass's; `local`: neither is what this process holds."""
        self._files, _ = contents(self.root)
        self._before = psutil.Process().memory_info().rss if local else 0

    @contextmanager
    def passing(self, name: str) -> Iterator[None]:
        """Adds what the block takes to `taken`; a pass that comes again has a number behind its name."""
        earlier = sum(taken.name.split(" ")[0] == name for taken in self.taken)
        taken, over = Taken(f"{name} {earlier + 1}" if earlier else name, before=self._before), threading.Event()
        Path("/proc/self/clear_refs").write_bytes(CLEAR_PEAK)
        self._look(Taken(""))
        processor, moved, requests = sum(self._spent.values()), sum(self._moved.values()), self._requests()
        looking = threading.Thread(target=self._keep_looking, args=(taken, over), daemon=True)
        looking.start()
        began = time.monotonic()
        try:
            yield
        finally:
            taken.seconds = time.monotonic() - began
            over.set()
            looking.join()
            self._look(taken)
            taken.driver = max(taken.driver, peak())
            taken.processor = sum(self._spent.values()) - processor
            taken.moved = sum(self._moved.values()) - moved
            taken.requests = self._requests() - requests
            files, taken.disk = contents(self.root)
            taken.files, self._files = files - self._files, files
            self.taken.append(taken)

    def _keep_looking(self, taken: Taken, over: threading.Event) -> None:
        while not over.wait(TICK):
            self._look(taken)

    def _look(self, taken: Taken) -> None:
        own = psutil.Process()
        for process in [own, *own.children(recursive=True)]:
            try:
                self._look_at(process, taken, own=process.pid == own.pid)
            except (psutil.Error, OSError):   # it has ended meanwhile
                continue

    def _look_at(self, process: psutil.Process, taken: Taken, *, own: bool) -> None:
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info()
            self._spent[process.pid] = times.user + times.system
            counters = process.io_counters()
            self._moved[process.pid] = counters.read_chars + counters.write_chars
            if own:
                taken.driver = max(taken.driver, memory.rss)
            elif not is_worker(process):
                return
            else:
                taken.worker = max(taken.worker, memory.rss)
            taken.open_files = max(taken.open_files, process.num_fds())

    def _requests(self) -> int:
        return sum(struct.unpack("<q", path.read_bytes())[0] for path in self.folder.iterdir() if path.name.isdigit())


def is_worker(process: psutil.Process) -> bool:
    """Whether a process below this one does work: of Ray's own ones it is its workers."""
    command = " ".join(process.cmdline())
    return "ray::" in command or "default_worker" in command or (
        sys.executable in command and "ray/" not in command and "resource_tracker" not in command)


def peak() -> int:
    """Bytes that this process had in memory at most since its peak was cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def contents(root: Path) -> tuple[int, int]:
    """How many files there are below a folder, and their bytes."""
    count = size = 0
    folders = [str(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    count, size = count + 1, size + entry.stat(follow_symlinks=False).st_size
    return count, size
