"""What every pass of a run takes for each sample and each shard, as it was measured: the one table that `plan` and docs/scale.md
compute from.

Source: `make scale SIZE=1m`, 28 November 2026: a million samples in 100 shards on two Ray workers of a machine of two cores with
nothing else to do; time is processor time, of which the milliseconds of the shards are taken off. Those, the files and the
requests of a shard are of smaller runs without Ray, before the passes were made by parts (10,000 samples in shards of 500, 1,000
in shards of 5; embeddings of 16 values, 64 classes). What is not from there is said with its row. `python -m
tests.scale.constants` prints rows of this table from other figures.
"""

from dataclasses import dataclass

DRIVER_BYTES = 1_070 << 20
"""What a driver holds at most in a run, whatever its size: most are libraries and the knowledge base."""
WORKER_BYTES = 640 << 20
"""What a worker holds that runs no model, and no partition of the rows."""
PARTITION_ROWS = 1 << 20
"""Of the duplicates: no worker holds more of a run at a time."""
MODEL_WORKER_BYTES = 1_410 << 20
"""What a worker of the annotate pass held with the bundled model (docs/benchmarks.md, end to end); a larger one comes on top."""


@dataclass(frozen=True)
class Measured:
    """What one pass takes. A value of an embedding is 2 bytes in the root."""

    title: str
    """As the run's progress calls it."""
    row: float
    """Microseconds of processor time for each sample."""
    shard: float = 0.0
    """Milliseconds for each shard."""
    fixed: float = 0.0
    """Seconds, however much there is."""
    alone: bool = False
    """It runs in one process: more workers do not shorten it."""
    files: float = 0.0
    """New in the root, for each shard that has files of its own, or for each block of shards."""
    requests: float = 0.0
    """Files opened and folders listed, for each shard."""
    moved: float = 0.0
    """Bytes read and written for each sample, embeddings aside."""
    vectors: float = 0.0
    """Times that the embeddings of all pictures are read."""
    pair: float = 0.0
    """Microseconds for each pair of samples: what is compared with all others."""
    partition: float = 0.0
    """Bytes that a worker holds for each sample of a partition."""
    remedy: str = ""
    """What to set where it does not fit."""


NEAR = "set duplicates.find: exact, or none"
MEASURED: tuple[Measured, ...] = (
    Measured("rows of the run", 0, shard=0.5, alone=True, requests=1),
    # The exact ones alone, timed apart on 300,000 samples of `tests/benchmarks/near_duplicates.py`; nothing of a sample is held.
    Measured("exact duplicates", 1.3, shard=4, requests=4, moved=220, remedy="set duplicates.find: none"),
    # 26 us a sample at 300,000 of those, 38 at 2 million and 76 at 10; beyond, and for what is moved and asked for, by what
    # the bands of a billion hashes come to (`search/bands.py`). Who goes is decided by one worker, which is not told apart here.
    Measured("near duplicates", 60, shard=4, requests=1_000, moved=7_000, pair=1.0e-6, partition=890, remedy=NEAR),
    Measured("counts over the run", 15, shard=6, files=1, requests=6, moved=440),   # two columns by key, at 2 million rows
    # 12.9 s are some 5,000 texts that are embedded and 20,000 samples that are calibrated on, whatever the run's size.
    Measured("entities of the captions", 5.2, shard=2, fixed=12.9, alone=True, requests=7.5, moved=170),
    Measured("entities", 32, shard=12, files=1, requests=8, moved=140, vectors=1),
    Measured("counts of the entities", 5.8, shard=1.4, requests=1, moved=30),
    Measured("select", 4.6, shard=32, files=1, requests=31, moved=380),
    Measured("label", 28, shard=19, files=2, requests=15, moved=240, vectors=1),
    # Of 64 classes: it grows with the classes, not with the samples. Nobody measured it at a million.
    Measured("names of the classes", 0, shard=1, fixed=6.9, alone=True, requests=6),
    Measured("balance", 2.3, shard=12, files=1, requests=18, moved=130, vectors=1),
    # For each sample that is exported, from pictures of 64 bytes.
    Measured("export", 580, shard=6, requests=6, moved=9_400),
    Measured("report", 5.7, shard=22, alone=True, requests=14, moved=410),
    Measured("manifest", 0.2, shard=6, requests=14, moved=450),
)
