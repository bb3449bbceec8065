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
    """The ids of the centroids and of their ancestors."""

    ids: Ids
    """i32[k]: the stable id of each."""
    ancestors: Ids
    """i32[k, T]: its ancestor's id in each level above."""


def label_table(uid: pa.Array, labels: Labels, at: NDArray[np.int64], naming: Naming) -> pa.Table:
    """schemas.columns.LABELS for all rows of `uid` string[n]: `labels` are those of the rows `at` (i64[m], ascending), the others
    are null."""
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
    ancestor_ids, counts = [], np.zeros((rows, levels), np.int64)
    for level in range(levels):
        ids, count = above(ancestors[:, level][labels.ids], labels.weights, inside)
        counts[:, level] = count
        ancestor_ids.append(ids)
    stacked = np.stack(ancestor_ids, axis=1) if ancestor_ids else np.zeros((rows, 0, inside.shape[1]), np.int32)
    chosen = np.arange(inside.shape[1]) < counts[:, :, None]
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts.ravel())]), pa.int32())
    inner = pa.ListArray.from_arrays(offsets, pa.array(stacked[chosen], pa.int32()))
    return _of_rows(labelled, np.full(rows, levels), inner)


def above(ids: Ids, weights: NDArray[np.float16], inside: NDArray[np.bool_]) -> tuple[Ids, NDArray[np.int64]]:
    """Merges the ancestors i32[n, l] of labels with weights f16[n, l]; `inside`, bool[n, l], is set where there is a label. Given
    are each row's different ancestors by the sum of their weights, largest first (equal sums by the lower id), i32[n, l], and how
    many they are, i64[n]; beyond that number the ids mean nothing."""
    equal_ids = (ids[:, :, None] == ids[:, None, :]) & inside[:, None, :]
    total = (equal_ids * weights.astype(np.float64)[:, None, :]).sum(axis=2)
    earlier = np.tril(np.ones(equal_ids.shape[1:], bool), -1)
    first = inside & ~(equal_ids & earlier).any(axis=2)
    order = np.lexsort((ids, np.where(first, -total, np.inf)), axis=1)
    return np.take_along_axis(ids, order, 1), first.sum(axis=1)
