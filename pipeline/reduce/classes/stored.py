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
from pipeline.reduce.classes.identity import Known, first, matched
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
class Wish:
    """Coarser levels: their sizes, and how often each is fitted again on the centroids nearest to its own."""

    sizes: tuple[int, ...]
    resampling: int
    seed: int


def path(folder: str, level: int) -> str:
    return f"{folder}/centroids.npy" if level == 0 else f"{folder}/centroids.{level}.npy"


def arranged(
    centroids: Floats, wish: Wish, before: Sequence[Known], overlap: Overlap | None
) -> tuple[list[Known], list[Level], pa.Table]:
    """Levels over these centroids, ids that keep to those of `before` (by level; empty: numbered from 0), and CLASS_IDS.

    Levels that would not be smaller than the one below (fewer classes were found than asked for) are left out.
    """
    sizes = [size for size in wish.sizes if size < len(centroids)]
    steps = [_resampling(below, k, wish.resampling) for below, k in zip([len(centroids), *sizes], sizes, strict=False)]
    found = hierarchical(centroids, sizes, seed=wish.seed, resampling=steps) if sizes else ()
    identities, tables = [], []
    for number, points in enumerate([centroids, *(level.centroids for level in found)]):
        if number < len(before):
            match = matched(before[number], points, overlap if number == 0 else None)
            identities.append(match.known)
            tables.append(_at_level(match.table, number))
        else:
            identities.append(first(points))
    parents = [identities[number + 1].ids[level.parent_of_below] for number, level in enumerate(found)]
    levels = [
        Level(number, one.ids, one.centroids, parents[number] if number < len(parents) else None)
        for number, one in enumerate(identities)
    ]
    return identities, levels, pa.concat_tables([CLASS_IDS.empty_table(), *tables])


def _resampling(below: int, k: int, steps: int) -> Resampling:
    """Half of the mean number of classes below, as the published runs have it."""
    return replace(NO_RESAMPLING, steps=steps, points=max(1, round(below / k / 2)))


def _at_level(ids: pa.Table, level: int) -> pa.Table:
    return ids.append_column("level", pa.array([level] * ids.num_rows, pa.int32())).select(CLASS_IDS.names).cast(CLASS_IDS)


def write(store: Store, folder: str, found: tuple[list[Known], list[Level], pa.Table], facts: dict[str, Any]) -> None:
    """Everything but the centroids of level 0, which the fit has written."""
    identities, levels, ids = found
    for level in levels[1:]:
        store.write(path(folder, level.number), npy_bytes(level.centroids))
    rows = [_rows(level) for level in levels]
    write_table(store, f"{folder}/hierarchy.parquet", pa.concat_tables(rows), {"levels": len(levels)})
    write_table(store, f"{folder}/ids.parquet", ids, {"rows": ids.num_rows})
    store.write_json(f"{folder}/{FIT}", {**facts, "next_ids": [one.next_id for one in identities]})


def _rows(level: Level) -> pa.Table:
    parents = pa.nulls(len(level.ids), pa.int32()) if level.parents is None else pa.array(level.parents, pa.int32())
    return pa.Table.from_arrays([pa.array(np.full(len(level.ids), level.number, np.int32)), pa.array(level.ids), parents],
                                schema=HIERARCHY)


def read(store: Store, folder: str) -> list[Level]:
    """The levels of a fit, the classes that label samples first."""
    table = read_table(store, f"{folder}/hierarchy.parquet")
    number = np.asarray(table.column("level"))
    levels = []
    for level in range(int(number.max(initial=0)) + 1):
        some = table.filter(pa.array(number == level))
        parents = some.column("parent")
        levels.append(Level(
            level, np.asarray(some.column("class_id"), np.int32), np.asarray(read_npy(store, path(folder, level))),
            None if parents.null_count else np.asarray(parents, np.int32),
        ))
    return levels


def known(store: Store, folder: str, level: int = 0) -> Known:
    """The ids of one level, as the next refit needs them."""
    found = read(store, folder)[level]
    return Known(found.ids, found.centroids, store.read_json(f"{folder}/{FIT}")["next_ids"][level])


def all_known(store: Store, folder: str) -> list[Known]:
    """`known` of every level."""
    next_ids = store.read_json(f"{folder}/{FIT}")["next_ids"]
    return [Known(one.ids, one.centroids, id) for one, id in zip(read(store, folder), next_ids, strict=True)]


def ancestors(levels: Sequence[Level]) -> NDArray[np.int32]:
    """i32[k, T]: per class of level 0 (by position) the id of its ancestor in each level above."""
    found = np.empty((len(levels[0].ids), len(levels) - 1), np.int32)
    place = np.arange(len(levels[0].ids), dtype=np.int32)
    for column, (level, above) in enumerate(pairwise(levels)):
        assert level.parents is not None
        place = positions(level.parents[place], above.ids)
        found[:, column] = above.ids[place]
    return found
