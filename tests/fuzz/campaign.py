"""Mutants in a child process with a time limit for each, so that a crash or a hang is found, counted and not fatal."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LIMIT = 90
"""Seconds for one mutant: some hundred times what it takes."""
MANY = 1_000_000
CHILD = "tests.fuzz.child"


@dataclass
class Result:
    mutants: int = 0
    rows: int = 0
    gaps: int = 0
    refused: int = 0
    """Mutants that discovery turned down by name."""
    kinds: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    """Processes that died or hung."""
    failures: dict[int, list[str]] = field(default_factory=dict)

    def told(self) -> str:
        lines = [f"{seed}: {'; '.join(faults)}\n    python -m tests.fuzz --only {seed}" for seed, faults in self.failures.items()]
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))
        forms = ", ".join(f"{name} {count}" for name, count in sorted(self.forms.items()))
        return "\n".join([
            *lines, f"mutations: {kinds}", f"forms: {forms}",
            f"{self.rows} samples read, {self.gaps} gaps named, {self.refused} files turned down by name",
            f"{self.mutants} mutated inputs, {self.crashes} crashes, {len(self.failures) - self.crashes} imbalances",
        ])


def campaign(first: int, seconds: float, count: int | None = None) -> Result:
    """Mutants from seed `first` on until the time is up, or so many."""
    result, deadline = Result(), time.monotonic() + seconds
    seed, last = first, first + (count or MANY)
    while seed < last and (count is not None or time.monotonic() < deadline):
        seed = _until_it_dies(seed, last, deadline if count is None else None, result)
    return result


def _until_it_dies(first: int, last: int, deadline: float | None, result: Result) -> int:
    """Runs one child; returns the seed to go on with."""
    command = [sys.executable, "-m", CHILD, str(first), str(last)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines: queue.Queue[str] = queue.Queue()
    errors: list[str] = []
    threading.Thread(target=_pass_on, args=(child.stdout, lines), daemon=True).start()
    last_words = threading.Thread(target=errors.extend, args=(child.stderr,), daemon=True)
    last_words.start()
    seed = first
    try:
        while seed < last and (deadline is None or time.monotonic() < deadline):
            begun, why = _line(lines)
            ended, why = _line(lines) if begun is not None else (None, why)
            _count(result, seed, begun, ended)
            if ended is None:
                child.kill()
                last_words.join(10)
                result.crashes += 1
                result.failures[seed] = [why, *[line.rstrip() for line in errors[-12:]]]
                return seed + 1
            seed += 1
        return seed
    finally:
        child.kill()
        child.wait()


def _pass_on(output: Iterable[str], lines: "queue.Queue[str]") -> None:
    for line in output:
        lines.put(line)
    lines.put("")   # its end


def _line(lines: "queue.Queue[str]") -> tuple[dict[str, Any] | None, str]:
    try:
        text = lines.get(timeout=LIMIT)
    except queue.Empty:
        return None, f"hung for {LIMIT} seconds"
    return (json.loads(text), "") if text else (None, "its process died")


def _count(result: Result, seed: int, begun: dict[str, Any] | None, ended: dict[str, Any] | None) -> None:
    result.mutants += 1
    if begun is not None:
        result.kinds.update(begun["kinds"])
        result.forms[begun["file"].partition(".")[2]] += 1
    if ended is not None:
        result.rows += ended.get("rows", 0)
        result.gaps += ended.get("gaps", 0)
        result.refused += "refused" in ended
        if ended["faults"]:
            result.failures[seed] = ended["faults"]
