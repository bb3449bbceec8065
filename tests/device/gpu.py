"""The card itself: what it is, how busy it is, and what it reaches at best."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def card() -> dict[str, Any]:
    import os

    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1), "torch": torch.__version__,
        "cuda": torch.version.cuda, "cpus": os.cpu_count(), "usable_cpus": len(os.sched_getaffinity(0)),
        "processor": next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


class Busy:
    """How busy the card was: the mean of NVML's own figure (share of time with a kernel running), sampled ten times a second."""

    def __init__(self) -> None:
        self.samples: list[int] = []

    @property
    def percent(self) -> float | None:
        return round(sum(self.samples) / len(self.samples), 1) if self.samples else None


@contextmanager
def watched() -> Iterator[Busy]:
    busy, stop = Busy(), threading.Event()

    def look() -> None:
        try:
            import pynvml

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # noqa: BLE001 (no NVML: no figure)
            return
        while not stop.wait(0.1):
            busy.samples.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield busy
    finally:
        stop.set()
        thread.join()


def rate(call: Any, work: float, seconds: float = 1.0) -> float:
    """work / time of one call, over about so many seconds after a warm-up."""
    finish: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    for _ in range(3):
        call()
    finish()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        for _ in range(4):
            call()
        finish()
        count += 4
    return work * count / (time.perf_counter() - began)


def ceilings() -> dict[str, float]:
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    pinned = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    return {
        "bf16_tflops": rate(lambda: a @ b, 2 * n**3 / 1e12),
        "copy_tb_per_s": rate(lambda: target.copy_(source), 2 * source.numel() / 1e12),
        "pinned_to_device_gb_per_s": rate(lambda: target[: 1 << 28].copy_(pinned, non_blocking=True), pinned.numel() / 1e9),
    }
