"""A static run of blocks of rows: streams them past the centres, keeps which centre each row belongs to and nothing of the rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pipeline.draws import SAMPLE, drawn
from pipeline.errors import InputError
from pipeline.models.matrices.torch_or_numpy import widen
from pipeline.reduce.kmeans.device import Accelerator
from pipeline.reduce.kmeans.sums import Sums
from pipeline.search.device_centres import Window
from pipeline.search.nearest import Centres, assigned, assigned_near
from pipeline.vectors import CACHED_ROWS, Bools, Doubles, Floats, Ids, Ints, Matrix
from pipeline.work import beat

WINDOW_BYTES = 32 << 20
"""Bytes of float32 rows in memory at a time."""

Assigner = Callable[[Window, Ids], Ids]
"""Unit rows f32[n, d] and the centre of each until now, i32[n] -> the centre of each, i32[n]."""


class Block(Protocol):
    """Some rows of one file."""

    @property
    def name(self) -> str:
        """The same in every process and run."""

    def open(self) -> tuple[Matrix, Ints | None]:
        """f16 or f32 [N, d], mapped or in memory, and which of its rows count, i64[n] (ascending; None: all)."""


@dataclass(frozen=True)
class ArrayBlock:
    """Rows in memory as a block."""

    matrix: Matrix
    name: str = "rows"

    def open(self) -> tuple[Matrix, Ints | None]:
        """See `Block.open`."""
        return self.matrix, None


@dataclass(frozen=True)
class RowSample:
    """A seeded choice of rows: the same ones however the rows are parted."""

    seed: int
    part: float = 1.0
    """Expected share of all rows (0..1). The rows of a smaller part are among those of a larger one."""

    def chosen(self, rows: Ints) -> Ints:
        """Those of these row numbers i64[n] that are in the sample, in their order."""
        if self.part >= 1:
            return rows
        return rows[drawn(rows, self.seed, SAMPLE, self.part)]


@dataclass(frozen=True)
class FarthestRows:
    """Rows far from their centre, the farthest first, no two equal."""

    similarity: Doubles
    """f64[m]: the cosine of each to its centre."""
    rows: Ints
    """i64[m]: global row numbers."""
    vectors: Floats
    """f32[m, d], unit length."""

    def first(self, m: int) -> "FarthestRows":
        """The m farthest rows that differ."""
        chosen = first_different(self.similarity, self.rows, self.vectors, m)
        return FarthestRows(self.similarity[chosen], self.rows[chosen], self.vectors[chosen])

    @staticmethod
    def joined(parts: Sequence["FarthestRows"]) -> "FarthestRows":
        """The rows of all parts, one part after another: in no order until `first` is taken."""
        return FarthestRows(
            np.concatenate([part.similarity for part in parts]), np.concatenate([part.rows for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )


def first_different(values: Doubles, ids: Ints, vectors: Floats, m: int) -> list[int]:
    """Positions of the m lowest values whose vectors differ, if not on their centre; equal values by the lower id."""
    chosen: dict[bytes, int] = {}
    for at in np.lexsort((ids, values)):
        if len(chosen) == m or values[at] >= ON_CENTRE:
            break
        chosen.setdefault(vectors[at].tobytes(), int(at))
    return list(chosen.values())


ON_CENTRE = 1 - 1e-6
"""Rows as similar to their centre as this are of no use as another one."""


@dataclass
class Partition:
    """Holds 8 bytes per row and one window of float32 rows while it works; the rows stay in their blocks' mapped files."""

    blocks: Sequence[Block]
    first_row: int = 0
    """The global number of its first row."""
    window_bytes: int = WINDOW_BYTES
    assignment: Ids | None = None
    """i32[n]: null until the first pass."""
    accelerator: Accelerator | None = None
    """Where passes run, if not on the CPU: the partition's own, with centres that are there too."""
    ends: Ints = field(init=False)
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

    @property
    def work(self) -> int:
        """Values that a fit of some 25 passes goes through."""
        return 25 * len(self) * self.dimension

    def assign(self, assigner: Assigner, k: int, sample: RowSample) -> tuple[Sums, int, int]:
        """Assigns each row of the sample to a centre: the sums of the rows, how many changed their centre, how many were
        compared."""
        changed, compared = 0, 0
        if self.assignment is None:
            self.assignment = np.full(len(self), -1, np.int32)
        accelerator = self.accelerator
        sums = accelerator.sums(k, self.dimension) if accelerator else Sums.zero(k, self.dimension)
        for where, rows in accelerator.windows(self, sample) if accelerator else self.windows(sample):
            previous = self.assignment[where]
            assignment = assigner(rows, previous)
            self.assignment[where] = assignment
            changed += int((assignment != previous).sum())
            compared += len(where)
            sums.add_rows(rows, assignment)
        return sums.added(), changed, compared

    def sums(self, k: int, sample: RowSample) -> Sums:
        """The sums of the last pass over the sample once more, for k centres."""
        assert self.assignment is not None
        sums = Sums.zero(k, self.dimension)
        for where, rows in self.windows(sample):
            sums.add_rows(rows, self.assignment[where])
        return sums

    def similarity(self, centres: Floats) -> Iterator[tuple[Ints, Floats, Doubles]]:
        """(row numbers i64[n] in the partition, unit rows f32[n, d], cosine of each to its centre f64[n]), a window at a time."""
        assert self.assignment is not None
        for where, rows in self.windows(RowSample(0)):
            values = np.empty(len(where))
            for at in range(0, len(where), CACHED_ROWS):
                part = slice(at, at + CACHED_ROWS)
                near = centres[self.assignment[where[part]]]
                values[part] = (rows[part].astype(np.float64) * near).sum(axis=1)
            yield where, rows, values

    def farthest(self, centres: Floats, m: int, sample: RowSample) -> FarthestRows:
        """At most m rows of the sample, those with the least exact cosine to their centre."""
        farthest = FarthestRows(np.empty(0), np.empty(0, np.int64), np.empty((0, self.dimension), np.float32))
        for where, rows, values in self.similarity(centres):
            outside = np.setdiff1d(where, sample.chosen(self.first_row + where) - self.first_row, assume_unique=True) - where[0]
            values[outside] = ON_CENTRE
            new = first_different(values, where, rows, m)
            farthest = FarthestRows.joined([farthest, FarthestRows(values[new], self.first_row + where[new], rows[new])]).first(m)
        return farthest

    def sample(self, sample: RowSample) -> Matrix:
        """The rows of the sample as they are stored, f16 or f32 [n, d], all of them in memory."""
        parts = list(self.samples(sample, 1 << 62))
        return parts[0] if parts else np.empty((0, self.dimension), np.float32)

    def samples(self, sample: RowSample, part_bytes: int) -> Iterator[Matrix]:
        """The rows of the sample as they are stored, in parts of about so many bytes, or a block where that has more."""
        held: list[Matrix] = []
        for _, matrix, at in self.pieces(sample):
            held.append(np.asarray(matrix[at]))
            if sum(rows.nbytes for rows in held) >= part_bytes:
                yield np.concatenate(held)
                held = []
        if held:
            yield np.concatenate(held)

    def windows(self, sample: RowSample) -> Iterator[tuple[Ints, Floats]]:
        """(row numbers i64[n] in the partition, unit rows f32[n, d]); the rows are overwritten by the next ones."""
        size = max(1, self.window_bytes // (4 * max(1, self.dimension)))
        buffer = np.empty((min(size, max(1, len(self))), self.dimension), np.float32)
        held: list[Ints] = []
        filled = 0
        for where, matrix, at in self.pieces(sample):
            copied = 0
            while copied < len(where):
                numbers = where[copied : copied + size - filled]
                rows, stop = buffer[filled : filled + len(numbers)], copied + len(numbers)
                source = slice(at.start + copied, at.start + stop) if isinstance(at, slice) else at[copied:stop]
                self._fill(rows, matrix[source], numbers)
                held.append(numbers)
                filled, copied = filled + len(numbers), stop
                if filled == size:
                    yield np.concatenate(held), buffer
                    beat()
                    held, filled = [], 0
        if filled:
            yield np.concatenate(held), buffer[:filled]
            beat()

    def pieces(self, sample: RowSample, from_row: int = 0) -> Iterator[tuple[Ints, Matrix, slice | Ints]]:
        """(row numbers in the partition, matrix, the same rows in it) per block, from row number `from_row` on."""
        start = 0
        for block, end in zip(self.blocks, self.ends, strict=True):
            first = max(start, from_row)
            if first < end or first == start:
                where = sample.chosen(np.arange(self.first_row + first, self.first_row + end)) - self.first_row
                matrix, rows = block.open()
                if rows is not None:
                    yield where, matrix, rows[where - start]
                elif len(where) == end - first:
                    yield where, matrix, slice(first - start, end - start)
                else:
                    yield where, matrix, where - start
            start = int(end)

    def _fill(self, out: Floats, stored: Matrix, where: Ints) -> None:
        """Unit rows from stored ones. A row's reciprocal length is float32, so that its bits depend on nothing but the row."""
        reciprocal = self.reciprocal[where]
        for at in range(0, len(out), CACHED_ROWS):
            part = slice(at, at + CACHED_ROWS)
            rows = stored[part]
            if rows.dtype == np.float16:
                widen(rows, out[part])
                rows = out[part]
            elif rows.dtype != np.float32:
                rows = rows.astype(np.float32)
            if not reciprocal[part].all():
                reciprocal[part] = self.reciprocal_lengths(rows, where[part])
            np.multiply(rows, reciprocal[part, None], out=out[part])
        self.reciprocal[where] = reciprocal

    def reciprocal_lengths(self, rows: Floats, where: Ints) -> Floats:
        """1 / length of rows f32[n, d] with these numbers in the partition, f32[n], computed in float64. Raises InputError, with
        the row and its block, where a row is zero or not finite."""
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
    """Assigns each row to the nearest of all centres."""
    return lambda rows, _: assigned(rows, centres)


def near(centres: Centres, neighbours: Ids) -> Assigner:
    """Assigns each row to the nearest of the centres `neighbours` (i32[k, m]) of its centre until now."""
    return lambda rows, previous: assigned_near(rows, centres, neighbours, previous)


def coarse(centres: Centres, cells: Centres, lists: Ids) -> Assigner:
    """Assigns each row to the nearest of the centres that `lists` (i32[cells, m]) has for its nearest cell."""
    return lambda rows, _: assigned_near(rows, centres, lists, assigned(rows, cells))


def remaining(centres: Centres, keep: Bools) -> Assigner:
    """After the centres not in `keep` (bool[k before]) are gone: assigns their rows to the nearest of `centres`; the others
    stay."""
    renumbered = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)

    def assigner(rows: Window, previous: Ids) -> Ids:
        assignment = renumbered[previous]
        dropped = np.flatnonzero(assignment < 0)
        if len(dropped):
            assignment[dropped] = assigned(rows[dropped], centres)
        return assignment

    return assigner
