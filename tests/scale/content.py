"""What the rows of a synthetic run hold, as a function of their numbers: any process makes any shard, and a row may be a copy of
one in another shard.

Of all rows some 2 % have the picture of an earlier row (half of these its caption too), 2 % one that looks like an earlier row's,
1 % are blank, 0.5 % could not be decoded; hashes of 2 % are of flat graphics, which share many of their bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]

EXACT, NEAR, BLANK, FAILED, FLAT = 0.02, 0.02, 0.01, 0.005, 0.02
UNIQUE = 1 / 3
"""Captions with a number of their own."""
GROUPS = 200
"""Kinds of pictures: embeddings lie around so many directions."""
NOISE = 0.6
"""Of an embedding beside the direction of its kind, in all."""
WRONG = 0.2
"""Captions of another picture."""


def hashed(numbers: NDArray[np.integer], purpose: int) -> Words:
    """uint64 [n]: splitmix64 of each number, another one for each purpose."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) + np.uint64((purpose + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
        x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def uniform(numbers: NDArray[np.integer], purpose: int) -> NDArray[np.float64]:
    """float64 [n], in [0, 1)."""
    return (hashed(numbers, purpose) >> np.uint64(11)).astype(np.float64) / (1 << 53)


@dataclass(frozen=True)
class Content:
    """What the rows of a shard hold; arrays [rows]."""

    row: Numbers
    """Their numbers in the run."""
    picture: Numbers
    """Which picture: where its bytes begin. Two rows with the same number have the same bytes."""
    looks_like: Numbers
    """The picture whose hash, thumbnail and embedding it has, about."""
    caption: Numbers
    """The row whose caption it has."""
    blank: NDArray[np.bool_]
    failed: NDArray[np.bool_]

    @classmethod
    def of(cls, row: Numbers) -> "Content":
        """Of these rows of the run."""
        kind, earlier = uniform(row, 1), (uniform(row, 2) * row).astype(np.int64)
        exact, near = kind < EXACT, (kind >= EXACT) & (kind < EXACT + NEAR)
        blank = (kind >= EXACT + NEAR) & (kind < EXACT + NEAR + BLANK)
        return cls(
            row, np.where(exact, earlier, row), np.where(exact | near, earlier, row),
            np.where(kind < EXACT / 2, earlier, row), blank, uniform(row, 3) < FAILED)

    @property
    def phash(self) -> Words:
        """Three of four blank pictures have the same one; what looks like another differs in up to four bits."""
        word = hashed(self.looks_like, 7)
        word = np.where(uniform(self.looks_like, 8) < FLAT, word & np.uint64((1 << 40) - 1), word)
        bits = hashed(self.row, 9)
        for shift in range(0, 24, 6):
            flipped = np.uint64(1) << (bits >> np.uint64(shift) & np.uint64(63))
            word = np.where(self.picture != self.looks_like, word ^ flipped, word)
        return np.where(self.blank, np.where(uniform(self.row, 10) < 0.75, np.uint64(1 << 63), hashed(self.row % 16, 11)), word)

    @property
    def thumbnail(self) -> NDArray[np.uint8]:
        """uint8 [rows, 768]: four fields of colour; one that looks like another is a little brighter. Blank ones are white."""
        fields = np.stack([hashed(self.looks_like, 12 + i) for i in range(2)], 1).view(np.uint8).reshape(-1, 16)[:, :12] % 240
        fields = fields + (self.picture != self.looks_like)[:, None].astype(np.uint8)
        rgb = fields.reshape(-1, 2, 1, 2, 1, 3).repeat(8, 2).repeat(8, 4).reshape(-1, 768)
        rgb[self.blank] = 255
        return rgb

    @property
    def size(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Width and height in pixels; those of copies are of other sizes, so that another row than the first may stay."""
        width = (200 * np.exp(1.5 * uniform(self.row % 4096, 14))).astype(np.int32)
        return width, (width * (0.5 + uniform(self.row % 1024, 15))).astype(np.int32)

    def embeddings(self, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unit rows of the pictures and of the captions, float32 [rows, dimension]; those of a pair are alike, but for some."""
        kinds = np.random.default_rng(0).standard_normal((GROUPS, dimension)).astype(np.float32)
        group = (GROUPS * uniform(self.looks_like, 16) ** 2).astype(np.int64)   # some kinds are much more common
        other = np.where(uniform(self.row, 17) < WRONG, (uniform(self.row, 18) * GROUPS).astype(np.int64), group)
        noise = [np.stack([uniform(self.looks_like, 100 * j + i) for i in range(dimension)], 1).astype(np.float32) - 0.5
                 for j in (1, 2)]
        image = unit(kinds[group]) + NOISE * unit(noise[0])
        return unit(image), unit(unit(kinds[other]) + NOISE * unit(noise[0]) + NOISE * unit(noise[1]))

    def text(self, texts: int) -> tuple[Numbers, NDArray[np.bool_]]:
        """Which of so many texts each caption is, by Zipf's law, and whether it has a number of its own behind."""
        return (texts ** uniform(self.caption, 19)).astype(np.int64) % texts, uniform(self.caption, 20) < UNIQUE


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows, float32 [n, d], with length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
