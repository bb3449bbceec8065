"""`python -m tests.scale.killed [--rows N] [--shards N]`: the passes after annotate on Ray with one, two and three workers, of
whose processes one is killed every few seconds, write the bytes of one process without Ray. Exit code 1: they do not. Groups and
partitions are made small: there are several of each, as in a run of many millions."""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from pipeline.errors import ShardmillError
from pipeline.passes.duplicates.files import Cut
from pipeline.shuffle import exchange
from tests.roots import hashes
from tests.scale.__main__ import apart
from tests.scale.columns import build, parts, write_pictures
from tests.scale.model import write_model
from tests.scale.passes import plan_of, recipe_of, run
from tests.scale.sizes import Size
from tests.scale.watch import Watch

VICTIMS = ("ray::ShardActor", "ray::PartitionActor", "ray::OwnerActor")
BETWEEN = (5.0, 12.0)
"""Seconds between two kills: an item is given up after three."""


def cut_small(rows: int) -> None:
    """Some six groups and three partitions of so many rows. The driver cuts, and its items say how."""
    exchange.groups_of.__defaults__ = (rows // 6,)
    exchange.PARTITION_ROWS = rows // 3
    Cut.__init__.__defaults__ = (rows // 3, rows // 6)


@contextmanager
def under_fire(rng: random.Random, kills: Counter[str]) -> Iterator[None]:
    """Kills one of the workers below this process every few seconds while the block lasts; counts them by their kind."""
    over = threading.Event()

    def shoot() -> None:
        while not over.wait(rng.uniform(*BETWEEN)):
            alive = []
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    kind = next((name for name in VICTIMS if name in " ".join(process.cmdline())), None)
                    if kind is not None:
                        alive.append((kind, process.pid))
            if alive:
                kind, pid = rng.choice(alive)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills[kind.removeprefix("ray::")] += 1

    gun = threading.Thread(target=shoot, daemon=True)
    gun.start()
    try:
        yield
    finally:
        over.set()
        gun.join()


def made(size: Size, folder: Path, root: Path, workers: int, kills: Counter[str] | None) -> dict[str, str]:
    """The hashes of a root whose columns are there, after all passes; `kills`: workers are killed, and counted there."""
    pictures = folder / "pictures.bin"
    plan = plan_of(root, recipe_of(size, folder), [part.shard for part in parts(size, pictures)])
    counts = folder / "counts"
    counts.mkdir(exist_ok=True)
    watch = Watch(root, counts)
    if kills is None:
        run(size, plan, watch, None, workers)
    else:
        with under_fire(random.Random(workers), kills):
            while True:
                try:
                    run(size, plan, watch, None, workers)
                    break
                except ShardmillError as error:   # three deaths in a row, before anything was done
                    print(f"  stopped and continued: {error}")
                    kills["continued"] += 1
    return hashes(root)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.killed", description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--shards", type=int, default=40)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    size, wrong = Size("killed", chosen.rows, chosen.shards, 2_000, captions=5_000), 0
    cut_small(size.rows)
    os.environ["SHARDMILL_FIT_ALONE"] = "0"   # classes are fitted by actors, as at scale
    with tempfile.TemporaryDirectory(prefix="shardmill-killed-") as name:
        folder = Path(name)
        apart(write_model, folder / "model")
        write_pictures(folder / "pictures.bin", size.rows)
        chosen_parts = parts(size, folder / "pictures.bin")
        start = folder / "start"
        start.mkdir()
        build(plan_of(start, recipe_of(size, folder), [part.shard for part in chosen_parts]).columns, chosen_parts, size.captions)
        expected: dict[str, str] = {}
        for workers in (0, 1, 2, 3):
            root, kills, began = folder / f"root{workers}", Counter[str](), time.monotonic()
            shutil.copytree(start, root)
            found = made(replace(size, local=not workers), folder, root, workers, kills if workers else None)
            expected = expected or found
            differing = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
            wrong += len(differing)
            print(f"{workers or 'no'} workers: {len(found):,} files, {time.monotonic() - began:.0f} s; killed {dict(kills)}; "
                  f"differing: {differing[:5] or 'none'}", flush=True)
            if workers:
                shutil.rmtree(root)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
