"""How large the synthetic runs are, and what they must keep to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORKERS = 2
DIMENSION = 16
"""Values of an embedding: small, so that 36 million rows fit on a disk."""
CLASSES = 64

DRIVER_GB, WORKER_GB, DISK_GB = 1.5, 2.0, 30.0
LOCAL_GB = 0.4
"""Of a driver that does the workers' work: what it holds more than before the first pass. How much torch, open_clip and faiss take
before goes by the machine."""
OPEN_FILES = 500
MINUTES = 45.0
GROWTH = 1.3
"""Processor time a row, of the largest size over that of the smallest."""


@dataclass(frozen=True)
class Size:
    """How many rows, in how many shards."""

    name: str
    rows: int
    shards: int
    exported: int
    """Samples that the balanced export takes: some 4 kB of disk each."""
    captions: int = 20_000
    """Distinct texts that captions are drawn from; a third of the captions have a number behind theirs, which nobody else has."""
    even: bool = False
    """All shards have the same number of rows; else a few have most."""
    local: bool = False
    """Without Ray, in the driver's process."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [shards]: rows of each, at least one."""
        share = np.ones(self.shards) if self.even else np.random.default_rng(0).lognormal(0.0, 1.0, self.shards)
        ends = np.floor(np.cumsum(share) / share.sum() * (self.rows - self.shards) + 0.5).astype(np.int64)
        ends[-1] = self.rows - self.shards
        return np.diff(ends, prepend=0) + 1


SIZES = {size.name: size for size in (
    Size("1m", 1_000_000, 100, 100_000),
    Size("10m", 10_000_000, 1_000, 200_000),
    Size("36m", 36_000_000, 3_600, 500_000),
    Size("100k", 10_000_000, 100_000, 200_000, even=True),
)}
CI = (
    Size("ci-small", 1_000, 4, 200, captions=500, local=True),
    Size("ci", 5_000, 10, 500, captions=500, local=True),
    Size("ci-shards", 250, 50, 100, captions=500, even=True, local=True),
)
"""All of it at a small size: a first run, one of five times its rows, and one of many tiny shards."""
