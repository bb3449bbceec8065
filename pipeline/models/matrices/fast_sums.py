"""Two things that torch does faster than numpy on a CPU: sums of runs of rows, by its embedding bag, and float16 made wider."""

import numpy as np
import torch
from numpy.typing import NDArray


def bag_sums(
    rows: NDArray[np.floating], order: NDArray[np.int64], starts: NDArray[np.int64]
) -> NDArray[np.floating]:
    """[len(starts), d]: sum of rows[order[starts[i] : starts[i + 1]]] in the dtype of `rows`; runs may be empty.

    The order of additions within a run is not defined: exact only for values whose partial sums are.
    """
    bags = torch.nn.functional.embedding_bag(
        torch.from_numpy(order), torch.from_numpy(rows), torch.from_numpy(starts), mode="sum",
    )
    sums: NDArray[np.floating] = bags.numpy()
    return sums


def widen(stored: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """out[:] = stored, for so many rows as fit a cache; ten times as fast as numpy's."""
    writable = stored if stored.flags.writeable else stored.copy()   # torch wants no mapped file, though it only reads it
    torch.from_numpy(out).copy_(torch.from_numpy(writable))
