"""DataComp's subset files, by which its resharder takes samples out of a pool. Pure: uids in, arrays out."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SUBSET, SUBSET_UID, SUBSET_SOURCE_UID = "subset.npy", "subset_uid.npy", "subset_source_uid.npy"
DATACOMP_UID = "^[0-9a-fA-F]{32}$"
"""What DataComp's tools take for a uid."""


def subset_files(uids: pa.ChunkedArray, source_uids: pa.ChunkedArray) -> dict[str, NDArray[np.void]]:
    """The subset files of n samples by name, `subset.npy` last, from their uids and those that the input brought (string [n] each).
    `subset.npy` has the pool's own uids where every sample brings one of DataComp's form, else ours. The others stand beside it:
    ours in `subset_uid.npy`, or those that some of the samples bring in `subset_source_uid.npy`."""
    brought = source_uids.filter(pc.match_substring_regex(source_uids, DATACOMP_UID))
    ours, theirs = subset(uids.to_pylist()), subset(brought.to_pylist())
    if not len(brought):
        return {SUBSET: ours}
    return {SUBSET_UID: ours, SUBSET: theirs} if len(brought) == len(uids) else {SUBSET_SOURCE_UID: theirs, SUBSET: ours}


def subset(uids: Sequence[str]) -> NDArray[np.void]:
    """DataComp's subset file: dtype "u8,u8" [uids], the high and low 64 bits of each uid, sorted; a repeated uid stays repeated.
    Raises ValueError for what is no hex."""
    halves = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").reshape(-1, 2).astype(np.uint64)
    ordered = np.empty(len(halves), np.dtype("u8,u8"))
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ordered["f0"], ordered["f1"] = halves[order, 0], halves[order, 1]
    return ordered
