"""What `select` has written, read again."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.store.store import Store
from pipeline.store.tables import read_columns


def kept_rows(store: Store, verdicts: str, shard_id: str) -> NDArray[np.int32]:
    verdict = read_columns(store, verdicts, shard_id, ["verdict"]).column("verdict")
    return np.flatnonzero(np.asarray(pa.compute.equal(verdict, "kept"))).astype(np.int32)
