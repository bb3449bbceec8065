"""In which order the samples of an epoch are fed. Pure index arithmetic: what it takes does not grow with the samples.

Samples are numbered through all shards. `block` neighbours are read together. The blocks are put in random order by a bijection
that is computed, not stored (a Feistel network that walks its cycles, Black and Rogaway 2002, §3 and §4), and the samples of a
`window` of such blocks, which come from all over the set, are shuffled once more. So a reader asks its store for whole blocks and
holds the bytes of one window, and the order follows from (seed, epoch, counts, block, window) alone: not from who reads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.draws import draws
from pipeline.vectors import Ints

ROUNDS = 6
"""Of the Feistel network. Four make it pseudo-random (Luby and Rackoff 1988); small sets have little to mix by."""


@dataclass(frozen=True)
class Order:
    """The order of one epoch over shards of `counts` samples."""

    counts: tuple[int, ...]
    """Samples of each shard."""
    seed: int = 0
    epoch: int = 0
    block: int = 32
    """Samples that are neighbours in a shard and are read together."""
    window: int = 2048
    """Samples among which is shuffled, a multiple of `block`."""
    shuffle: bool = True
    """False: shard by shard, as they are."""

    def __post_init__(self) -> None:
        if self.block < 1 or self.window < self.block or self.window % self.block:
            raise ValueError(f"window={self.window}: give a multiple of block={self.block}, both at least 1")

    @property
    def total(self) -> int:
        """Samples of all shards."""
        return int(self.offsets[-1])

    @cached_property
    def offsets(self) -> Ints:
        """i64 [shards + 1]: the number of the first sample of each shard, and at the end the total."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)]).astype(np.int64)

    def located(self, samples: Ints) -> tuple[Ints, Ints]:
        """The shard i64[n] and the row in it i64[n] of sample numbers i64[n]."""
        shard = np.searchsorted(self.offsets, samples, side="right") - 1
        return shard, samples - self.offsets[shard]

    def windows(self, start: int, stop: int) -> Iterator[Ints]:
        """The sample numbers at the positions [start, stop) of the order, i64[n] for each window, the first and the last of which
        may be parts."""
        number = self._window_at(start) if start < stop else 0
        while start < stop:
            begin = self._begin(number)
            samples = self._window(number)[start - begin : stop - begin]
            yield samples
            start += len(samples)
            number += 1

    @property
    def _blocks(self) -> int:
        return -(-self.total // self.block)

    @cached_property
    def _short_place(self) -> int:
        """Where the last block lies, which may have fewer samples: blocks behind it begin earlier."""
        if not self.shuffle:
            return self._blocks - 1
        last = np.array([self._blocks - 1], np.int64)
        return int(_bijection(last, self._blocks, self._keys[::-1])[0])

    @cached_property
    def _keys(self) -> Ints:
        """i64[ROUNDS]: what the rounds of the network mix in."""
        return draws(np.arange(ROUNDS), self.seed, self.epoch).view(np.int64)

    def _begin(self, window: int) -> int:
        """The position of the first sample of a window."""
        place = min(window * (self.window // self.block), self._blocks)
        missing = self._blocks * self.block - self.total
        return place * self.block - missing * (self._short_place < place)

    def _window_at(self, position: int) -> int:
        number = position // self.window
        return number + (position >= self._begin(number + 1))

    def _window(self, number: int) -> Ints:
        """i64[n]: the samples of a window, in order."""
        width = self.window // self.block
        places = np.arange(number * width, min((number + 1) * width, self._blocks), dtype=np.int64)
        blocks = _bijection(places, self._blocks, self._keys) if self.shuffle else places
        samples = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        samples = samples[samples < self.total]
        if self.shuffle:
            seed = np.random.SeedSequence([self.seed % 2**64, self.epoch, number])
            samples = np.random.default_rng(seed).permutation(samples)
        return samples


def _bijection(values: Ints, size: int, keys: Sequence[int] | Ints) -> Ints:
    """i64[n]: where a pseudo-random bijection of [0, size) takes these numbers i64[n]; with the keys in reverse, back.

    A balanced Feistel network permutes [0, 4^b) for the smallest b that has room; a number that leaves [0, size) goes through it
    again until it is back, so it stays one to one."""
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    found = values.copy()
    outside = np.ones(len(found), bool)
    while outside.any():
        found[outside] = _network(found[outside], half, keys)
        outside = found >= size
    return found


def _network(values: Ints, half: int, keys: Sequence[int] | Ints) -> Ints:
    """One pass of the network. The halves are swapped at the end, so that the keys in reverse undo it."""
    mask = (1 << half) - 1
    left, right = values >> half, values & mask
    for key in keys:
        mixed = draws(right, int(key), 0) >> np.uint64(64 - half)
        left, right = right, left ^ mixed.astype(np.int64)
    return (right << half) | left
