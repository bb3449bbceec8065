"""The folder of a fit: the centroids of every level, the classes' stable ids and parents, and what became of older ids.

`centroids.npy` (level 0), `centroids.<t>.npy` above, `hierarchy.parquet`, `ids.parquet`; `fit.json` is written last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.reduce.classes.hierarchy import NO_RESAMPLING, Resampling, hierarchical
from pipeline.reduce.classes.identity import StableClasses, first_classes, matched
from pipeline.reduce.classes.overlap import Overlap
from pipeline.reduce.describe.names import Level, positions
from pipeline.store.store import Store
from pipeline.store.tables import npy_bytes, read_npy, read_table, write_table
from pipeline.vectors import Floats
from schemas.columns import field
from schemas.tables import CLASS_IDS

FIT = "fit.json"
HIERARCHY = pa.schema([
    field("level", pa.int32(), "0: the classes that label samples"),
    field("class_id", pa.int32(), "stable id, in the order of the centroids"),
    field("parent", pa.int32(), "class_id one level up; null at the top"),
])


@dataclass(frozen=True)
class LevelSettings:
    """The coarser levels that a recipe asks for."""

    sizes: tuple[int, ...]
    """Classes of each level, the finest first."""
    resampling: int
    """How often each level is fitted again on the points nearest to its own centroids."""
    seed: int


def centroids_path(folder: str, level: int) -> str:
    """The .npy file of a level's centroids, f32[k, d]."""
    return f"{folder}/centroids.npy" if level == 0 else f"{folder}/centroids.{level}.npy"


def arranged(
    centroids: Floats, settings: LevelSettings, previous: Sequence[StableClasses], overlap: Overlap | None
) -> tuple[list[StableClasses], list[Level], pa.Table]:
    """Levels over these centroids f32[k, d], ids that keep to those of `previous` (by level; empty: numbered from 0), and the table
    CLASS_IDS.

    Levels that would not be smaller than the one below (fewer classes were found than asked for) are left out.
    """
    sizes = [size for size in settings.sizes if size < len(centroids)]
    steps = [_resampling(below, k, settings.resampling) for below, k in zip([len(centroids), *sizes], sizes, strict=False)]
    above = hierarchical(centroids, sizes, seed=settings.seed, resampling=steps) if sizes else ()
    identities, tables = [], []
    for number, points in enumerate([centroids, *(level.centroids for level in above)]):
        if number < len(previous):
            match = matched(previous[number], points, overlap if number == 0 else None)
            identities.append(match.classes)
            tables.append(_at_level(match.table, number))
        else:
            identities.append(first_classes(points))
    parents = [identities[number + 1].ids[level.parent_of_below] for number, level in enumerate(above)]
    levels = [
        Level(number, classes.ids, classes.centroids, parents[number] if number < len(parents) else None)
        for number, classes in enumerate(identities)
    ]
    return identities, levels, pa.concat_tables([CLASS_IDS.empty_table(), *tables])


def _resampling(below: int, k: int, steps: int) -> Resampling:
    """Half of the mean number of classes below, as the published runs have it (Vo et al. 2024)."""
    return replace(NO_RESAMPLING, steps=steps, points=max(1, round(below / k / 2)))


def _at_level(ids: pa.Table, level: int) -> pa.Table:
    return ids.append_column("level", pa.array([level] * ids.num_rows, pa.int32())).select(CLASS_IDS.names).cast(CLASS_IDS)


def write_levels(
    store: Store, folder: str, fitted: tuple[list[StableClasses], list[Level], pa.Table], facts: dict[str, Any]
) -> None:
    """Writes what `arranged` gives, and the facts into `fit.json`: everything but the centroids of level 0, which the fit has
    written."""
    identities, levels, ids = fitted
    for level in levels[1:]:
        store.write(centroids_path(folder, level.number), npy_bytes(level.centroids))
    rows = [_rows(level) for level in levels]
    write_table(store, f"{folder}/hierarchy.parquet", pa.concat_tables(rows), {"levels": len(levels)})
    write_table(store, f"{folder}/ids.parquet", ids, {"rows": ids.num_rows})
    store.write_json(f"{folder}/{FIT}", {**facts, "next_ids": [classes.next_id for classes in identities]})


def _rows(level: Level) -> pa.Table:
    parents = pa.nulls(len(level.ids), pa.int32()) if level.parents is None else pa.array(level.parents, pa.int32())
    return pa.Table.from_arrays([pa.array(np.full(len(level.ids), level.number, np.int32)), pa.array(level.ids), parents],
                                schema=HIERARCHY)


def read_levels(store: Store, folder: str) -> list[Level]:
    """The levels of a fit, the classes that label samples first."""
    table = read_table(store, f"{folder}/hierarchy.parquet")
    number = np.asarray(table.column("level"))
    levels = []
    for level in range(int(number.max(initial=0)) + 1):
        rows = table.filter(pa.array(number == level))
        parents = rows.column("parent")
        levels.append(Level(
            level, np.asarray(rows.column("class_id"), np.int32), np.asarray(read_npy(store, centroids_path(folder, level))),
            None if parents.null_count else np.asarray(parents, np.int32),
        ))
    return levels


def read_classes(store: Store, folder: str, level: int = 0) -> StableClasses:
    """The classes of one level, as the next refit needs them."""
    classes = read_levels(store, folder)[level]
    return StableClasses(classes.ids, classes.centroids, store.read_json(f"{folder}/{FIT}")["next_ids"][level])


def class_place(store: Store, folder: str, class_id: int) -> int | None:
    """The place of a class among the centroids of level 0; None where there is none of this id."""
    table = read_table(store, f"{folder}/hierarchy.parquet", ["level", "class_id"])
    ids = np.asarray(table.column("class_id"))[np.asarray(table.column("level")) == 0]
    places = np.flatnonzero(ids == class_id)
    return int(places[0]) if len(places) else None


def read_all_classes(store: Store, folder: str) -> list[StableClasses]:
    """The classes of every level, the finest first."""
    next_ids = store.read_json(f"{folder}/{FIT}")["next_ids"]
    levels = read_levels(store, folder)
    return [StableClasses(level.ids, level.centroids, next_id) for level, next_id in zip(levels, next_ids, strict=True)]


def ancestors(levels: Sequence[Level]) -> NDArray[np.int32]:
    """i32[k, T]: per class of level 0 (by position) the id of its ancestor in each level above."""
    ids = np.empty((len(levels[0].ids), len(levels) - 1), np.int32)
    place = np.arange(len(levels[0].ids), dtype=np.int32)
    for column, (level, above) in enumerate(pairwise(levels)):
        assert level.parents is not None
        place = positions(level.parents[place], above.ids)
        ids[:, column] = above.ids[place]
    return ids
