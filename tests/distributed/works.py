"""Small real works for the executors: they read nothing and leave a trace file for each attempt."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.work import Work


@dataclass(frozen=True)
class Squares(Work[int]):
    """Squares a number; does what it is told to do to certain numbers."""

    trace: str
    raises: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    dies_once: tuple[int, ...] = ()
    opens: bool = True

    def name(self, item: int) -> str:
        return f"number {item}"

    @contextmanager
    def open(self):
        if not self.opens:
            raise RuntimeError("nothing opens here")
        yield self._run

    def _run(self, item: int):
        attempt = len(self.attempts(item)) + 1
        (Path(self.trace) / f"{item}.{attempt}.{os.getpid()}").touch()
        if item in self.raises:
            raise ValueError(f"cannot square {item}")
        if item in self.dies or (item in self.dies_once and attempt == 1):
            time.sleep(0.3)   # as a shard would: the answer for the item before has left the process by then
            os.kill(os.getpid(), signal.SIGKILL)
        return {"rows": 1, "square": item * item}

    def attempts(self, item: int) -> list[str]:
        return sorted(path.name for path in Path(self.trace).glob(f"{item}.*"))
