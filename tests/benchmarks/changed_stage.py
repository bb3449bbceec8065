"""What a changed stage costs on a finished root: the run again with another setting of one stage, beside a first run with that
setting. By the whole command, whose processes start and load libraries each time; and by the run alone, in one process that has
them loaded."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.figures import Figure, median, ratio
from tests.curations import curated
from tests.roots import shardmill

SAMPLE = Path(__file__).parents[2] / "pipeline" / "assets" / "sample"
BEFORE, CHANGED = "entities.ner=false", "entities.ner=true"
"""Mentions are found anew and entities linked anew; every other column stays."""
MOST = 0.35


def command(root: Path, override: str) -> None:
    shardmill("run", "sample", "--output", str(root), "--workers", "2", "--set", override)


def alone(root: Path, override: str) -> None:
    curated(root, [SAMPLE], (override,))


def measure(rounds: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        alone(Path(folder) / "loads", CHANGED)   # libraries, knowledge base, model
    return [*compared("the run alone, one process", alone, rounds, MOST), *compared("the command, 2 actors", command, rounds, None)]


def compared(how: str, run: Callable[[Path, str], None], rounds: int, most: float | None) -> list[Figure]:
    first, changed = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            first.append(seconds(run, Path(folder) / "first", CHANGED))
            root = Path(folder) / "root"
            run(root, BEFORE)
            before = set((root / "columns").rglob("*.parquet"))
            changed.append(seconds(run, root, CHANGED))
            made = {path.parent.name.partition("@")[0] for path in set((root / "columns").rglob("*.parquet")) - before}
            assert made == {"mentions", "entities"}, made
    return [
        replace(ratio(f"{how}: another setting of one stage / first run with it", changed, first, most), at_most=True),
        Figure("  first run with it", median(first), "s"), Figure("  another setting", median(changed), "s"),
    ]


def seconds(run: Callable[[Path, str], None], root: Path, override: str) -> float:
    began = time.perf_counter()
    run(root, override)
    return time.perf_counter() - began
