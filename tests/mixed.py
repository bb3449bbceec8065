"""A finished root over every kind of input: a tar that is read in place, a compressed one, a parquet file. Made once."""

import gzip
import io
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.input.tar import write_tar
from tests.curations import curated
from tests.damage import clean_pairs

OVERRIDES = ("classes.k=2", "export.shard_size=4", "export.group=2")
OBJECTS: tuple[dict[str, Any], ...] = (
    {}, {"url": "https://example.org/ä", "n": 1.0, "big": 2**70, "list": [1, None, True]},
    {"uid": "theirs", "labels": [3]}, {"uid": "theirs", "source": {"id": 7}}, {"entities": 1, "source": "Flickr"},
    {"nan": float("nan")},
)
"""Metadata objects of the samples of the tars, in turn; some have keys that are ours in the output."""

TIMES = (0, 4_102_444_800, 1)
"""Modification times of the inputs: 1970 and 2100. Nothing but a shard's version is a time."""


@cache
def mixed(folder: Path, sample: Path) -> Path:
    """`folder`/in with the inputs and `folder`/root; the same call again does nothing."""
    (folder / "in").mkdir(parents=True)
    write_mixed(folder / "in", sample)
    curated(folder / "root", [folder / "in"], OVERRIDES)
    return folder


def write_mixed(inputs: Path, sample: Path) -> None:
    """The three shards, in an empty folder."""
    pairs = list(clean_pairs(sample).items())
    for number in range(2):
        buffer = io.BytesIO()
        some = enumerate(pairs[8 * number : 8 * number + 8])
        write_tar(buffer, ((k, "jpg", image, caption, json.dumps(OBJECTS[i % 6]).encode()) for i, (k, (image, caption)) in some))
        content = buffer.getvalue()
        (inputs / ("0.tar", "1.tar.gz")[number]).write_bytes(gzip.compress(content, 1, mtime=0) if number else content)
    rows = [{"image": image, "caption": caption.decode(), "uid": key, "year": 1900 + i}
            for i, (key, (image, caption)) in enumerate(pairs[16:24])]
    pq.write_table(pa.Table.from_pylist(rows), inputs / "2.parquet", row_group_size=3)
    for path, seconds in zip(sorted(inputs.iterdir()), TIMES, strict=True):
        os.utime(path, (seconds, seconds))
