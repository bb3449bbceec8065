"""Reductions: columns of all shards in, tables out. Pure functions on arrays; the only faiss (with `pipeline/index.py`)."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class RowIds(Protocol):
    """Turns global row numbers (counted through the shards in order) into row ids."""

    def ids(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int32]]:
        """shard_id and row in that shard of each."""
