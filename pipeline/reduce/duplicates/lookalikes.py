"""Pairs of pictures that look alike: hashes within a radius, confirmed by the correlation of thumbnails; and which of them go.

The preferred row of a pair has more pixels, or else the smaller row id. Greedy in that order: a row goes only when a row that
*stays* is its duplicate, so chains of look-alikes don't collapse (in SemDeDup's published rule they do). Crops and mirrored copies
have other hashes, so they are not listed.

Pictures that few others may be like come with those pairs. Of those that are crowded, a row that a surviving row removes is not
compared any further, so a million pictures that are all alike make a million pairs, and not their square; they are compared in
blocks that shrink as the candidates grow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.search.hamming import CANDIDATES, HashSearch
from pipeline.vectors import Bools, Bytes, Ints

BLOCK = 256
TILE = 4096          # thumbnails of one matrix product


@dataclass(frozen=True)
class DuplicatePairs:
    """Pairs (row, of): `row` is a duplicate of the preferred row `of`. Parallel arrays."""

    row: Ints
    """i64[p]"""
    of: Ints
    """i64[p]"""
    hamming: NDArray[np.int32]
    """i32[p]: bits in which the hashes differ."""
    correlation: NDArray[np.float32]
    """f32[p]: Pearson, of the thumbnails."""
    removed: Bools
    """bool[p]: `of` stays, so `row` goes. False: `of` has itself gone, and this pair removes nobody."""

    def __len__(self) -> int:
        return len(self.row)

    @staticmethod
    def joined(parts: "Sequence[DuplicatePairs]") -> "DuplicatePairs":
        """The pairs of all parts, in order."""
        return DuplicatePairs(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(DuplicatePairs)))

    def where(self, chosen: NDArray[Any]) -> "DuplicatePairs":
        """The pairs at a mask or at positions."""
        return DuplicatePairs(*(getattr(self, f.name)[chosen] for f in fields(self)))


@dataclass(frozen=True)
class LookalikeRule:
    """When two pictures look alike; both bounds are inclusive."""

    radius: int = 8
    """Bits of the 64-bit perceptual hashes that may differ."""
    correlation: float = 0.97
    """Pearson, over the 768 values of 16 x 16 RGB thumbnails."""


def varied(thumbnails: Bytes) -> Bools:
    """bool[n]: which thumbnails uint8[n, 768] have more than one value: only these have a correlation."""
    return np.asarray(thumbnails.min(axis=1) < thumbnails.max(axis=1))


def correlations(a: Bytes, b: Bytes) -> NDArray[np.float64]:
    """Pearson correlation of each thumbnail of a with each of b, uint8[., 768]: f64[len(a), len(b)]. None may be constant.

    Shifted by 128, 768 products of bytes sum to less than 2^24: float32 adds them without rounding, in any order.
    """
    wide_a, wide_b = a.astype(np.float32) - 128, b.astype(np.float32) - 128
    product = (wide_a @ wide_b.T).astype(np.float64)
    (sum_a, spread_a), (sum_b, spread_b) = _moments(wide_a), _moments(wide_b)
    covariance = a.shape[1] * product - sum_a[:, None] * sum_b[None]
    return np.asarray(covariance / (spread_a[:, None] * spread_b[None]))


def paired_correlations(a: Bytes, b: Bytes) -> NDArray[np.float64]:
    """As `correlations`, of each thumbnail of a with the one at its place in b: f64[n]. The same bits."""
    wide_a, wide_b = a.astype(np.float32) - 128, b.astype(np.float32) - 128
    product = (wide_a * wide_b).sum(axis=1, dtype=np.float64)
    (sum_a, spread_a), (sum_b, spread_b) = _moments(wide_a), _moments(wide_b)
    return np.asarray((a.shape[1] * product - sum_a * sum_b) / (spread_a * spread_b))


def _moments(wide: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = wide.sum(axis=1, dtype=np.float64)
    square = (wide * wide).sum(axis=1, dtype=np.float64)
    return total, np.sqrt(wide.shape[1] * square - total * total)


@dataclass(frozen=True)
class Pictures:
    """The pictures in order of preference; a position is a place in that order. No thumbnail is constant."""

    hashes: Bytes
    """u8[n, 8]"""
    thumbnails: Bytes
    """u8[n, 768], in memory or mapped from a file."""
    rule: LookalikeRule

    def __len__(self) -> int:
        return len(self.hashes)

    def confirmed(self, row: Ints, of: Ints, bits: NDArray[np.int32]) -> DuplicatePairs:
        """Those of these pairs, i64[p] within the radius, whose thumbnails correlate; `removed` is to be set by the caller."""
        parts = [no_pairs()]
        for at in range(0, len(row), TILE):
            tile = slice(at, at + TILE)
            value = paired_correlations(self.thumbnails[row[tile]], self.thumbnails[of[tile]])
            parts.append(self._confirmed(row[tile], of[tile], bits[tile], value))
        return DuplicatePairs.joined(parts)

    def pairs(self, block: Ints, compared: HashSearch) -> DuplicatePairs:
        """Confirmed pairs of the block with the rows in `compared`; `removed` is to be set by the caller."""
        query, partner_of, bits = compared.candidates(self.hashes[block], self.rule.radius)
        partners, place = np.unique(partner_of, return_inverse=True)
        value = np.empty(len(partner_of))
        for at in range(0, len(partners), TILE):
            in_tile = (place >= at) & (place < at + TILE)
            tile = correlations(self.thumbnails[block], self.thumbnails[partners[at : at + TILE]])
            value[in_tile] = tile[query[in_tile], place[in_tile] - at]
        return self._confirmed(block[query], partner_of, bits, value)

    def pairs_within(self, block: Ints) -> DuplicatePairs:
        """Confirmed pairs inside the block, the later row of a pair as `row`, the earlier as `of`."""
        words = np.ascontiguousarray(self.hashes[block]).view(np.uint64)[:, 0]
        bits = np.bitwise_count(words[:, None] ^ words[None])
        row, of = np.nonzero(np.tril(bits <= self.rule.radius, -1))
        value = correlations(self.thumbnails[block], self.thumbnails[block])[row, of]
        return self._confirmed(block[row], block[of], bits[row, of].astype(np.int32), value)

    def _confirmed(self, row: Ints, of: Ints, bits: NDArray[np.int32], value: NDArray[np.float64]) -> DuplicatePairs:
        good = value >= self.rule.correlation
        return DuplicatePairs(row[good], of[good], bits[good], value[good].astype(np.float32), np.ones(int(good.sum()), bool))


def greedy(pictures: Pictures, crowded: Bools, known: DuplicatePairs) -> tuple[DuplicatePairs, Bools]:
    """Pairs of the pictures, and bool[n]: which of them go.

    `crowded`, bool[n]: pictures whose pairs with each other are found here; `known` has all others, confirmed, the less preferred
    picture as `row`, ordered by it.

    A picture goes when a preferred one that stays looks like it. Listed are all pairs with a partner that stays, and, for
    pictures that stay, those with a preferred partner that went.
    """
    gone = np.zeros(len(pictures), bool)
    stayed, went = HashSearch(), HashSearch()
    parts = [no_pairs()]
    places, at, seen = np.flatnonzero(crowded), 0, 0
    while at < len(pictures):
        size = max(16, min(BLOCK, CANDIDATES // max(1, len(stayed), len(went))))
        dense = places[seen : seen + size]
        seen += len(dense)
        end = int(places[seen]) if seen < len(places) else len(pictures)
        with_stayed, within = pictures.pairs(dense, stayed), pictures.pairs_within(dense)
        gone[with_stayed.row] = True
        listed = known.where(np.arange(*np.searchsorted(known.row, [at, end])))
        undecided = DuplicatePairs.joined([within, listed])
        order = np.argsort(undecided.row, kind="stable")   # by row, so `of` is decided
        for row, of in zip(undecided.row[order].tolist(), undecided.of[order].tolist(), strict=True):
            if not gone[of]:
                gone[row] = True
        staying, going = dense[~gone[dense]], dense[gone[dense]]
        parts += [with_stayed, undecided.where(~(gone[undecided.row] & gone[undecided.of])), pictures.pairs(staying, went)]
        stayed.add(staying, pictures.hashes[staying])
        went.add(going, pictures.hashes[going])
        at = end
    pairs = DuplicatePairs.joined(parts)
    return DuplicatePairs(pairs.row, pairs.of, pairs.hamming, pairs.correlation, ~gone[pairs.of]), gone


def causes(pairs: DuplicatePairs) -> DuplicatePairs:
    """Of each picture that goes, the pair with the most preferred one that removes it, by row."""
    removing = pairs.where(np.flatnonzero(pairs.removed))
    removing = removing.where(np.lexsort((removing.of, removing.row)))
    return removing.where(np.unique(removing.row, return_index=True)[1])


def no_pairs() -> DuplicatePairs:
    """None at all."""
    nothing = np.empty(0, np.int64)
    return DuplicatePairs(nothing, nothing, nothing.astype(np.int32), nothing.astype(np.float32), nothing.astype(bool))
