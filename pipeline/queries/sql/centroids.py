"""The view `classes`: the table of the classes, and each one's centroid beside it."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline.plan import Plan
from pipeline.queries.sql.source import Filter, Part, Source
from pipeline.reduce.classes.taxonomy import read_levels

CENTROID = "centroid"


def with_centroids(plan: Plan, stored: pa.Schema, parts: Iterable[Part], length: int) -> Source:
    """The table of classes in parts with one more column, `centroid`: a unit vector f32 [length]. The centroids are read where a
    query names it, mapped where the root is local."""
    def of_query(_: Filter) -> Iterator[Part]:
        return (partial(_of_part, plan, part, length) for part in parts)

    return Source(stored.append(pa.field(CENTROID, pa.list_(pa.float32(), length))), of_query)


def _of_part(plan: Plan, part: Part, length: int, names: Sequence[str]) -> pa.Table:
    if CENTROID not in names:
        return part(names)
    table = part(list(dict.fromkeys([*(name for name in names if name != CENTROID), "level", "class_id"])))
    level, class_id = (np.asarray(table.column(name)) for name in ("level", "class_id"))
    matrix = np.zeros((table.num_rows, length), np.float32)
    for of_level in read_levels(plan.root, str(plan.centroids)):
        order = np.argsort(of_level.ids)
        rows = np.flatnonzero(level == of_level.number)
        matrix[rows] = of_level.centroids[order[np.searchsorted(of_level.ids, class_id[rows], sorter=order)]]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), length)
    return table.append_column(CENTROID, vectors).select(list(names))
