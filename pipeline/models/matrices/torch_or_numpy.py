"""What torch does faster than numpy on a CPU, by numpy as long as torch would not be worth its loading.

A process that has not loaded torch spends three processor seconds on that: more than a small fit takes as a whole. Both ways give
the same bits where it matters: widening and the sums are exact, products are measured again by who asks for them.
"""

import sys
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Floats
from pipeline.work import collector_paused

LOADING = 1 << 28
"""Values that numpy goes through in the time in which torch is loaded, roughly."""
_LOCK = Lock()
_by_numpy = [0]


def torch_pays(values: int) -> bool:
    """Whether to go through so many values with torch: where the process has loaded it, or would have gained by that by now."""
    if "torch" in sys.modules:
        return True
    with _LOCK:
        _by_numpy[0] += values
        return _by_numpy[0] > LOADING


def loaded_for(values: int) -> bool:
    """Whether torch is loaded, which is done here where a process that will go through so many values does well to have it from the
    beginning: threads that share the work then each limit their own."""
    if "torch" not in sys.modules and values > LOADING:
        with collector_paused():
            import torch  # noqa: F401 - what this is for
    return "torch" in sys.modules


def bag_sums(rows: NDArray[np.floating], order: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.floating]:
    """[len(starts), d]: sum of rows[order[starts[i] : starts[i + 1]]] in the dtype of `rows`; runs may be empty.

    The order of additions within a run is not defined: exact only for values whose partial sums are.
    """
    if torch_pays(len(order) * rows.shape[1]):
        from pipeline.models.matrices import fast_sums

        return fast_sums.bag_sums(rows, order, starts)
    sums = np.zeros((len(starts), rows.shape[1]), rows.dtype)
    filled = np.diff(starts, append=len(order)) > 0
    if filled.any():
        sums[filled] = np.add.reduceat(rows[order], starts[filled], axis=0)
    return sums


def widen(stored: NDArray[np.float16], out: Floats) -> None:
    """out[:] = stored, for so many rows as fit a cache."""
    if torch_pays(out.size):
        from pipeline.models.matrices import fast_sums

        fast_sums.widen(stored, out)
    else:
        out[:] = stored


def cell_products(rows: Floats, centres: Floats, members: NDArray[np.int64], near: NDArray[np.integer]) -> Floats:
    """f32[c, r, m]: of the rows members[i] ([c, r]) with the centres near[i] ([c, m]), cell by cell."""
    if torch_pays(members.size * near.shape[1] * rows.shape[1]):
        from pipeline.models.matrices import pairs

        return pairs.cell_products(rows, centres, members, near)
    products: Floats = rows[members] @ centres[near].transpose(0, 2, 1)
    return products


def can_pair(values: int) -> bool:
    """Whether to have torch find and multiply pairs of so many values (`pairs.pair_products`)."""
    if not torch_pays(values):
        return False
    from pipeline.models.matrices import pairs

    return pairs.can_pair()
