"""Near duplicates of ten million hashes with planted pairs: recall, processor time, and memory."""

import io
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import process_time

import faiss
import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.columns import Columns, Rows, Run
from pipeline.passes.duplicates.write import write_pairs
from pipeline.shuffle.parts import fixed_column
from pipeline.stages.hashes import FREQUENCIES, SIDE, cosines
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.store.store import Store
from pipeline.store.tables import read_table
from tests.benchmarks.figures import Figure
from tests.benchmarks.model_step import sample_pictures
from tests.duplicates import STAGES, TABLE, cut_of, driver_of, global_rows, vector_column

SHARD = 100_000
PLANTED = 50
"""One row in so many is a changed copy of the one before."""


BLENDS = 50_000


@dataclass(frozen=True)
class Measured:
    rows: int
    planted: int
    found: int
    pairs: int
    cpu_seconds: float
    peak_bytes: int


def hashes_like(waves: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """uint64 [n]: perceptual hashes of blends of two pictures, whose low frequencies are `waves`, float32 [pictures, 64]. So they
    are as unevenly spread as the pictures' own."""
    weight = rng.uniform(0.3, 0.7, (n, 1)).astype(np.float32)
    low = weight * waves[rng.integers(len(waves), size=n)] + (1 - weight) * waves[rng.integers(len(waves), size=n)]
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1).view(">u8").astype(np.uint64)[:, 0]


def waves_of_sample() -> np.ndarray:
    """float32 [pictures, 64]: low frequencies of parts of the bundled sample's pictures."""
    rng, basis, waves = np.random.default_rng(0), cosines(SIDE, FREQUENCIES), []
    for content in sample_pictures(800):
        picture = Image.open(io.BytesIO(content)).convert("L")
        for _ in range(8):
            size = [int(side * rng.uniform(0.6, 1)) for side in picture.size]
            x, y = (int(rng.integers(side - part + 1)) for side, part in zip(picture.size, size, strict=True))
            grey = np.asarray(picture.resize((SIDE, SIDE), box=(x, y, x + size[0], y + size[1])), np.float32)
            waves.append((basis @ grey @ basis.T).reshape(-1))
    own = np.array(waves, np.float32)
    weight = rng.uniform(0.3, 0.7, (BLENDS, 1)).astype(np.float32)
    return weight * own[rng.integers(len(own), size=BLENDS)] + (1 - weight) * own[rng.integers(len(own), size=BLENDS)]


def planted_run(store: Store, rows: int) -> Run:
    """A run of so many pictures. Thumbnails are of 16 squares of one colour each, so that they compress."""
    waves = waves_of_sample()
    ids = tuple(f"{number:05d}" for number in range(-(-rows // SHARD)))
    for number, shard_id in enumerate(ids):
        rng = np.random.default_rng([1, number])
        phash = hashes_like(waves, SHARD, rng)
        small = rng.integers(20, 236, (SHARD, 4, 4, 3), dtype=np.uint8)
        copies = np.arange(PLANTED - 1, SHARD, PLANTED)
        flips = np.argsort(rng.random((len(copies), 64)), axis=1) < rng.integers(1, 9, (len(copies), 1))
        phash[copies] = phash[copies - 1] ^ np.packbits(flips, axis=1).view(np.uint64)[:, 0]
        small[copies] = small[copies - 1] + rng.integers(-3, 4, (len(copies), 4, 4, 3)).astype(np.uint8)
        thumbnails = np.broadcast_to(small[:, :, None, :, None], (SHARD, 4, 4, 4, 4, 3)).reshape(SHARD, 768)
        uid = [f"{row:032x}" for row in range(number * SHARD, (number + 1) * SHARD)]
        tables = {
            "samples": pa.table({"uid": uid}), "image": pa.table({"pixels": np.full(SHARD, 100)}),
            "hashes": pa.table({"sha256": [text * 2 for text in uid], "phash": phash, "thumbnail": fixed_column(thumbnails)}),
            "clip": pa.table({"image_embedding": vector_column(np.ones((SHARD, 1), np.float16))}),
        }
        for stage, table in tables.items():
            write_columns(store, f"columns/{stage}@0", [Said(shard_id, table.num_rows, {})], table)
    return Run(Columns(store, {stage: f"columns/{stage}@0" for stage in STAGES}), Rows(ids, (SHARD,) * len(ids)))


def measured(folder: str, rows: int) -> Measured:
    """Writes such a run into a folder, and finds its duplicates in this process, on one thread."""
    store = Store(folder)
    run = planted_run(store, rows)
    faiss.omp_set_num_threads(1)
    began = process_time()
    write_pairs(cut_of(run), run, driver_of(store), TABLE)
    seconds = process_time() - began
    table = read_table(store, TABLE, ["shard_id", "row", "of_shard_id", "of_row"])
    row, of = global_rows(table, run.rows)
    found = (row % PLANTED == PLANTED - 1) & (of == row - 1)
    peak = getrusage(RUSAGE_SELF).ru_maxrss * 1024
    return Measured(run.rows.total, run.rows.total // PLANTED, int(found.sum()), len(row), seconds, peak)


def measure(rows: int) -> list[Figure]:
    """In a process of its own, so that the memory is that of this alone. Half of the processor time is what two workers take by the
    clock, but for the one step that one of them does alone."""
    with tempfile.TemporaryDirectory() as folder:
        asked = subprocess.run([sys.executable, "-m", "tests.benchmarks.near_duplicates", folder, str(rows)],
                               check=True, capture_output=True)
    got = Measured(**json.loads(asked.stdout.splitlines()[-1]))
    return [
        Figure(f"Recall of {got.planted:,} planted pairs of {got.rows:,} rows", got.found / got.planted, "", 1.0),
        Figure("Pairs in all", got.pairs, ""),
        Figure("Processor time", got.cpu_seconds / 60, "min", 30.0, at_most=True),
        Figure("Processor time a row", 1e6 * got.cpu_seconds / got.rows, "us"),
        Figure("Peak memory", got.peak_bytes / 1e9, "GB", 2.0, at_most=True),
    ]


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(exist_ok=True)
    print(json.dumps(asdict(measured(sys.argv[1], int(sys.argv[2])))))
