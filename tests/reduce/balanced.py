"""A balanced sample of rows that are all in memory: what the ranks, counts and cuts of a run must give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.draws import ROOT, Draws, draws
from pipeline.export.allocation import allocate
from pipeline.vectors import Floats, Ids, Ints, ranked


@dataclass(frozen=True)
class Tree:
    """n rows, the class of each, and the classes above those."""

    classes: Ids
    """i32[n]; -1 for rows that take no part"""
    parents: Sequence[Ids] = ()
    """`Level.parent_of_below` of each coarser level: i32[k] of the classes, i32[k2] of their parents, ..."""
    similarity: Floats | None = None
    """f32[n]: cosine to the class's centroid; needed for order="closest" """
    keys: Draws | None = None
    """u64[n]: what random draws know a row by; None for its number"""


def sample(tree: Tree, target: int, *, seed: int, multiplier: int = 1, order: str = "random") -> Ints:
    """Row numbers of a balanced sample, i64[target], ascending; with a multiplier of m a row may be there up to m times. Fewer
    where there are fewer."""
    rows = np.flatnonzero(tree.classes >= 0)
    classes = tree.classes[rows]
    k = len(tree.parents[0]) if tree.parents else int(classes.max(initial=-1)) + 1
    sizes = np.bincount(classes, minlength=k)
    take = allocate(sizes, tree.parents, target, seed=seed, multiplier=multiplier)
    keys = rows if tree.keys is None else tree.keys[rows]
    rank = -tree.similarity[rows] if order == "closest" and tree.similarity is not None else draws(keys, seed, ROOT)
    by_class, place = ranked(classes, rank)
    inside = classes[by_class]
    return np.sort(np.repeat(rows[by_class], copies(place, sizes[inside], take[inside])))


def copies(place: Ints, size: Ints, take: Ints) -> Ints:
    """How often the row at this place (from 0) in the order of its class is taken, when `take` of its `size` rows are: copies of
    one class differ by at most one."""
    return take // size + (place < take % size)
