"""The classes of a run: a unique human name, the entities behind it, and the samples nearest to and farthest from the centroid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.reduce.describe.lift import NameCandidate, NamingRule, Vocabulary, distinctive_entities
from pipeline.reduce.describe.presence import Counts
from pipeline.vectors import Floats, Ids
from schemas.tables import CLASSES


@dataclass(frozen=True)
class Level:
    """The classes of one level, in the order of their centroids."""

    number: int
    """0: the classes that label samples."""
    ids: Ids
    """i32[k]"""
    centroids: Floats
    """f32[k, d], unit length."""
    parents: Ids | None
    """i32[k]: class id one level up; None at the top."""


@dataclass(frozen=True)
class Names:
    """The names of a level's classes, in the order of their centroids."""

    names: list[str]
    named: list[bool]
    confidence: list[float | None]
    entities: list[list[dict[str, Any]]]


@dataclass(frozen=True)
class MemberColumns:
    """The columns of the class table that come from samples, by position of the class; for level 0 alone."""

    similarity: Floats
    """f32[k]: mean cosine to the centroid."""
    exemplars: list[list[dict[str, Any]]]
    """EXEMPLAR: nearest first."""
    outliers: list[list[dict[str, Any]]]
    """EXEMPLAR: farthest first."""


def named(counts: Counts, level: Level, vocabulary: Vocabulary, rule: NamingRule = NamingRule()) -> Names:  # noqa: B008 (frozen)
    """Names a level's classes by the entities that stand out in them."""
    candidates = distinctive_entities(counts, level.centroids, rule, vocabulary)
    return Names(
        unique_names(candidates, level.ids), [bool(entities) for entities in candidates],
        [entities[0].confidence if entities else None for entities in candidates],
        [[_entity(candidate) for candidate in entities] for entities in candidates],
    )


def _entity(candidate: NameCandidate) -> dict[str, Any]:
    return {"id": candidate.id, "name": candidate.name, "lift": candidate.lift, "share": candidate.share,
            "confidence": candidate.confidence, "closeness": candidate.closeness}


def class_table(level: Level, names: Names, sizes: NDArray[np.int64], members: MemberColumns | None) -> pa.Table:
    """schemas.tables.CLASSES of one level with classes of these sizes i64[k]; `members` for level 0 alone."""
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


def unique_names(candidates: Sequence[Sequence[NameCandidate]], ids: Sequence[int] | Ids) -> list[str]:
    """A name per class, all different (case aside). Of two classes with one best entity X, the one where it stands out
    more is "X", the other "X (Y)" with its next entity Y; without any entity a class is called "class <id>"."""
    names = [f"class {id}" for id in ids]
    used_names = {name.casefold() for name in names}
    strongest = sorted((c for c, entities in enumerate(candidates) if entities), key=lambda c: (-candidates[c][0].score, c))
    for c in strongest:
        best, *next_names = [candidate.name for candidate in candidates[c]]
        options = [best, *(f"{best} ({second})" for second in next_names if second != best), f"{best} ({names[c]})"]
        names[c] = next(name for name in options if name.casefold() not in used_names)
        used_names.add(names[c].casefold())
    return names


def positions(ids: Ids, among: Ids) -> Ids:
    """i32[n]: the positions of these class ids i32[n] among all ids of a level, i32[k], each of which is there once."""
    order = np.argsort(among)
    return order[np.searchsorted(among, ids, sorter=order)].astype(np.int32)
