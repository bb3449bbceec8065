"""Stable class ids: a class keeps its id when the clustering is fitted again.

Old and new classes are matched one to one by place and members (`matching.py`). A new class without an old one gets the next unused
id; an old class without a new one is retired, and its id is never used again. Of a class that splits, the part most like it
is the heir; of classes that merge, the one most like the result lives on.

No matching can make up for a fit that falls out otherwise from another start: a refit should start from the known centroids
(`Fleet.fit` with `start`): with 30 % more rows that kept 93-99 % of the labels, a fresh fit 40-81 % (sample; planted groups).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.reduce.classes.matching import MatchRule, Pairs, matching, scored
from pipeline.reduce.classes.overlap import Overlap, agreement
from pipeline.vectors import Floats, Ints
from schemas.columns import field
from schemas.tables import CLASS_IDS

OF_LEVEL = pa.schema([one for one in CLASS_IDS if one.name != "level"])
"""CLASS_IDS of one level."""


@dataclass(frozen=True)
class Known:
    """The classes of a fit, by their stable ids."""

    ids: NDArray[np.int32]
    """i32[k], all different, in the order of the centroids"""
    centroids: Floats
    """f32[k, d], unit length"""
    next_id: int
    """Above every id ever given."""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.centroids) or len(np.unique(self.ids)) != len(self.ids):
            raise InputError(f"{len(self.centroids)} centroids need as many different class ids, not {len(np.unique(self.ids))}")
        if len(self.ids) and int(self.ids.max()) >= self.next_id:
            raise InputError(f"the next class id {self.next_id} has been given already: {int(self.ids.max())} is the highest")


def first(centroids: Floats) -> Known:
    """Of a fit without a predecessor: ids are row numbers."""
    return Known(np.arange(len(centroids), dtype=np.int32), centroids, len(centroids))


@dataclass(frozen=True)
class Matched:
    """The new fit under stable ids."""

    known: Known
    """Ids of the new centroids, in their order; what the next refit starts from."""
    table: pa.Table
    """CLASS_IDS: the kept classes and then the new ones by class_id, then the retired by old_id."""


def matched(known: Known, centroids: Floats, overlap: Overlap | None = None, rule: MatchRule = MatchRule()) -> Matched:  # noqa: B008
    """Stable ids for new centroids f32[k, d]. Memory O((k_old + k_new) x (d + candidates) + pairs of the overlap)."""
    check_dimensions(known.centroids, centroids)
    pairs = scored(known.centroids, centroids, overlap, rule)
    chosen = matching(pairs.where(pairs.score >= rule.floor))
    ids = np.full(len(centroids), -1, np.int32)
    ids[chosen.new] = known.ids[chosen.old]
    fresh = np.flatnonzero(ids < 0)
    ids[fresh] = known.next_id + np.arange(len(fresh))
    table = _table(known.ids, ids, pairs, chosen)
    return Matched(Known(ids, centroids, known.next_id + len(fresh)), table)


def check_dimensions(old: Floats, new: Floats) -> None:
    """Raises InputError where two fits are of different models; a fit without classes goes with any."""
    if len(old) and len(new) and old.shape[1] != new.shape[1]:
        raise InputError(
            f"the earlier classes have {old.shape[1]} dimensions and the new ones {new.shape[1]}: they are of different "
            "models, so no class can keep its id; use the earlier model, or another output root"
        )


def _table(old_ids: NDArray[np.int32], ids: NDArray[np.int32], pairs: Pairs, chosen: Pairs) -> pa.Table:
    kept = chosen.where(np.argsort(ids[chosen.new], kind="stable"))
    fresh = np.setdiff1d(np.arange(len(ids)), chosen.new)
    retired = np.setdiff1d(np.arange(len(old_ids)), chosen.old)
    retired = retired[np.argsort(old_ids[retired], kind="stable")]
    likeliest, heirs = pairs.best(pairs.new, fresh), pairs.best(pairs.old, retired)
    return pa.concat_tables([
        _rows("kept", kept, old_ids[kept.old], ids[kept.new]),
        _rows("new", likeliest, _at(old_ids, likeliest.old), ids[fresh]),
        _rows("retired", heirs, old_ids[retired], _at(ids, heirs.new)),
    ])


def _at(values: NDArray[np.integer], positions: Ints) -> pa.Array:
    """Values at these positions, null at -1."""
    return pa.array(np.append(values, np.zeros(1, values.dtype))[positions], mask=positions < 0)


def _rows(status: str, pairs: Pairs, old_id: pa.Array | NDArray[np.int32], class_id: pa.Array | NDArray[np.int32]) -> pa.Table:
    return pa.Table.from_arrays([
        pa.array(old_id, pa.int32()), pa.array(class_id, pa.int32()),
        _floats(pairs.cosine), _floats(pairs.overlap), pa.array([status] * len(pairs), pa.string()),
    ], schema=OF_LEVEL)


def _floats(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.astype(np.float32), mask=np.isnan(values))


COMPARISON = pa.schema([
    field("class_id", pa.int32(), "class of the first fit; null when it has none like other_id"),
    field("other_id", pa.int32(), "class of the other fit; null when it has none like class_id"),
    field("cosine", pa.float32(), "of their centroids"),
    field("overlap", pa.float32(), "Jaccard index of their samples among those in both fits; null when not known"),
    field("size", pa.int64(), "samples of class_id"),
    field("other_size", pa.int64(), "samples of other_id"),
])


@dataclass(frozen=True)
class Comparison:
    """Two fits side by side."""

    table: pa.Table
    """COMPARISON: the matched pairs by class_id, then what has no partner in the other fit, then what has none in this."""
    ari: float | None
    """Adjusted Rand index over the samples in both; null without any."""
    ami: float | None
    """Adjusted mutual information; null without such samples and where it would cost too much (see `agreement`)."""


@dataclass(frozen=True)
class Sized:
    """Classes and how many samples each has, i64[k]."""

    known: Known
    sizes: Ints


def compare(one: Sized, other: Sized, overlap: Overlap | None = None, rule: MatchRule = MatchRule()) -> Comparison:  # noqa: B008
    """Which class of one fit is which of the other. `overlap`: old = positions in `one`, new = positions in `other`."""
    check_dimensions(one.known.centroids, other.known.centroids)
    pairs = scored(one.known.centroids, other.known.centroids, overlap, rule)
    chosen = matching(pairs.where(pairs.score >= rule.floor))
    left, right = (np.setdiff1d(np.arange(len(side.sizes)), used) for side, used in ((one, chosen.old), (other, chosen.new)))
    a = np.concatenate([chosen.old, left, np.full(len(right), -1)])
    b = np.concatenate([chosen.new, np.full(len(left), -1), right])
    unknown = np.full(len(left) + len(right), np.nan)
    id_a, id_b = _at(one.known.ids, a), _at(other.known.ids, b)
    order = np.lexsort((id_b.fill_null(0), id_a.fill_null(0), b < 0, a < 0))
    table = pa.Table.from_arrays([
        id_a, id_b, _floats(np.concatenate([chosen.cosine, unknown])), _floats(np.concatenate([chosen.overlap, unknown])),
        _at(one.sizes, a), _at(other.sizes, b),
    ], schema=COMPARISON)
    return Comparison(table.take(pa.array(order)), *agreement(overlap))
