"""All pairs of 64-bit hashes within a Hamming radius, without comparing all of them: multi-index hashing (Norouzi, Punjani and
Fleet 2014), with a radius for each band.

Cut into m bands, two hashes that differ in at most r bits differ in at most r_i bits of some band i, whenever the r_i + 1 add up
to r + 1: were there at least r_i + 1 in every band, there would be r + 1 in all. So nothing is missed. A hash is compared with
those in the lists of its band's value and of the values at most r_i bits away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from math import comb
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Bools, Ints

Hashes = NDArray[np.uint64]
BITS = 64
WIDEST = 22
"""Bits of a band: a list for each of its values takes some 50 bytes."""
COMPARED = 1 << 21
"""Hashes that the queries of one search are compared with, at most, unless a single one has more: so many pairs can come of it."""
QUERIES = 4096
PROBE, COMPARE = 330.0, 0.9
"""Nanoseconds to go to a list and to compare with one hash of it: what a plan weighs. Measured on one core of 2.7 GHz."""
SKEW = 2.5
"""How many times more than uniform hashes perceptual ones share a list, once `spread`; measured on blends of the sample's."""
ALL_ALIKE = 20
"""From this radius on, lists would hold nearly everything: no bands."""

_ORDER = np.random.Generator(np.random.PCG64(64)).permutation(BITS - 1).tolist()
"""Bits that go together in a picture are put into several bands. The highest is the same in nearly every picture: it goes last."""


class Band(NamedTuple):
    """Some bits that follow each other, and how many of them may differ."""

    shift: int
    width: int
    radius: int

    def values(self, hashes: Hashes) -> Ints:
        """i64 [n]: the bits of each hash, as a number below 2^width."""
        return np.asarray((hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1), np.int64)

    def near(self, bits: Hashes) -> Bools:
        """Whether so few of these bits differ: `bits` are those in which two hashes differ, uint64 [n]."""
        mask = np.uint64(((1 << self.width) - 1) << self.shift)
        return np.asarray(np.bitwise_count(bits & mask) <= self.radius)

    @property
    def flips(self) -> Ints:
        """i64: what to change in a value to have each of those that near ones have, itself first."""
        return flips(self.width, self.radius)


def flips(width: int, radius: int) -> Ints:
    """i64: the numbers below 2^width that have at most so many bits, those with fewer first."""
    return np.array([sum(1 << bit for bit in chosen) for size in range(radius + 1) for chosen in combinations(range(width), size)])


def spread(hashes: Hashes) -> Hashes:
    """The hashes, uint64 [n], with their bits in another order, the same for all: distances stay as they are, and neither rows nor
    columns of frequencies are in one band."""
    out = hashes & np.uint64(1 << (BITS - 1))
    for to, bit in enumerate(_ORDER):
        out |= ((hashes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(to)
    return out


def bands_for(rows: int, radius: int) -> tuple[Band, ...]:
    """The bands that find all pairs of so many hashes for the least work, about; none where the radius is so wide that they would
    not help."""
    if radius >= ALL_ALIKE:
        return ()
    plans = (_banded(radius, count, rows) for count in range(1, radius + 2))
    return min(plans, key=lambda bands: sum(_cost(band.width, band.radius, rows) for band in bands))


def _banded(radius: int, count: int, rows: int) -> tuple[Band, ...]:
    """So many bands: even ones at first, of which one gives a bit to another for as long as that makes less work."""
    each, more = divmod(radius + 1, count)
    radii = [each] * more + [each - 1] * (count - more)
    widths = [min(WIDEST, (BITS - 1) // count)] * count
    spare = BITS - 1 - sum(widths)
    while True:
        costs = [_cost(width, one, rows) for width, one in zip(widths, radii, strict=True)]
        gains = [cost - _cost(width + 1, one, rows) if width < WIDEST else -np.inf
                 for cost, width, one in zip(costs, widths, radii, strict=True)]
        losses = [_cost(width - 1, one, rows) - cost if width > 0 else np.inf
                  for cost, width, one in zip(costs, widths, radii, strict=True)]
        best, change = 1e-6 * sum(costs), (-1, -1)   # less would be rounding, and might go on for ever
        for taker, gain in enumerate(gains):
            for giver, loss in [(-1, 0.0)] * (spare > 0) + list(enumerate(losses)):
                if giver != taker and gain - loss > best:
                    best, change = gain - loss, (taker, giver)
        if change[0] < 0:
            break
        widths[change[0]] += 1
        if change[1] < 0:
            spare -= 1
        else:
            widths[change[1]] -= 1
    starts = np.cumsum([0, *widths])[:-1].tolist()
    return tuple(map(Band, starts, widths, radii))


def _cost(width: int, radius: int, rows: int) -> float:
    lists = sum(comb(width, size) for size in range(min(radius, width) + 1))
    return float(lists * (PROBE + COMPARE * SKEW * rows / 2**width))


class Found(NamedTuple):
    """Pairs of one search: places of the queries and of the hashes they are near, i64 [p], and the bits that differ, i32 [p]."""

    query: Ints
    base: Ints
    bits: NDArray[np.int32]

    def where(self, chosen: Bools) -> "Found":
        """The pairs at a mask."""
        return Found(self.query[chosen], self.base[chosen], self.bits[chosen])


@dataclass(frozen=True)
class BandIndex:
    """Hashes by the values of one band, of which the highest `fixed` bits are `part` in all of them."""

    bands: Sequence[Band]
    number: int
    hashes: Hashes
    """uint64 [n], by the value of the band."""
    fixed: int = 0
    part: int = 0

    @property
    def band(self) -> Band:
        return self.bands[self.number]

    @cached_property
    def _free(self) -> int:
        return self.band.width - self.fixed

    @cached_property
    def _index(self) -> Any:
        index: Any = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(BITS), BITS, 1 << self._free)
        index.own_fields = False
        index.is_trained = True   # the values are the lists: nothing is learnt
        lists = np.ascontiguousarray(self._lists)
        places = np.arange(len(lists))
        if len(lists):
            index.add_core(len(lists), faiss.swig_ptr(self.hashes.view(np.uint8)), faiss.swig_ptr(places), faiss.swig_ptr(lists))
        return index

    @cached_property
    def _lists(self) -> Ints:
        return self.band.values(self.hashes) & ((1 << self._free) - 1)

    @cached_property
    def _sizes(self) -> Ints:
        return np.bincount(self._lists, minlength=1 << self._free)

    def pairs(self, queries: Hashes, radius: int, *, itself: bool) -> Iterator[Found]:
        """All pairs of queries, uint64 [m] by the value of the band, and hashes of the index that are within the radius by this
        band and by none before it. `itself`: the queries are the hashes of the index, and each pair is wanted once.

        A search is of as many queries as meet `COMPARED` hashes, so memory is bounded however many share a list."""
        values = self.band.values(queries)
        for start in range(0, len(queries), QUERIES):
            probes = self._probes(values[start : start + QUERIES], itself)
            met = np.where(probes >= 0, self._sizes[probes], 0).sum(axis=1)
            ends = _cuts(met)
            for first, last in pairwise(ends):
                yield self._searched(queries, probes[first:last], start + first, radius, itself)

    def _probes(self, values: Ints, itself: bool) -> Ints:
        """i64 [m, lists]: the lists that each value is near; -1 for those of other parts, and with `itself` for those before it."""
        probes = values[:, None] ^ self.band.flips
        wanted = (probes >> self._free) == self.part
        if itself:
            wanted &= probes >= values[:, None]
        return np.where(wanted, probes & ((1 << self._free) - 1), -1)

    def _searched(self, queries: Hashes, probes: Ints, at: int, radius: int, itself: bool) -> Found:
        index = self._index
        index.nprobe = probes.shape[1]
        asked = np.ascontiguousarray(queries[at : at + len(probes)])
        limits, distances, partners = index.range_search_preassigned(
            asked.view(np.uint8).reshape(-1, 8), radius + 1, np.ascontiguousarray(probes), None)   # exclusive
        counts: Ints = np.asarray(limits[1:], np.int64) - np.asarray(limits[:-1], np.int64)
        query = np.repeat(np.arange(at, at + len(probes)), counts)
        first = self._first(queries[query], self.hashes[partners])
        if itself:
            # In its own list, a query meets itself, and every other one from both sides.
            own = self._lists[query] == self._lists[partners]
            first &= ~own | (query < partners)
        return Found(query[first], partners[first], distances[first].astype(np.int32))

    def _first(self, one: Hashes, other: Hashes) -> Bools:
        """Whether no band before this one finds a pair."""
        first = np.ones(len(one), bool)
        for band in self.bands[: self.number]:
            first &= ~band.near(one ^ other)
        return first


def _cuts(met: Ints) -> list[int]:
    """Where to cut queries, so that those between two cuts meet at most COMPARED hashes together; one that has more is alone."""
    cuts, total = [0], 0
    for at, count in enumerate(met.tolist()):
        if total + count > COMPARED and at > cuts[-1]:
            cuts.append(at)
            total = 0
        total += count
    return [*cuts, len(met)]
