"""How duplicates were found before: all of a run in one process, every look compared with all that stay. What is found by parts is
compared with this.

"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.reduce.duplicates.lookalikes import BLOCK, DuplicatePairs, LookalikeRule, no_pairs, varied
from pipeline.reduce.duplicates.lookalikes import Pictures as ProductPictures
from pipeline.search.hamming import CANDIDATES, HashSearch
from pipeline.vectors import Bools, Bytes, Ints


@dataclass(frozen=True)
class Pictures:
    """What is compared, one entry per row of the run, in row-id order."""

    uid: pa.Array
    """large_string[n]"""
    sha256: pa.Array
    """large_string[n]"""
    phash: NDArray[np.uint64]
    """uint64[n]: perceptual hashes."""
    thumbnail: Bytes
    """uint8[n, 768]"""
    pixels: Ints
    """i64[n]: width times height."""
    valid: Bools
    """bool[n]: rows whose hashes are all there; the others are nobody's duplicate."""


@dataclass(frozen=True)
class Duplicates:
    """The pairs, by row id, and the rows that go.

    An exact duplicate is listed once, with the preferred row of its group, so m equal rows make m - 1 pairs. Near pairs
    are between those preferred rows, and rows of equal hash and thumbnail are listed once in the same way.
    """

    exact_pairs: DuplicatePairs
    near_pairs: DuplicatePairs
    exact: Bools
    """bool[n]: a preferred row has the same bytes."""
    near: Bools
    """bool[n]: of the rows that `exact` leaves, those that look like a preferred row that stays."""


def find_duplicates(pictures: Pictures, *, radius: int = 8, correlation: float = 0.97, near: bool = True) -> Duplicates:
    """All duplicates of a run. Near are those of which at most `radius` of 64 bits of the hashes differ, and whose thumbnails have
    at least this Pearson correlation; without `near` none is."""
    order = _preferred_first(pictures)
    exact = _stars(order, _numbered(pictures.sha256)[order])
    if not near:
        removed = np.zeros(len(pictures.valid), bool)
        removed[exact.row] = True
        return Duplicates(_by_row(exact), no_pairs(), removed, np.zeros_like(removed))
    order = _without(order, exact)
    looks = order[varied(pictures.thumbnail[order])]
    equal_looks = _stars(looks, _look_numbers(pictures, looks))
    looks = _without(looks, equal_looks)
    alike, gone = greedy_before(pictures.phash[looks], pictures.thumbnail[looks], LookalikeRule(radius, correlation))
    alike = replace(alike, row=looks[alike.row], of=looks[alike.of])
    equal_looks = _retargeted(equal_looks, alike.where(alike.removed))
    masks = np.zeros((2, len(pictures.valid)), bool)
    masks[0, exact.row] = masks[1, equal_looks.row] = masks[1, looks[gone]] = True
    return Duplicates(_by_row(exact), _by_row(DuplicatePairs.joined([equal_looks, alike])), masks[0], masks[1])


def _preferred_first(pictures: Pictures) -> Ints:
    """The valid rows, most pixels first, then by row id."""
    rows = np.flatnonzero(pictures.valid)
    return rows[np.argsort(-pictures.pixels[rows], kind="stable")]


def _numbered(values: pa.Array) -> Ints:
    """i64[n]: equal numbers for equal strings; -1 for null."""
    return np.asarray(values.dictionary_encode().indices.fill_null(-1), np.int64)


def _look_numbers(pictures: Pictures, rows: Ints) -> Ints:
    """i64[m]: equal numbers for rows of equal perceptual hash and thumbnail."""
    if not len(rows):
        return rows
    hashes = np.ascontiguousarray(pictures.phash[rows]).view(np.uint8).reshape(-1, 8)
    look = np.concatenate([hashes, pictures.thumbnail[rows]], axis=1)
    return np.unique(look.view(np.dtype((np.void, look.shape[1])))[:, 0], return_inverse=True)[1]


def _stars(order: Ints, group: Ints) -> DuplicatePairs:
    """A pair with the first row of its group for every other row. Memory grows with the rows, whatever the groups' sizes."""
    by_group = np.argsort(group, kind="stable")
    rows, group = order[by_group], group[by_group]
    first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(rows) else np.empty(0, np.int64)
    sizes = np.diff(np.append(first, len(rows)))
    of = np.repeat(rows[first], sizes)
    repeats = rows != of
    n = int(repeats.sum())
    return DuplicatePairs(rows[repeats], of[repeats], np.zeros(n, np.int32), np.ones(n, np.float32), np.ones(n, bool))


def _without(order: Ints, pairs: DuplicatePairs) -> Ints:
    return order[~np.isin(order, pairs.row)]


def _retargeted(equal_looks: DuplicatePairs, removing: DuplicatePairs) -> DuplicatePairs:
    """Rows that look exactly like one that went: paired with what made that one go, at the same distance."""
    went, first = np.unique(removing.row, return_index=True)
    moved = np.isin(equal_looks.of, went)
    cause = removing.where(first[np.searchsorted(went, equal_looks.of[moved])])
    staying = equal_looks.where(~moved)
    return DuplicatePairs.joined([staying, replace(cause, row=equal_looks.row[moved])])


def _by_row(pairs: DuplicatePairs) -> DuplicatePairs:
    return pairs.where(np.lexsort((pairs.of, pairs.row)))


def greedy_before(phash: NDArray[np.uint64], thumbnails: Bytes, rule: LookalikeRule) -> tuple[DuplicatePairs, Bools]:
    """Confirmed pairs of pictures (hashes uint64[n], thumbnails uint8[n, 768]) in order of preference, none constant, and bool[n]:
    which of them go.

    A picture goes when a preferred one that stays looks like it. Listed are all pairs with a partner that stays, and, for
    pictures that stay, those with a preferred partner that went.
    """
    pictures = ProductPictures(np.ascontiguousarray(phash).view(np.uint8).reshape(-1, 8), thumbnails, rule)
    gone = np.zeros(len(phash), bool)
    stayed, went = HashSearch(), HashSearch()
    parts: list[DuplicatePairs] = []
    at = 0
    while at < len(phash):
        size = max(16, min(BLOCK, CANDIDATES // max(1, len(stayed), len(went))))
        block = np.arange(at, min(at + size, len(phash)))
        at = int(block[-1]) + 1
        with_stayed, within = pictures.pairs(block, stayed), pictures.pairs_within(block)
        gone[with_stayed.row] = True
        for row, of in zip(within.row, within.of, strict=True):   # by row, so `of` is decided
            gone[row] |= not gone[of]
        staying = block[~gone[block]]
        chains = pictures.pairs(staying, went)
        parts += [with_stayed, within.where(~(gone[within.row] & gone[within.of])), chains]
        stayed.add(staying, pictures.hashes[staying])
        went.add(block[gone[block]], pictures.hashes[block[gone[block]]])
    pairs = DuplicatePairs.joined(parts) if parts else no_pairs()
    return DuplicatePairs(pairs.row, pairs.of, pairs.hamming, pairs.correlation, ~gone[pairs.of]), gone
