"""What is known of the class of a sample, as columns beside its labels: its name, and the classes above it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.export.class_table import stored_class_table
from pipeline.plan import Plan
from pipeline.vectors import Ids

CLASS_COLUMNS = {
    "label_names": pa.list_(pa.string()),
    "class_id": pa.int32(),
    "class_name": pa.string(),
    "class_levels": pa.list_(pa.int32()),
    "class_level_names": pa.list_(pa.string()),
}
"""Made here from `labels`; null for samples that are not labelled."""


@dataclass(frozen=True)
class ClassHierarchy:
    """The k classes that label samples and the T levels above them. Memory O(k x T)."""

    ids: Ids
    """i32[k], ascending"""
    names: pa.Array
    """string[k]"""
    above: Ids
    """i32[k, T]: id of the class above it in each coarser level, the next one first"""
    above_names: pa.Array
    """string[k * T]: their names"""

    @staticmethod
    def of(plan: Plan) -> "ClassHierarchy":
        """The classes of a root, whose table of classes is read whole."""
        table = stored_class_table(plan.root, plan.fitted.classes, ["class_id", "level", "parent", "name"])
        table = table.sort_by([("level", "ascending"), ("class_id", "ascending")])
        level = np.asarray(table.column("level"))
        levels = [table.filter(pa.array(level == number)) for number in range(int(level.max(initial=0)) + 1)]
        lowest = levels[0].combine_chunks()
        ids, parents, above, above_names = np.asarray(lowest.column("class_id"), np.int32), lowest.column("parent"), [], []
        for coarser in levels[1:]:
            place = _places(np.asarray(coarser.column("class_id"), np.int32), parents)
            above.append(coarser.column("class_id").take(place))
            above_names.append(coarser.column("name").take(place))
            parents = coarser.column("parent").take(place)
        shape = (len(ids), len(above))
        return ClassHierarchy(
            ids, _array(lowest.column("name")), np.asarray(np.stack(above, 1) if above else np.zeros(shape), np.int32),
            pa.array(np.stack(above_names, 1).reshape(-1) if above else [], pa.string()))

    @cached_property
    def name_by_id(self) -> dict[int, str]:
        """The name of each class that labels samples."""
        return dict(zip(self.ids.tolist(), self.names.to_pylist(), strict=True))

    def column(self, name: str, labels: pa.ChunkedArray) -> pa.Array:
        """One of CLASS_COLUMNS for n samples, from their `labels` (list<int32>[n], the nearest class first)."""
        labels = _array(labels)
        if name == "label_names":
            counts = np.asarray(pc.fill_null(pc.list_value_length(labels), 0))
            return _lists(counts, self.names.take(_places(self.ids, labels.flatten())), labels)
        has_one = pc.greater(pc.fill_null(pc.list_value_length(labels), 0), 0)
        nearest = _array(pc.list_element(pc.if_else(has_one, labels, pa.scalar([None], labels.type)), 0))
        if name == "class_id":
            return nearest
        place = _places(self.ids, nearest)
        if name == "class_name":
            return self.names.take(place)
        depth = self.above.shape[1]
        valid_places = place.drop_null()
        counts = np.where(np.asarray(place.is_valid()), depth, 0)
        if name == "class_levels":
            return _lists(counts, pa.array(self.above[np.asarray(valid_places)].reshape(-1)), nearest)
        flat = (np.asarray(valid_places)[:, None] * depth + np.arange(depth)).reshape(-1)
        return _lists(counts, self.above_names.take(pa.array(flat, pa.int64())), nearest)


def _array(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _places(ids: Ids, class_ids: Any) -> pa.Array:
    """The position of each class id (int32 [n]) in `ids` (ascending), int64 [n]; null for null."""
    array = _array(class_ids)
    places = np.searchsorted(ids, np.asarray(array.fill_null(0), np.int32))
    return pa.array(places.astype(np.int64), mask=np.asarray(array.is_null()))


def _lists(counts: NDArray[np.int64], values: pa.Array, like: pa.Array) -> pa.Array:
    """Lists of so many values each; null where `like` is."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=like.is_null())
