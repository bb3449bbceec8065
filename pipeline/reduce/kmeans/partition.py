"""A static run of blocks of rows: streams them past the centres, keeps which centre each row belongs to and nothing of the rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.draws import SAMPLE, drawn
from pipeline.errors import InputError
from pipeline.reduce.kmeans.device import Accelerator
from pipeline.reduce.kmeans.sums import Sums
from pipeline.search.device_centres import Window
from pipeline.search.nearest import Centres, assigned, assigned_near
from pipeline.vectors import CACHED_ROWS, Floats, Matrix
from pipeline.work import beat

WINDOW_BYTES = 32 << 20
"""Of float32 rows in memory at a time."""

Assigner = Callable[[Window, NDArray[np.int32]], NDArray[np.int32]]
"""Unit rows f32[n, d] and the centre of each until now -> its centre."""


class Block(Protocol):
    """Some rows of one file. Its name is the same in every process and run."""

    @property
    def name(self) -> str: ...

    def open(self) -> tuple[Matrix, NDArray[np.int64] | None]:
        """float16 or float32 [N, d], mapped or in memory, and which of its rows count (ascending; None: all)."""


@dataclass(frozen=True)
class Rows:
    """Rows in memory as a block."""

    matrix: Matrix
    name: str = "rows"

    def open(self) -> tuple[Matrix, NDArray[np.int64] | None]:
        return self.matrix, None


@dataclass(frozen=True)
class Share:
    """A seeded choice of rows: the same ones however the rows are parted."""

    seed: int
    part: float = 1.0
    """Of all rows, expected. Those of a smaller part are among those of a larger one."""

    def chosen(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these row numbers that were drawn."""
        if self.part >= 1:
            return rows
        return rows[drawn(rows, self.seed, SAMPLE, self.part)]


@dataclass(frozen=True)
class Far:
    """Rows far from their centre, the farthest first, no two alike."""

    similarity: NDArray[np.float64]
    rows: NDArray[np.int64]
    """Global row numbers."""
    vectors: Floats

    def first(self, m: int) -> "Far":
        """The m farthest different ones."""
        chosen = first_different(self.similarity, self.rows, self.vectors, m)
        return Far(self.similarity[chosen], self.rows[chosen], self.vectors[chosen])

    @staticmethod
    def joined(parts: Sequence["Far"]) -> "Far":
        return Far(
            np.concatenate([part.similarity for part in parts]), np.concatenate([part.rows for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


def first_different(values: NDArray[np.float64], ids: NDArray[np.int64], vectors: Floats, m: int) -> list[int]:
    """Positions of the m lowest values whose vectors differ, if not on their centre; equal values by the lower id."""
    chosen: dict[bytes, int] = {}
    for at in np.lexsort((ids, values)):
        if len(chosen) == m or values[at] >= ON_CENTRE:
            break
        chosen.setdefault(vectors[at].tobytes(), int(at))
    return list(chosen.values())


ON_CENTRE = 1 - 1e-6
"""Rows this similar to their centre are no use as another one."""


@dataclass
class Partition:
    """Holds 8 bytes per row and one window of float32 rows while it works; the rows stay in their blocks' mapped files."""

    blocks: Sequence[Block]
    first_row: int = 0
    """The global number of its first row."""
    window_bytes: int = WINDOW_BYTES
    assignment: NDArray[np.int32] | None = None
    """i32[n]: null until the first pass."""
    accelerator: Accelerator | None = None
    """Where passes run, if not on the CPU: the partition's own, with centres that are there too."""
    ends: NDArray[np.int64] = field(init=False)
    reciprocal: Floats = field(init=False)
    """1 / length of each row; 0 where it was not seen yet."""

    def __post_init__(self) -> None:
        sizes, self.dimension = [], 0
        for block in self.blocks:
            matrix, rows = block.open()
            sizes.append(len(matrix) if rows is None else len(rows))
            self.dimension = self.dimension or matrix.shape[1]
            if matrix.shape[1] != self.dimension:
                raise InputError(f"{block.name} has rows of {matrix.shape[1]} values, the others have {self.dimension}")
        self.ends = np.cumsum(np.array(sizes, np.int64))
        self.reciprocal = np.zeros(len(self), np.float32)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def assign(self, assigner: Assigner, k: int, share: Share) -> tuple[Sums, int, int]:
        """Gives the rows of the share their centre: what they add up to, how many changed theirs, how many were looked at."""
        changed, looked = 0, 0
        if self.assignment is None:
            self.assignment = np.full(len(self), -1, np.int32)
        here = self.accelerator
        sums = here.sums(k, self.dimension) if here else Sums.zero(k, self.dimension)
        for where, rows in here.windows(self, share) if here else self.windows(share):
            before = self.assignment[where]
            found = assigner(rows, before)
            self.assignment[where] = found
            changed += int((found != before).sum())
            looked += len(where)
            sums.add_rows(rows, found)
        return sums.added(), changed, looked

    def sums(self, k: int, share: Share) -> Sums:
        """Those of the last pass over the share once more."""
        assert self.assignment is not None
        sums = Sums.zero(k, self.dimension)
        for where, rows in self.windows(share):
            sums.add_rows(rows, self.assignment[where])
        return sums

    def similarity(self, centres: Floats) -> Iterator[tuple[NDArray[np.int64], Floats, NDArray[np.float64]]]:
        """(row numbers in the partition, unit rows, cosine to their centre) of some rows at a time."""
        assert self.assignment is not None
        for where, rows in self.windows(Share(0)):
            values = np.empty(len(where))
            for at in range(0, len(where), CACHED_ROWS):
                part = slice(at, at + CACHED_ROWS)
                near = centres[self.assignment[where[part]]]
                values[part] = (rows[part].astype(np.float64) * near).sum(axis=1)
            yield where, rows, values

    def farthest(self, centres: Floats, m: int, share: Share) -> Far:
        """At most m rows of the share, by exact similarity to their centre."""
        found = Far(np.empty(0), np.empty(0, np.int64), np.empty((0, self.dimension), np.float32))
        for where, rows, values in self.similarity(centres):
            outside = np.setdiff1d(where, share.chosen(self.first_row + where) - self.first_row, assume_unique=True) - where[0]
            values[outside] = ON_CENTRE
            new = first_different(values, where, rows, m)
            found = Far.joined([found, Far(values[new], self.first_row + where[new], rows[new])]).first(m)
        return found

    def sample(self, share: Share) -> Matrix:
        """The rows of the share as they are stored, all of them in memory."""
        parts = list(self.samples(share, 1 << 62))
        return parts[0] if parts else np.empty((0, self.dimension), np.float32)

    def samples(self, share: Share, most: int) -> Iterator[Matrix]:
        """The same in parts of about so many bytes, or a block where that has more."""
        held: list[Matrix] = []
        for _, matrix, at in self.pieces(share):
            held.append(np.asarray(matrix[at]))
            if sum(some.nbytes for some in held) >= most:
                yield np.concatenate(held)
                held = []
        if held:
            yield np.concatenate(held)

    def windows(self, share: Share) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """(row numbers in the partition, unit rows f32); the rows are overwritten by the next ones."""
        size = max(1, self.window_bytes // (4 * max(1, self.dimension)))
        buffer = np.empty((min(size, max(1, len(self))), self.dimension), np.float32)
        held: list[NDArray[np.int64]] = []
        filled = 0
        for where, matrix, at in self.pieces(share):
            taken = 0
            while taken < len(where):
                some = where[taken : taken + size - filled]
                rows = buffer[filled : filled + len(some)]
                source = slice(at.start + taken, at.start + taken + len(some)) if isinstance(at, slice) else at[taken:][: len(some)]
                self._fill(rows, matrix[source], some)
                held.append(some)
                filled, taken = filled + len(some), taken + len(some)
                if filled == size:
                    yield np.concatenate(held), buffer
                    beat()
                    held, filled = [], 0
        if filled:
            yield np.concatenate(held), buffer[:filled]
            beat()

    def pieces(self, share: Share, after: int = 0) -> Iterator[tuple[NDArray[np.int64], Matrix, slice | NDArray[np.int64]]]:
        """(row numbers in the partition, matrix, the same rows in it) per block, from row number `after` on."""
        start = 0
        for block, end in zip(self.blocks, self.ends, strict=True):
            first = max(start, after)
            if first < end or first == start:
                where = share.chosen(np.arange(self.first_row + first, self.first_row + end)) - self.first_row
                matrix, rows = block.open()
                if rows is not None:
                    yield where, matrix, rows[where - start]
                elif len(where) == end - first:
                    yield where, matrix, slice(first - start, end - start)
                else:
                    yield where, matrix, where - start
            start = int(end)

    def _fill(self, out: Floats, stored: Matrix, where: NDArray[np.int64]) -> None:
        """Unit rows from stored ones. A row's reciprocal length is float32, so that its bits depend on nothing but the row."""
        from pipeline.models.matrices.fast_sums import widen  # torch takes a second to import

        known = self.reciprocal[where]
        for at in range(0, len(out), CACHED_ROWS):
            part = slice(at, at + CACHED_ROWS)
            rows = stored[part]
            if rows.dtype == np.float16:
                widen(rows, out[part])
                rows = out[part]
            elif rows.dtype != np.float32:
                rows = rows.astype(np.float32)
            if not known[part].all():
                known[part] = self.measured(rows, where[part])
            np.multiply(rows, known[part, None], out=out[part])
        self.reciprocal[where] = known

    def measured(self, rows: Floats, where: NDArray[np.int64]) -> Floats:
        wide = rows.astype(np.float64)
        squares = np.einsum("nd,nd->n", wide, wide)
        bad = np.flatnonzero(~(np.isfinite(squares) & (squares > 0)))
        if len(bad):
            row = int(where[bad[0]])
            block = int(np.searchsorted(self.ends, row, side="right"))
            inside = row - (int(self.ends[block - 1]) if block else 0)
            raise InputError(
                f"clustering needs finite, non-zero embeddings; row {inside} of {self.blocks[block].name} is not: "
                "leave out rows whose embedding is not valid"
            )
        reciprocal: Floats = (1 / np.sqrt(squares)).astype(np.float32)
        return reciprocal


def exact(centres: Centres) -> Assigner:
    """The nearest of all centres."""
    return lambda rows, _: assigned(rows, centres)


def near(centres: Centres, neighbours: NDArray[np.int32]) -> Assigner:
    """The nearest of those around the row's centre until now."""
    return lambda rows, before: assigned_near(rows, centres, neighbours, before)


def coarse(centres: Centres, cells: Centres, lists: NDArray[np.int32]) -> Assigner:
    """The nearest of the centres listed for the row's nearest cell."""
    return lambda rows, _: assigned_near(rows, centres, lists, assigned(rows, cells))


def remaining(centres: Centres, keep: NDArray[np.bool_]) -> Assigner:
    """After the centres not in `keep` (bool [k before]) are gone: their rows go to the nearest of `centres`, the others stay."""
    renumbered = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)

    def assigner(rows: Window, before: NDArray[np.int32]) -> NDArray[np.int32]:
        found = renumbered[before]
        homeless = np.flatnonzero(found < 0)
        if len(homeless):
            found[homeless] = assigned(rows[homeless], centres)
        return found

    return assigner
