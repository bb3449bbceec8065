"""The classes of a run: a unique human name, the entities behind it, and the samples nearest to the centroid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.reduce import RowIds
from pipeline.reduce.lift import Candidate, NamingRule, Vocabulary, presence, standing_out
from pipeline.reduce.nearest import Floats
from schemas.tables import CLASSES

EXEMPLARS = 8


@dataclass(frozen=True)
class Members:
    """n samples and the class that each is nearest to."""

    rows: NDArray[np.int64]
    """int64[n]: global row numbers, ascending."""
    assignment: NDArray[np.int32]
    similarity: Floats
    """f32[n]: cosine to the centroid of that class."""
    entities: Sequence[Iterable[str]]
    """Entity ids of each of the n samples."""


def named(
    members: Members, centroids: Floats, vocabulary: Vocabulary, ids: RowIds, rule: NamingRule = NamingRule()  # noqa: B008
) -> pa.Table:
    """schemas.tables.CLASSES, one row per centroid, in order."""
    found = presence(members.entities, vocabulary.parents, rule.levels)
    candidates = standing_out(found, members.assignment, centroids, rule, vocabulary)
    sizes = np.bincount(members.assignment, minlength=len(candidates))
    similarity = np.bincount(members.assignment, members.similarity.astype(np.float64), len(candidates))
    return pa.Table.from_pydict({
        "class_id": range(len(candidates)),
        "name": unique_names(candidates),
        "named": [bool(one) for one in candidates],
        "size": sizes,
        "mean_similarity": (similarity / np.maximum(sizes, 1)).astype(np.float32),
        "entities": [[{"id": e.id, "name": e.name, "lift": e.lift, "share": e.share} for e in one] for one in candidates],
        "exemplars": exemplars(members, len(candidates), ids),
    }, schema=CLASSES)


def unique_names(candidates: Sequence[Sequence[Candidate]]) -> list[str]:
    """A name per class, all different (case aside). Of two classes with one best entity X, the one where it stands out
    more is "X", the other "X (Y)" with its next entity Y; without any entity a class is called "class <id>"."""
    names = [f"class {number}" for number in range(len(candidates))]
    taken = {name.casefold() for name in names}
    strongest = sorted((c for c, some in enumerate(candidates) if some), key=lambda c: (-candidates[c][0].score, c))
    for c in strongest:
        best, *others = [one.name for one in candidates[c]]
        options = [best, *(f"{best} ({other})" for other in others if other != best), f"{best} ({names[c]})"]
        names[c] = next(name for name in options if name.casefold() not in taken)
        taken.add(names[c].casefold())
    return names


def exemplars(members: Members, k: int, ids: RowIds, most: int = EXEMPLARS) -> list[list[dict[str, Any]]]:
    """The samples of each class nearest to its centroid, best first, equal ones by row id."""
    order = np.lexsort((members.rows, -members.similarity, members.assignment))
    starts = np.searchsorted(members.assignment[order], np.arange(k + 1))
    result = []
    for start, end in pairwise(starts):
        chosen = order[start : min(end, start + most)]
        shard_ids, local = ids.ids(members.rows[chosen])
        result.append([
            {"shard_id": shard_id, "row": row, "similarity": similarity}
            for shard_id, row, similarity in zip(shard_ids, local.tolist(), members.similarity[chosen].tolist(), strict=True)
        ])
    return result
