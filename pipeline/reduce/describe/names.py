"""The classes of a run: a unique human name, the entities behind it, and the samples nearest to and farthest from the centroid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.reduce.describe.lift import Candidate, NamingRule, Vocabulary, standing_out
from pipeline.reduce.describe.presence import Counts
from pipeline.vectors import Floats, Ids
from schemas.tables import CLASSES


@dataclass(frozen=True)
class Level:
    """The classes of one level, in the order of their centroids."""

    number: int
    """0: the classes that label samples."""
    ids: Ids
    centroids: Floats
    parents: Ids | None
    """Class id one level up; None at the top."""


@dataclass(frozen=True)
class Names:
    """Parallel to the classes of a level."""

    names: list[str]
    named: list[bool]
    confidence: list[float | None]
    entities: list[list[dict[str, Any]]]


@dataclass(frozen=True)
class Members:
    """What the samples of level 0's classes say, by position of the class."""

    similarity: Floats
    """Mean cosine to the centroid."""
    exemplars: list[list[dict[str, Any]]]
    """EXEMPLAR: nearest first."""
    outliers: list[list[dict[str, Any]]]
    """EXEMPLAR: farthest first."""


def named(counts: Counts, level: Level, vocabulary: Vocabulary, rule: NamingRule = NamingRule()) -> Names:  # noqa: B008 (frozen)
    """Names by the entities that stand out."""
    candidates = standing_out(counts, level.centroids, rule, vocabulary)
    return Names(
        unique_names(candidates, level.ids), [bool(some) for some in candidates],
        [some[0].confidence if some else None for some in candidates], [[_entity(one) for one in some] for some in candidates],
    )


def _entity(one: Candidate) -> dict[str, Any]:
    return {"id": one.id, "name": one.name, "lift": one.lift, "share": one.share, "confidence": one.confidence,
            "closeness": one.closeness}


def table(level: Level, names: Names, sizes: NDArray[np.int64], members: Members | None) -> pa.Table:
    """schemas.tables.CLASSES of one level; `members` for level 0 alone."""
    k = len(level.ids)
    return pa.Table.from_pydict({
        "class_id": level.ids,
        "level": np.full(k, level.number, np.int32),
        "parent": pa.nulls(k, pa.int32()) if level.parents is None else level.parents,
        "name": names.names,
        "named": names.named,
        "confidence": names.confidence,
        "size": sizes,
        "mean_similarity": pa.nulls(k, pa.float32()) if members is None else members.similarity,
        "entities": names.entities,
        "exemplars": [[]] * k if members is None else members.exemplars,
        "outliers": [[]] * k if members is None else members.outliers,
    }, schema=CLASSES)


def unique_names(candidates: Sequence[Sequence[Candidate]], ids: Sequence[int] | Ids) -> list[str]:
    """A name per class, all different (case aside). Of two classes with one best entity X, the one where it stands out
    more is "X", the other "X (Y)" with its next entity Y; without any entity a class is called "class <id>"."""
    names = [f"class {id}" for id in ids]
    taken = {name.casefold() for name in names}
    strongest = sorted((c for c, some in enumerate(candidates) if some), key=lambda c: (-candidates[c][0].score, c))
    for c in strongest:
        best, *others = [one.name for one in candidates[c]]
        options = [best, *(f"{best} ({other})" for other in others if other != best), f"{best} ({names[c]})"]
        names[c] = next(name for name in options if name.casefold() not in taken)
        taken.add(names[c].casefold())
    return names


def positions(ids: Ids, among: Ids) -> NDArray[np.int32]:
    """i32: where these class ids stand among all of a level."""
    order = np.argsort(among)
    return order[np.searchsorted(among, ids, sorter=order)].astype(np.int32)
