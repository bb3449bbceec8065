import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.feed.dataset import Feed, Fields
from pipeline.feed.loader import Loader
from pipeline.input.tar import write_tar

COUNTS = (37, 5, 0, 64, 21)
"""Samples of each shard: uneven, one has none."""


def jpeg(value: int) -> bytes:
    """A small picture that says which one it is: its mean colour is `value` of 127."""
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (value * 2, value * 2, value * 2)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an export writes it: 127 samples in five tars."""
    folder, number = tmp_path_factory.mktemp("export"), 0
    for shard, count in enumerate(COUNTS):
        samples = []
        for row in range(count):
            facts = {"uid": f"{number:032x}", "labels": [number % 7, 9][: number % 3], "label_weights": [0.7, 0.3][: number % 3]}
            samples.append((f"{shard:06d}{row:04d}", "jpg", jpeg(number), f"sample {number}".encode(), json.dumps(facts).encode()))
            number += 1
        with (folder / f"{shard:06d}.tar").open("wb") as file:
            offsets = write_tar(file, samples)
        pq.write_table(pa.table({"tar_offset": pa.array(offsets, pa.int64())}), folder / f"{shard:06d}.parquet")
    (folder / "sizes.json").write_text(json.dumps({f"{shard:06d}.tar": count for shard, count in enumerate(COUNTS)}))
    return folder


def numbers(batches: list[dict]) -> list[int]:   # type: ignore[type-arg]
    """Which samples are in these batches, in order."""
    return [int(uid, 16) for batch in batches for uid in batch["uid"]]


def loaders(export: Path | str, ranks: int, workers: int, **options: object) -> list[Loader]:
    """One for each rank."""
    settings = {"batch_size": 5, "fields": Fields(image=None), "block": 4, "window": 16, "seed": 3, **options}
    feeds = [Feed(str(export), rank=rank, world=ranks, **settings) for rank in range(ranks)]   # type: ignore[arg-type]
    return [Loader(feed, workers=workers) for feed in feeds]
