"""How many samples each class gives to a balanced sample of a tree of classes, from the top down (Vo et al. 2024, arXiv 2405.15613,
section 3.4).

A node shares its target out among its children as evenly as their numbers of rows allow. Which child gives one more is a hash of
(seed, node), so that the allocation needs nothing but counts per class. Which rows a class then gives is `cuts.py`.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import Draws, draws
from pipeline.errors import InputError
from pipeline.vectors import Ints


def cut(sizes: Ints, target: int) -> int:
    """The largest c with sum(min(c, s) for s in sizes) <= target; the largest size where the target is more than the sum.
    `sizes`: int64 [children]."""
    ordered = np.sort(sizes)
    remaining = target - (np.cumsum(ordered) - ordered)     # when every smaller one is taken whole
    children = np.arange(len(ordered), 0, -1)          # that share it
    over = np.flatnonzero(remaining < ordered * children)   # the first size that cannot be taken whole, with all above it
    if not len(over):
        return int(ordered[-1]) if len(ordered) else 0
    return int(remaining[over[0]] // children[over[0]])


def shares(sizes: Ints, target: int, drawn: Draws) -> Ints:
    """How many each child gives, int64 [children]: min(c, size), and one more from the children with the lowest draws among
    those that have more, so that the sum is the target (or all there is). Equal draws by the lower position."""
    c = cut(sizes, target)
    counts = np.minimum(sizes, c)
    larger = np.flatnonzero(sizes > c)
    extra = larger[np.argsort(drawn[larger], kind="stable")][: max(0, target - int(counts.sum()))]
    counts[extra] += 1
    return counts


def allocate(
    sizes: Ints, parents: Sequence[NDArray[np.int32]], target: int, *, seed: int, multiplier: int = 1
) -> Ints:
    """How many rows to take of each class, int64 [k]; they sum to the target, or to multiplier x all rows if that is less.

    `sizes` (int64 [k]) counts the rows of each class; `parents` has the position of the parent of each class (int32 [k]), of the
    parent of each of those (int32 [k2]), and so on up. A node counts with all rows below it, not with its number of children.
    Memory O(k). Raises InputError for a negative target or a multiplier below 1."""
    if target < 0 or multiplier < 1:
        raise InputError(f"a balanced sample needs a target >= 0 and a multiplier >= 1, not {target} and {multiplier}")
    level_sizes = [np.asarray(sizes, np.int64) * multiplier]
    for parent in parents:
        parent_sizes = np.zeros(int(parent.max(initial=-1)) + 1, np.int64)
        np.add.at(parent_sizes, parent, level_sizes[-1])
        level_sizes.append(parent_sizes)
    counts = shares(level_sizes[-1], target, _node_draws(level_sizes, len(parents), seed))
    for level in range(len(parents) - 1, -1, -1):
        counts = _shared_out(level_sizes[level], parents[level], counts, _node_draws(level_sizes, level, seed))
    return counts


def _node_draws(level_sizes: Sequence[Ints], level: int, seed: int) -> Draws:
    return draws(np.arange(len(level_sizes[level])), seed, level)


def _shared_out(sizes: Ints, parent: NDArray[np.int32], targets: Ints, drawn: Draws) -> Ints:
    """`shares` of the children of every parent."""
    order = np.argsort(parent, kind="stable")
    starts = np.searchsorted(parent[order], np.arange(len(targets) + 1))
    counts = np.zeros(len(sizes), np.int64)
    for target, (start, end) in zip(targets.tolist(), pairwise(starts.tolist()), strict=True):
        children = order[start:end]
        counts[children] = shares(sizes[children], target, drawn[children])
    return counts
