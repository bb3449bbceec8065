"""What every pass of a run takes for each sample and each shard, as it was measured: the one table that `plan` and docs/scale.md
compute from.

Source: `tests/scale`, at the commit that brought this table, without Ray, on one core of a machine that was shared with other jobs:
time is processor time. Three sizes tell what a sample, a shard and the pass cost: 100,000 samples in shards of 10,000; 10,000
in shards of 500; 1,000 in shards of 5 (embeddings of 16 values, 64 classes). What is not from there is said with its row.
`python -m tests.scale.constants` prints rows of this table from other figures.
"""

from dataclasses import dataclass

DRIVER_BYTES = 720 << 20
"""What a driver holds before it has read a column."""
WORKER_BYTES = 640 << 20
"""What a worker holds that runs no model."""
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
    driver_row: float = 0.0
    """Bytes that the driver holds for each sample of the run, at most at one time."""
    files: float = 0.0
    """New in the root, for each shard."""
    requests: float = 0.0
    """Files opened and folders listed, for each shard."""
    moved: float = 0.0
    """Bytes read and written for each sample, embeddings aside."""
    vectors: float = 0.0
    """Times that the embeddings of all pictures are read."""
    pair: float = 0.0
    """Microseconds for each pair of samples: what is compared with all others."""
    remedy: str = ""
    """What to set where it does not fit."""


NEAR = "set duplicates.find: exact, or none"
MEASURED: tuple[Measured, ...] = (
    Measured("rows of the run", 0, shard=0.5, alone=True, requests=1),
    # The exact ones alone, timed apart on 300,000 samples of `tests/benchmarks/near_duplicates.py`; nothing of a sample is held.
    Measured("exact duplicates", 1.3, shard=4, requests=4, moved=220, remedy="set duplicates.find: none"),
    # 26 us a sample at 300,000 of those, 38 at 2 million and 76 at 10; beyond, and for what is moved and asked for, by what
    # the bands of a billion hashes come to (`search/bands.py`). Who goes is decided by one worker, which is not told apart here.
    Measured("near duplicates", 60, shard=4, requests=1_000, moved=7_000, pair=1.0e-6, remedy=NEAR),
    Measured("counts over the run", 3.4, shard=6, alone=True, driver_row=1_400, files=1, requests=6, moved=130,
             remedy="leave out rules on pair_duplicate, caption_images and image_captions"),
    # 12.9 s are some 5,000 texts that are embedded and 20,000 samples that are calibrated on, whatever the run's size.
    Measured("entities of the captions", 0.9, shard=2, fixed=12.9, alone=True, driver_row=2, requests=7.5, moved=60),
    Measured("entities", 47, shard=12, files=1, requests=8, moved=140, vectors=1),
    Measured("counts of the entities", 3.9, shard=1.4, alone=True, requests=1, moved=30),
    # 145 bytes: the uids of the subset file, counted from the types of what is held.
    Measured("select", 4.8, shard=32, driver_row=145, files=1, requests=31, moved=380),
    Measured("label", 32, shard=19, files=2, requests=15, moved=240, vectors=1),
    # Of 64 classes: it grows with the classes, not with the samples. Nobody measured it at a million.
    Measured("names of the classes", 0, shard=1, fixed=2.3, alone=True, requests=6),
    Measured("balance", 2.8, shard=12, driver_row=8, files=1, requests=18, moved=130, vectors=1),
    # For each sample that is exported, from pictures of 64 bytes.
    Measured("export", 580, shard=6, files=0.0003, requests=6, moved=9_400),
    Measured("report", 2, shard=22, fixed=0.9, alone=True, requests=14, moved=410),
    Measured("manifest", 1, shard=6, alone=True, requests=14, moved=450),
)
