"""Small real works for the executors: they read nothing and leave a trace file for each attempt."""

import ctypes
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import ray

from pipeline.errors import OutputError, RouteError
from pipeline.models.route import RouteQuestion
from pipeline.work import Facts, Place, Work, beat


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
    def open(self) -> Iterator[Callable[[int], Facts]]:
        if not self.opens:
            raise RuntimeError("nothing opens here")
        yield self._run

    def _run(self, item: int) -> Facts:
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


@dataclass(frozen=True)
class Troubled(Work[int]):
    """Meets what `troubles` says at certain numbers; leaves `number.pid.node` for each attempt."""

    trace: str
    troubles: tuple[tuple[int, str], ...] = ()
    taking_care: bool = False

    def name(self, item: int) -> str:
        return f"number {item}"

    def careful(self) -> "Troubled":
        return replace(self, taking_care=True)

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        yield self._run

    def _run(self, item: int) -> Facts:
        earlier = len(self.attempts(item))
        node = ray.get_runtime_context().get_node_id()
        with (Path(self.trace) / f"{time.monotonic_ns()}.{item}.{os.getpid()}.{node}").open("w"):
            pass
        trouble = dict(self.troubles).get(item)
        if trouble is not None:
            TROUBLES[trouble](self, earlier)
        return {"rows": 1}

    def attempts(self, item: int | None = None) -> list[tuple[int, int, str]]:
        """(number, process, node) of each attempt, in order."""
        found = [path.name.split(".") for path in sorted(Path(self.trace).glob("*.*.*.*"))]
        return [(int(n), int(pid), node) for _, n, pid, node in found if item in (None, int(n))]


ROWS_OF_SLOW = 100


def _gate(work: Troubled, earlier: int) -> None:
    """Gets on, but does not end before the file `gate` is there."""
    while not (Path(work.trace) / "gate").exists():
        beat()
        time.sleep(0.05)


def _memory(work: Troubled, earlier: int) -> None:
    if not earlier:
        raise MemoryError("a picture of 40 GB")


def _careless(work: Troubled, earlier: int) -> None:
    if not work.taking_care:
        raise ValueError("careless")


def _disk(work: Troubled, earlier: int) -> None:
    raise OutputError("the disk is full")


def _slow(work: Troubled, earlier: int) -> None:
    for _ in range(25):
        beat(ROWS_OF_SLOW // 25)
        time.sleep(0.1)


def _segfault(work: Troubled, earlier: int) -> None:
    time.sleep(0.2)
    ctypes.string_at(0)


def _kill(work: Troubled, earlier: int) -> None:
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(work: Troubled, earlier: int) -> None:
    time.sleep(0.2)
    os._exit(7)


def _stop(work: Troubled, earlier: int) -> None:
    time.sleep(0.5)   # the thread that sends the answer for the item before is stopped as well
    os.kill(os.getpid(), signal.SIGSTOP)


TROUBLES: dict[str, Callable[[Troubled, int], object]] = {
    "gate": _gate, "memory": _memory, "careless": _careless, "disk": _disk, "slow": _slow,
    "segfault": _segfault, "kill": _kill, "exit": _exit, "stop": _stop,
    "sleep": lambda work, earlier: time.sleep(3600),
    "regex": lambda work, earlier: re.match(r"(a+)+$", "a" * 64 + "b"),   # C code that holds the GIL for years
}


@dataclass(frozen=True)
class Placed(Work[int]):
    """Says where it ran and what it was given; leaves `node.process` where an item begins. Items end once so many processes have
    begun, or when it is plain that they never will."""

    trace: str
    together: int

    def name(self, item: int) -> str:
        return f"number {item}"

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        yield self._run

    def _run(self, item: int) -> Facts:
        context = ray.get_runtime_context()
        found = {
            "node": context.get_node_id(), "pid": os.getpid(), "gpus": context.get_accelerator_ids()["GPU"],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
        Path(self.trace).mkdir(exist_ok=True)
        Path(self.trace, f"{found['node']}.{found['pid']}").touch()
        until = time.monotonic() + 40
        while len(self.begun()) < self.together and time.monotonic() < until:
            beat()
            time.sleep(0.05)
        return found

    def begun(self) -> set[str]:
        return {path.name for path in Path(self.trace).glob("*.*")}


@dataclass(frozen=True)
class Asking(Placed):
    """The same, as a work that asks the model."""

    @property
    def place(self) -> Place:
        return Place.MODEL


@dataclass(frozen=True)
class Capable(Asking):
    """Also says which instructions torch takes."""

    def _run(self, item: int) -> Facts:
        import torch

        return {**super()._run(item), "capability": torch.backends.cpu.get_cpu_capability()}


ROUTE = "PRETENDED_ROUTE"
"""In the environment of a node: the route of the GPU that it pretends to have."""


def process_of(asked: object) -> int:
    """The id of the process that answers."""
    return os.getpid()


def pretended(question: RouteQuestion) -> str:
    """The route of a machine as its environment has it."""
    assert question.gpu_assigned == bool(ray.get_runtime_context().get_accelerator_ids()["GPU"])
    return _route("cuda" if question.gpu_assigned else "cpu")


def _route(device: str) -> str:
    if device == "cuda":
        return os.environ.get(ROUTE, "cuda-sm90-fp32-eager")
    return "cpu-x86_64-fp32-packed" if os.environ.get("ATEN_CPU_CAPABILITY") == "default" else "cpu-avx2-fp32-packed"


def provides(route: str) -> None:
    here = _route(route.partition("-")[0])
    if route != here:
        raise RouteError(f"this one computes by {here}")


@dataclass(frozen=True)
class Opening(Work[int]):
    """Its first `dies` openings end their process, all at about the same time; with `hangs` it never opens; the process whose id is
    `slow` takes three seconds."""

    trace: str
    dies: int = 0
    hangs: bool = False
    slow: int = 0

    def name(self, item: int) -> str:
        return f"number {item}"

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        Path(self.trace, f"opening.{os.getpid()}").touch()
        if self.hangs:
            time.sleep(3600)
        if os.getpid() == self.slow:
            time.sleep(3)
        if len(self.openings()) <= self.dies:
            while len(self.openings()) < self.dies:
                time.sleep(0.05)
            time.sleep(0.3)   # all of the first ones are through the line above
            os._exit(1)
        yield lambda item: {"rows": 1}

    def openings(self) -> list[Path]:
        return list(Path(self.trace).glob("opening.*"))


@dataclass(frozen=True)
class Searching(Placed):
    """A work that wants a whole GPU: searches, and says by what it did."""

    @property
    def place(self) -> Place:
        return Place.GPU

    def _run(self, item: int) -> Facts:
        from pipeline.search.kernels import kernel
        from pipeline.search.nearest import nearest

        rows, centres = np.random.default_rng(item).standard_normal((2, 600, 32)).astype(np.float32)
        ids, values = nearest(rows, kernel()(centres), 3)
        return {**super()._run(item), "kernel": str(kernel()), "ids": ids.tolist(), "values": values.tolist()}
