"""Balanced samples of a tree of classes, from the top down (Vo et al. 2024, arXiv 2405.15613, section 3.4).

A node shares its target out among its children as evenly as their numbers of rows allow; a class then takes its rows at random or
the nearest to its centroid. Every draw is a hash of (seed, node or row), so neither partitions nor the order of the work
change it, and a distributed run needs only counts per class (`allocate`) and an order inside each (`draws`, `copies`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import ROOT, Draws, draws
from pipeline.errors import InputError
from pipeline.search.nearest import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Tree:
    """n rows, the class of each, and the classes above those."""

    classes: NDArray[np.int32]
    """i32[n]; -1 for rows that take no part"""
    parents: Sequence[NDArray[np.int32]] = ()
    """`Level.parent_of_below` of each coarser level: i32[k] of the classes, i32[k2] of their parents, ..."""
    similarity: Floats | None = None
    """f32[n]: cosine to the class's centroid; needed for order="closest" """
    keys: Draws | None = None
    """u64[n]: what random draws know a row by; None for its number. With a hash of the content here, a sample does not
    depend on the order of the input"""


def cut(sizes: Ints, target: int) -> int:
    """The largest c with sum(min(c, s) for s in sizes) <= target; the largest size where the target is more than the sum."""
    ordered = np.sort(sizes)
    left = target - (np.cumsum(ordered) - ordered)     # when every smaller one is taken whole
    children = np.arange(len(ordered), 0, -1)          # that share it
    over = np.flatnonzero(left < ordered * children)   # the first size that cannot be taken whole, with all above it
    if not len(over):
        return int(ordered[-1]) if len(ordered) else 0
    return int(left[over[0]] // children[over[0]])


def shares(sizes: Ints, target: int, drawn: Draws) -> Ints:
    """How many each child gives, i64[children]: min(c, size), and one more from the children with the lowest draws among those
    that have more, so that the sum is the target (or all there is). Equal draws by the lower position."""
    c = cut(sizes, target)
    given = np.minimum(sizes, c)
    larger = np.flatnonzero(sizes > c)
    extra = larger[np.argsort(drawn[larger], kind="stable")][: max(0, target - int(given.sum()))]
    given[extra] += 1
    return given


def allocate(
    sizes: Ints, parents: Sequence[NDArray[np.int32]], target: int, *, seed: int, multiplier: int = 1
) -> Ints:
    """How many rows to take of each class, i64[k]; they sum to the target, or to multiplier x all rows if that is less.

    `sizes` i64[k] counts the rows of each class; `parents` as in `Tree`. A node counts with all rows below it, not with its
    number of children. Memory O(k). Raises InputError for a negative target or a multiplier below 1.
    """
    if target < 0 or multiplier < 1:
        raise InputError(f"a balanced sample needs a target >= 0 and a multiplier >= 1, not {target} and {multiplier}")
    flat = [np.asarray(sizes, np.int64) * multiplier]
    for parent in parents:
        above = np.zeros(int(parent.max(initial=-1)) + 1, np.int64)
        np.add.at(above, parent, flat[-1])
        flat.append(above)
    given = shares(flat[-1], target, _node_draws(flat, len(parents), seed))
    for level in range(len(parents) - 1, -1, -1):
        given = _shared_out(flat[level], parents[level], given, _node_draws(flat, level, seed))
    return given


def _node_draws(flat: Sequence[Ints], level: int, seed: int) -> Draws:
    return draws(np.arange(len(flat[level])), seed, level)


def _shared_out(sizes: Ints, parent: NDArray[np.int32], targets: Ints, drawn: Draws) -> Ints:
    """`shares` of the children of every parent."""
    order = np.argsort(parent, kind="stable")
    starts = np.searchsorted(parent[order], np.arange(len(targets) + 1))
    given = np.zeros(len(sizes), np.int64)
    for target, (start, end) in zip(targets.tolist(), pairwise(starts.tolist()), strict=True):
        children = order[start:end]
        given[children] = shares(sizes[children], target, drawn[children])
    return given


def sample(
    tree: Tree, target: int, *, seed: int, multiplier: int = 1, order: Literal["random", "closest"] = "random"
) -> Ints:
    """Row numbers of a balanced sample, i64[target], ascending; with a multiplier of m a row may be there up to m times, so that
    small classes can keep up. Fewer where there are fewer. Memory O(n + k)."""
    if order == "closest" and tree.similarity is None:
        raise InputError("the rows closest to their centroid need `similarity`")
    rows = np.flatnonzero(tree.classes >= 0)
    classes = tree.classes[rows]
    k = len(tree.parents[0]) if tree.parents else int(classes.max(initial=-1)) + 1
    sizes = np.bincount(classes, minlength=k)
    take = allocate(sizes, tree.parents, target, seed=seed, multiplier=multiplier)
    if order == "closest" and tree.similarity is not None:
        rank: NDArray[np.float32] | Draws = -tree.similarity[rows]
    else:
        rank = draws(rows if tree.keys is None else tree.keys[rows], seed, ROOT)
    by_class, place = ranked(classes, rank)
    inside = classes[by_class]
    taken = np.repeat(rows[by_class], copies(place, sizes[inside], take[inside]))
    return np.sort(taken)


def ranked(classes: NDArray[np.int32], rank: NDArray[np.generic]) -> tuple[Ints, Ints]:
    """Positions by class, then by rank, then by position; and the place of each, from 0, in its class."""
    order = np.lexsort((rank, classes))
    sizes = np.bincount(classes)
    return order, np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def copies(place: Ints, size: Ints, take: Ints) -> Ints:
    """How often the row at this place (from 0) in the order of its class is taken, when `take` of its `size` rows are: copies of
    one class differ by at most one."""
    return np.asarray(take // size + (place < take % size), np.int64)
