"""What a shard costs the driver, apart from the work itself: a pass over very many shards whose work is nothing.

It runs in a process of its own, as `shardmill run` does, so that nothing but a driver is measured: its processor time (all of its
threads, Ray's too), its largest resident size, and how much it grew after the first tenth of the shards.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.api.progress import Silent
from pipeline.distributed.connection.connection import connected
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.driver import Driver
from pipeline.input.discovery import Shard
from pipeline.root.log import EventLog
from pipeline.store.store import Store
from pipeline.timing.progress import Scope, Step
from pipeline.work import Facts, Work
from tests.benchmarks.figures import Figure

WORKERS = 2
MOST_MEGABYTES = 500.0
MOST_MILLISECONDS = 3.0


@dataclass(frozen=True)
class Nothing(Work[Shard]):
    """Reads nothing, writes nothing, and says what Annotate would say."""

    def name(self, item: Shard) -> str:
        return item.shard_id

    @contextmanager
    def open(self) -> Iterator[Callable[[Shard], Facts]]:
        yield lambda shard: {
            "shard_id": shard.shard_id, "gaps": [], "members": 0, "bytes_read": 0, "ignored": {}, "rows": 0, "seconds": 0.0,
        }


class Growth(Silent):
    """Remembers the resident size after the first tenth of the shards, and at the end."""

    def start(self, title: str, scope: Scope) -> None:
        self._early, self._done = scope.items // 10, 0
        self.early = self.late = 0

    def advance(self, step: Step) -> None:
        self._done += 1
        if self._done == self._early:
            self.early = resident()

    def finish(self) -> None:
        self.late = resident()


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def largest() -> int:
    """Bytes that this process had in memory at most. (getrusage would count what its parent had when it forked.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def shards_of_nothing(count: int) -> list[Shard]:
    return [
        Shard(f"{i:06d}-0123abcd", f"s3://bucket/data/{i:06d}.tar", f"{i:06d}.tar", 1 << 28, f"etag-{i:032x}", "tar")
        for i in range(count)
    ]


def drive(count: int, folder: str) -> dict[str, float]:
    """One pass in this process; its figures."""
    with connected(None, WORKERS):
        root, growth = Store(folder), Growth()
        shards = shards_of_nothing(count)
        executor = RayExecutor(WORKERS)
        driver = Driver(root, executor, growth, EventLog(root))
        driver.run("warm", Nothing(), shards[:10])
        processor, began = time.process_time(), time.perf_counter()
        given_up = driver.run("nothing", Nothing(), shards)
        seconds = time.perf_counter() - began
        spent = time.process_time() - processor
        executor.close()
    lines = sum(len(path.read_text().splitlines()) for path in (Path(folder) / "log").glob("*.jsonl"))
    if given_up or lines != count + 14:
        raise SystemExit(f"{len(given_up)} shards were given up, {lines} lines are in the log of {count} shards")
    return {
        "milliseconds": 1e3 * spent / count, "wall": 1e3 * seconds / count,
        "megabytes": largest() / 1e6,
        "bytes": (growth.late - growth.early) / (0.9 * count),
    }


def measure(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.many_shards", str(count), folder]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return [
        Figure(f"driver's processor time, {count:,} shards", found["milliseconds"], "ms/shard", MOST_MILLISECONDS, at_most=True),
        Figure("driver's largest resident size", found["megabytes"], "MB", MOST_MEGABYTES, at_most=True),
        Figure("growth of it after the first tenth", found["bytes"], "B/shard"),
        Figure(f"wall time, {WORKERS} actors", found["wall"], "ms/shard"),
    ]


if __name__ == "__main__":
    print(json.dumps(drive(int(sys.argv[1]), sys.argv[2])))
