"""Reductions: columns of all shards in, tables out. Pure functions on arrays."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class RowIds(Protocol):
    """Turns global row numbers (counted through the shards in order) into row ids."""

    def ids(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int32]]:
        """The shard_id and the row in that shard, i32[n], of each global row number i64[n]."""
