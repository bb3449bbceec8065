"""`python -m tests.scale [--size NAME]... [--only PASS] [--folder FOLDER] [--json FILE]`: a run without pixels at the sizes where
runs break. Prints what each pass takes; exit code 1: a bound is missed.

The columns are made as annotate would write them (`tests/scale/content.py` says what is in them); every pass behind it is the
product's. Without --folder it works in a temporary one; a folder that is kept continues where it was.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.scale.columns import build, parts, write_pictures
from tests.scale.model import write_model
from tests.scale.passes import names, plan_of, recipe_of, run, wanted
from tests.scale.sizes import CI, DISK_GB, DRIVER_GB, GROWTH, LOCAL_GB, MINUTES, OPEN_FILES, SIZES, WORKER_GB, Size
from tests.scale.watch import Taken, Watch, contents

COLUMNS = ("pass", "seconds", "CPU s", "us/row", "rows/s", "driver MB", "worker MB", "files", "requests", "MB moved", "open")
WIDTHS = (22, 9, 9, 9, 11, 10, 10, 9, 10, 10, 6)
NOT_BY_ROWS = {"status"}
"""Passes whose time is not asked to go by the rows."""
GROWING = ("1m", "10m", "36m")
"""Sizes of which the smallest and the largest that were measured are compared."""
SHORT = 20.0
"""Processor seconds of a pass at the larger size below which its growth says nothing."""


def measured(size: Size, folder: Path, only: str | None) -> list[Taken]:
    """What each pass took at one size, printed as it comes."""
    work = folder / size.name
    work.mkdir(parents=True, exist_ok=True)
    root, counts = work / "root", work / "counts"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir()
    if not (folder / "model" / "open_clip_config.json").exists():
        made = write_model if size.local else partial(apart, write_model)
        made(folder / "model")
    pictures = work / "pictures.bin"
    if not pictures.exists():
        write_pictures(pictures, size.rows)
    chosen = parts(size, pictures)
    plan = plan_of(root, recipe_of(size, folder), [part.shard for part in chosen])
    began = time.monotonic()
    if not (work / "built").exists():
        root.mkdir(exist_ok=True)
        built = build if size.local else partial(apart, build)
        built(plan.columns, chosen, size.captions)
        (work / "built").touch()
    files, disk = contents(root)
    print(f"\n{size.name}: {size.rows:,} rows in {size.shards:,} shards; columns of {disk / 1e9:.2f} GB in {files:,} files, "
          f"made in {time.monotonic() - began:.0f} s")
    print(line(COLUMNS))
    watch = Printing(root, counts, size=size)
    run(size, plan, watch, only)
    return watch.taken


def apart(function: Callable[..., None], *arguments: Any) -> None:
    """Calls it in a process of its own: what it loads and keeps is no pass's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(function, *arguments).result()


class Printing(Watch):
    """Prints each pass when it is over."""

    def __init__(self, root: Path, folder: Path, *, size: Size) -> None:
        super().__init__(root, folder)
        self.taken = Told(size)


class Told(list[Taken]):
    """Passes that are printed when they are added."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._rows = size.rows

    def append(self, taken: Taken) -> None:
        super().append(taken)
        print(line((
            taken.name, f"{taken.seconds:.1f}", f"{taken.processor:.1f}", f"{1e6 * taken.processor / self._rows:.1f}",
            f"{self._rows / max(taken.seconds, 1e-3):,.0f}", f"{taken.driver / 1e6:,.0f}",
            f"{taken.worker / 1e6:,.0f}" if taken.worker else "-", f"{taken.files:,}", f"{taken.requests:,}",
            f"{taken.moved / 1e6:,.0f}", str(taken.open_files))), flush=True)


def line(cells: Sequence[str]) -> str:
    """One line of the table."""
    return cells[0].ljust(WIDTHS[0]) + "".join(cell.rjust(width) for cell, width in zip(cells[1:], WIDTHS[1:], strict=True))


def missed(found: dict[str, list[Taken]], rows: dict[str, int]) -> list[str]:
    """A sentence on every bound that is not met. `found`: what the passes of each size took; `rows`: of each size."""
    sentences = []
    for name, passes in found.items():
        for taken in passes:
            bounds = (
                ("held in the driver", taken.driver / 1e9, "GB", DRIVER_GB) if not taken.before else
                ("added in the process", (taken.driver - taken.before) / 1e9, "GB", LOCAL_GB),
                ("held in a worker", taken.worker / 1e9, "GB", WORKER_GB),
                ("had open", float(taken.open_files), "files", OPEN_FILES),
                ("left", taken.disk / 1e9, "GB of disk", DISK_GB),
                ("took", taken.seconds / 60, "minutes", MINUTES))
            sentences += [f"{name}: {taken.name} {what} {value:,.2f} {unit}, at most {most:g}"
                          for what, value, unit, most in bounds if value > most]
    by_rows = sorted((name for name in found if name in GROWING), key=lambda name: rows[name])
    if len(by_rows) > 1:
        small, large = by_rows[0], by_rows[-1]
        before = {taken.name: taken.processor / rows[small] for taken in found[small]}
        for taken in found[large]:
            growth = taken.processor / rows[large] / max(before.get(taken.name, float("inf")), 1e-9)
            if growth > GROWTH and taken.processor > SHORT and taken.name not in NOT_BY_ROWS:
                sentences.append(f"{taken.name}: a row of {large} took {growth:.2f} x that of {small}, at most {GROWTH:g}")
    return sentences


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--size", action="append", choices=[*SIZES, "ci"], help="may be repeated; default: 1m, 10m, 36m, 100k")
    parser.add_argument("--only", metavar="PASS", help=f"passes with this word in their name, of {', '.join(names())}")
    parser.add_argument("--folder", type=Path, help="where it works; kept, and continued")
    parser.add_argument("--local", action="store_true", help="without Ray: the driver's process does the workers' work")
    parser.add_argument("--json", type=Path, help="file that gets the figures; sizes that it has already count for the growth")
    chosen = parser.parse_args()
    if chosen.only and not any(wanted(name, chosen.only) for name in names()):
        parser.error(f"--only {chosen.only}: no pass has this word in its name; there is {', '.join(names())}")
    warnings.simplefilter("ignore")
    sizes = [size for name in chosen.size or SIZES for size in (CI if name == "ci" else (SIZES[name],))]
    sizes = [replace(size, local=True) for size in sizes] if chosen.local else sizes
    began, found, rows = time.monotonic(), dict[str, list[Taken]](), {size.name: size.rows for size in (*CI, *SIZES.values())}
    if chosen.json and chosen.json.exists():
        found = {name: [Taken(**taken) for taken in passes] for name, passes in json.loads(chosen.json.read_text()).items()}
    with ExitStack() as stack:
        shared = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardmill-scale-")))
        for size in sizes:
            folder = chosen.folder or shared
            passes = measured(size, folder.resolve(), chosen.only)
            shutil.rmtree(shared / size.name, ignore_errors=True)   # the next size needs the room
            found[size.name] = list({taken.name: taken for taken in [*found.get(size.name, ()), *passes]}.values())
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {name: [asdict(taken) for taken in passes] for name, passes in found.items()}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")
    sentences = missed(found, rows)
    print("\n".join(["", *(f"MISSED {sentence}" for sentence in sentences)]))
    mine = [taken for size in sizes for taken in found[size.name]]
    print(f"scale: {sum(size.rows for size in sizes):,} rows in {sum(size.shards for size in sizes):,} shards, {len(mine)} passes, "
          f"{time.monotonic() - began:.0f} s; at most {max(t.driver for t in mine) / 1e6:,.0f} MB in the driver, "
          f"{max(t.worker for t in mine) / 1e6:,.0f} MB in a worker, {max(t.open_files for t in mine)} open files; "
          f"{len(sentences)} bounds missed")
    return int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
