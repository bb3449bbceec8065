"""Chosen samples as a file."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.select.subset import halves
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.store.tables import npy_bytes

MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "npy": "application/octet-stream", "txt": "text/plain; charset=utf-8"}
COLUMNS = ("uid", "shard_id", "row", "key", "caption", "verdict", "clip_similarity", "width", "height", "language", "class_id",
           "class_name", "entities")


def selected(root: OpenedRoot, uids: Sequence[str], format: str) -> bytes:
    """These samples, each uid once: `parquet`, with what is known of the first row of each, in the order given; `npy`, as
    DataComp's subset has them, sorted; else text, a uid a line in the order given. Raises Refused where parquet is asked for and
    the root has not all of them."""
    once = list(dict.fromkeys(uids))
    if format == "parquet":
        samples = root.catalogue.samples([root.rows(uid)[0] for uid in once])
        table = pa.table({name: pa.array([getattr(sample, name) for sample in samples], TYPES.get(name)) for name in COLUMNS})
        file = io.BytesIO()
        pq.write_table(table, file)
        return file.getvalue()
    if format == "npy":
        keys = np.frombuffer(bytes.fromhex("".join(once)), ">u8").reshape(-1, 2).astype(np.uint64)
        return npy_bytes(halves(keys[np.lexsort((keys[:, 1], keys[:, 0]))]))
    return "".join(f"{uid}\n" for uid in once).encode()


TYPES = {
    "row": pa.int32(), "caption": pa.string(), "verdict": pa.string(), "clip_similarity": pa.float32(), "width": pa.int32(),
    "height": pa.int32(), "language": pa.string(), "class_id": pa.int32(), "class_name": pa.string(),
    "entities": pa.list_(pa.string()),
}
