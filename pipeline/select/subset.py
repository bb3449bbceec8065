"""DataComp's subset files, by which its resharder takes samples out of a pool. Pure."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SUBSET, SUBSET_UID, SUBSET_SOURCE_UID = "subset.npy", "subset_uid.npy", "subset_source_uid.npy"
DATACOMP_UID = "^[0-9a-fA-F]{32}$"
"""What DataComp's tools take for a uid."""
UIDS = np.dtype("u8,u8")
Strings: TypeAlias = "pa.Array | pa.ChunkedArray"


def brought(source_uids: Strings) -> Strings:
    """Those uids that the input brought and that DataComp's tools take for one."""
    return source_uids.filter(pc.match_substring_regex(source_uids, DATACOMP_UID))


def file_names(kept: int, brought: int) -> tuple[tuple[str, bool], ...]:
    """The subset files of so many kept samples, of which so many brought a uid, by name, `subset.npy` last; and whether they hold
    what was brought, or ours. `subset.npy` has the pool's own uids where every sample brings one, else ours. The others stand
    beside it: ours in `subset_uid.npy`, or those that some of the samples bring in `subset_source_uid.npy`."""
    if not brought:
        return ((SUBSET, False),)
    return ((SUBSET_UID, False), (SUBSET, True)) if brought == kept else ((SUBSET_SOURCE_UID, True), (SUBSET, False))


def halves(keys: NDArray[np.uint64]) -> NDArray[np.void]:
    """Uids in DataComp's form, dtype "u8,u8" [n], from their high and low 64 bits, uint64 [n, 2]; its file has them sorted, a
    repeated one as often as it is there."""
    return np.ascontiguousarray(keys).view(UIDS)[:, 0]
