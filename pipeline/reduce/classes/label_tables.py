"""Labels as a table: positions of centroids become stable class ids, and the coarser levels come for free."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.reduce.classes.labels import Labels
from pipeline.vectors import Ids
from schemas.columns import LABELS


@dataclass(frozen=True)
class Naming:
    """What the centroids are called."""

    ids: Ids
    """i32[k]: the stable id of each."""
    ancestors: Ids
    """i32[k, T]: its ancestor's id in each level above."""


def table(uid: pa.Array, labels: Labels, at: NDArray[np.int64], naming: Naming) -> pa.Table:
    """schemas.columns.LABELS for all rows of `uid`: `labels` belong to the rows `at` (ascending), the others are null."""
    inside = np.arange(labels.ids.shape[1])[None] < labels.count[:, None]
    labelled = np.zeros(len(uid), bool)
    labelled[at] = True
    return pa.Table.from_arrays([
        uid,
        _of_rows(labelled, labels.count, pa.array(naming.ids[labels.ids[inside]], pa.int32())),
        _of_rows(labelled, labels.count, pa.array(labels.weights[inside])),
        _levels(labelled, labels, inside, naming.ancestors),
    ], schema=LABELS)


def _of_rows(labelled: NDArray[np.bool_], count: NDArray[np.integer], values: pa.Array) -> pa.Array:
    """Lists of `count` values for the labelled rows, null for the others."""
    sizes = np.zeros(len(labelled), np.int64)
    sizes[labelled] = count
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(~labelled))


def _levels(labelled: NDArray[np.bool_], labels: Labels, inside: NDArray[np.bool_], ancestors: Ids) -> pa.Array:
    rows, levels = len(labels.count), ancestors.shape[1]
    found, counts = [], np.zeros((rows, levels), np.int64)
    for level in range(levels):
        ids, count = above(ancestors[:, level][labels.ids], labels.weights, inside)
        counts[:, level] = count
        found.append(ids)
    stacked = np.stack(found, axis=1) if found else np.zeros((rows, 0, inside.shape[1]), np.int32)
    chosen = np.arange(inside.shape[1]) < counts[:, :, None]
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts.ravel())]), pa.int32())
    inner = pa.ListArray.from_arrays(offsets, pa.array(stacked[chosen], pa.int32()))
    return _of_rows(labelled, np.full(rows, levels), inner)


def above(ids: Ids, weights: NDArray[np.float16], inside: NDArray[np.bool_]) -> tuple[Ids, NDArray[np.int64]]:
    """Ancestors i32[n, l] of labels with their weights, `inside` where there is a label -> each row's different ones by the sum
    of their weights, largest first (equal ones by the lower id), and how many those are."""
    same = (ids[:, :, None] == ids[:, None, :]) & inside[:, None, :]
    total = (same * weights.astype(np.float64)[:, None, :]).sum(axis=2)
    earlier = np.tril(np.ones(same.shape[1:], bool), -1)
    first = inside & ~(same & earlier).any(axis=2)
    order = np.lexsort((ids, np.where(first, -total, np.inf)), axis=1)
    return np.take_along_axis(ids, order, 1), first.sum(axis=1)
