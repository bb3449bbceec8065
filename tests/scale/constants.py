"""`python -m tests.scale.constants FIGURES LARGE [SMALL]`: what the passes of `make scale` took, as rows of the table
`pipeline/queries/plans/measured.py`. LARGE is a size of FIGURES with large shards, SMALL one with small ones, which tells what a
shard costs from what its samples cost."""

import json
import sys
from pathlib import Path

from tests.scale.sizes import CI, SIZES
from tests.scale.watch import Taken

KNOWN = {size.name: size for size in (*CI, *SIZES.values())}


def main(path: str, large: str, small: str | None = None) -> None:
    figures = {name: {t["name"]: Taken(**t) for t in passes} for name, passes in json.loads(Path(path).read_text()).items()}
    for name, taken in figures[large].items():
        big = KNOWN[large]
        row, shard = 1e6 * taken.processor / big.rows, 0.0
        if small is not None and name in figures[small]:
            row, shard = split((big.rows, big.shards, taken.processor), (
                KNOWN[small].rows, KNOWN[small].shards, figures[small][name].processor))
        print(f"{name}: row={row:.2f}, shard={shard:.2f}, files={taken.files / big.shards:.1f}, "
              f"requests={taken.requests / big.shards:.0f}, moved={taken.moved / big.rows:.0f}, "
              f"driver {taken.driver / 1e6:.0f} MB, worker {taken.worker / 1e6:.0f} MB")


def split(large: tuple[int, int, float], small: tuple[int, int, float]) -> tuple[float, float]:
    """Microseconds a row and milliseconds a shard, none below 0, from (rows, shards, seconds) of two sizes."""
    (n, s, t), (m, r, u) = large, small
    row, shard = (t * r - u * s) / (n * r - m * s), (n * u - m * t) / (n * r - m * s)
    if row < 0 or shard < 0:
        row, shard = max(t / n, 0.0), 0.0
    return 1e6 * row, 1e3 * shard


if __name__ == "__main__":
    main(*sys.argv[1:])
