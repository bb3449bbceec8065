"""A map as the page reads it: places, what colours them, and where the names of classes stand."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.vectors import Floats
from schemas.answers.serving import PlacedClass, SampleMap

DIGITS = 4
"""Of a coordinate within -1..1: finer than a screen."""


def sample_map(points: pa.Table, total: int) -> SampleMap:
    """The answer for points in their schema, of so many samples of the run."""
    x, y = (np.round(points[name].to_numpy().astype(np.float64), DIGITS) for name in ("x", "y"))
    similarity = pc.round(points["clip_similarity"].cast(pa.float64()), DIGITS)
    shards = points["shard_id"].combine_chunks().dictionary_encode()
    return SampleMap(
        x=tuple(x.tolist()), y=tuple(y.tolist()), uid=_values(points, "uid"),
        shard_id=tuple(shards.dictionary.to_pylist()), shard=tuple(shards.indices.to_pylist()), row=_values(points, "row"),
        class_id=_values(points, "class_id"), value=tuple(similarity.to_pylist()), verdict=_values(points, "verdict"),
        classes=placed_classes(points), total=total)


def _values(points: pa.Table, name: str) -> tuple:  # type: ignore[type-arg]  # of the column's own type
    return tuple(points[name].to_pylist())


def placed_classes(points: pa.Table) -> tuple[PlacedClass, ...]:
    """The classes of these points, the largest first. A class may lie in several pieces: its name stands on that one of its points
    which has the most of the others near it, not between the pieces."""
    class_id = points["class_id"].to_numpy()
    places: Floats = np.stack([points["x"].to_numpy(), points["y"].to_numpy()], axis=1)
    known = np.flatnonzero(~np.isnan(class_id.astype(np.float64)))
    order = known[np.argsort(class_id[known], kind="stable")]
    ids, starts = np.unique(class_id[order], return_index=True)
    groups = [group for group in np.split(order, starts[1:]) if len(group)]
    sizes = np.array([len(group) for group in groups], np.int64)
    return tuple(
        PlacedClass(class_id=int(ids[at]), name=points["class_name"][int(groups[at][0])].as_py() or f"class {int(ids[at])}",
                    x=round(float(place[0]), DIGITS), y=round(float(place[1]), DIGITS))
        for at in np.argsort(-sizes, kind="stable") for place in [places[groups[at][_densest(places[groups[at]])]]])


def _densest(places: Floats, most: int = 400) -> int:
    """Which of f32 [n, 2] has the least median distance to the others; of many, `most` that lie evenly through the list stand for
    all."""
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), most)).astype(np.int64))
    some = places[chosen]
    distances = np.linalg.norm(some[:, None] - some[None], axis=2)
    return int(chosen[np.median(distances, axis=1).argmin()])
