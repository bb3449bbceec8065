"""Figures of a benchmark, medians of interleaved rounds, and the table that people read."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 3


@dataclass(frozen=True)
class Figure:
    """One measured number; `bound` is what it must reach, `at_most` turns the bound round."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_most: bool = False
    rounds: tuple[float, ...] = ()
    """The same number of each round."""

    @property
    def met(self) -> bool | None:
        if self.bound is None:
            return None
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def interleaved(sides: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each side in each round: a b, a b, a b. Whatever else the machine does falls on both."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - began)
    return seconds


@dataclass(frozen=True)
class Spent:
    """Seconds of each side in each round, by the clock and by processor time of all threads of this process."""

    wall: dict[str, list[float]]
    processor: dict[str, list[float]]


def spent(sides: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> Spent:
    """As `interleaved`. Other load on the machine makes threads wait, which only the clock counts; but a thread that waits for
    another one by turning round counts as work."""
    wall, processor = ({name: list[float]() for name in sides} for _ in range(2))
    for _ in range(rounds):
        for name, side in sides.items():
            began, worked = time.perf_counter(), time.process_time()
            side()
            wall[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - worked)
    return Spent(wall, processor)


def isa(avx512: float | None, avx2: float | None) -> float | None:
    """The bound for this machine's instructions."""
    import torch

    return avx512 if torch.backends.cpu.get_cpu_capability() == "AVX512" else avx2


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def ratio(name: str, above: Sequence[float], below: Sequence[float], bound: float | None) -> Figure:
    """Median over median, with the ratio of each round."""
    rounds = tuple(a / b for a, b in zip(above, below, strict=True))
    return Figure(name, median(above) / median(below), "x", bound, rounds=rounds)


def ratios(name: str, times: Spent, above: str, below: str, bound: float | None) -> list[Figure]:
    """By the clock, which the bound is for, and by processor time."""
    return [
        ratio(name, times.wall[above], times.wall[below], bound),
        ratio("  the same by processor time", times.processor[above], times.processor[below], None),
    ]


def machine() -> dict[str, str]:
    """What the figures depend on beside the code."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": f"{model}, {os.cpu_count()} CPUs, {torch.backends.cpu.get_cpu_capability()}",
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def table(groups: Mapping[str, Sequence[Figure]], about: Mapping[str, str]) -> str:
    lines = [f"{name:<12} {value}" for name, value in about.items()]
    for title, figures in groups.items():
        lines += ["", title, "-" * len(title), *(_line(figure) for figure in figures)]
    return "\n".join(lines)


def _line(figure: Figure) -> str:
    sign = "<=" if figure.at_most else ">="
    bound = "" if figure.bound is None else f"  {sign} {figure.bound:g}: {'met' if figure.met else 'NOT MET'}"
    rounds = f"  ({', '.join(_number(value) for value in figure.rounds)})" if figure.rounds else ""
    return f"  {figure.name:<58} {_number(figure.value):>10} {figure.unit:<10}{bound}{rounds}"


def _number(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def write_json(path: Path, groups: Mapping[str, Sequence[Figure]], about: Mapping[str, str]) -> None:
    figures = {title: [{**asdict(figure), "met": figure.met} for figure in found] for title, found in groups.items()}
    path.write_text(json.dumps({"machine": dict(about), "figures": figures}, indent=1) + "\n")
