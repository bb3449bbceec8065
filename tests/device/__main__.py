"""`python -m tests.device [--json FILE] [--only PART] [--tiny]`: correctness, then timings, on the machine's first GPU."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.device import arithmetic, correct, gpu, peer, throughput
from tests.device.report import measured

SECONDS = 430.0
HALF = (("bf16", False), ("fp16", False), ("bf16", True), ("fp16", True))


def parts(folder: Path, *, tiny: bool) -> dict[str, Callable[[], Any]]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = len(os.sched_getaffinity(0))
    size = throughput.Size(2, 4, 64, 4) if tiny else throughput.Size(cores, 96, 512)
    counts = (2,) if tiny else (cores,)
    small, large = ("bundled:tinyclip-oc",) * 2 if tiny else ("ViT-B-32", "ViT-L-14")
    precisions = ("fp32",) if device == "cpu" else ("fp32", "tf32", "bf16", "fp16")
    best = "fp32" if device == "cpu" else "bf16"
    found: dict[str, Callable[[], Any]] = {
        "ceilings": gpu.ceilings,
        "arithmetic": lambda: arithmetic.compared("ViT-L-14", (("bf16", True),)),
        "arithmetic, bundled": lambda: arithmetic.compared("bundled:tinyclip-oc", HALF),
        "correct": lambda: correct.routes(device, precisions, 40 if tiny else 823),
        "shards": lambda: throughput.write_shards(folder, size),
        "decoding": lambda: throughput.decoding(size.workers, 0.5 if tiny else 3.0),
        "large": lambda: throughput.beside(folder, large, device, size, counts, best),
        "small": lambda: throughput.beside(folder, small, device, size, (*counts, counts[0] * 3 // 2), best),
        "nearest": lambda: nearest(device, tiny=tiny),
        "peer, small": lambda: peer.inference(folder, "ViT-B-32", size.workers, 32 if tiny else 20_000, device, 8 if tiny else 256),
        "peer, large": lambda: peer.inference(folder, "ViT-L-14", size.workers, 6 if tiny else 15_000, device, 2 if tiny else 256),
    }
    if device == "cpu":
        del found["ceilings"], found["arithmetic"], found["arithmetic, bundled"]
    return found


def nearest(device: str, *, tiny: bool) -> Any:
    from tests.device import nearest_on_gpu

    return nearest_on_gpu.measure(device=device, tiny=tiny)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.device", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("device.json"))
    parser.add_argument("--only", action="append", help="a part; may be repeated")
    parser.add_argument("--tiny", action="store_true", help="small sizes, on whatever device: shows that it runs")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        known = parts(Path(folder), tiny=chosen.tiny)
        wanted = {name: part for name, part in known.items() if chosen.only is None or name in chosen.only}
        about = gpu.card() if torch.cuda.is_available() else {"card": None}
        return 0 if measured(wanted, chosen.json, about, SECONDS) else 1


if __name__ == "__main__":
    sys.exit(main())
