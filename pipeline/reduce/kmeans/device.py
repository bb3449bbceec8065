"""The rows of a partition on a GPU: a window at a time, the next one on its way, as many as fit kept for the next pass."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.reduce.kmeans.sums import SCALE, Sums
from pipeline.search.device_centres import Window
from pipeline.vectors import Floats, Ids, Ints
from pipeline.work import beat

if TYPE_CHECKING:
    from pipeline.models.matrices.device_rows import FixedPoint, Upload, Uploader
    from pipeline.reduce.kmeans.partition import Partition, RowSample

WINDOW_BYTES = 256 << 20
"""Bytes of float32 rows that are worked on at a time; beside them the products take half a gigabyte, and sums 8 bytes a value."""
KEPT_SHARE = 0.5
"""Share of the device's free memory that holds rows as they are stored."""

Piece = tuple[NDArray[np.floating], slice | Ints]


@dataclass
class Accelerator:
    """The device of one partition. It holds windows of float32 rows, and stored rows up to `kept_bytes`."""

    device: str = "cuda"
    kept_bytes: int = 0
    window_bytes: int = WINDOW_BYTES
    _kept: "list[tuple[Ints, Upload]]" = field(default_factory=list, init=False)
    """The first windows of all rows."""
    _uploader: "Uploader | None" = field(default=None, init=False)

    @classmethod
    def of(cls, device: str) -> "Accelerator":
        """This device (torch's name of it), with half of its free memory for stored rows."""
        from pipeline.models.matrices.device_rows import free_bytes

        return cls(device, int(free_bytes(device) * KEPT_SHARE))

    def sums(self, k: int, d: int) -> "DeviceSums":
        """The sums of no rows for k centres of d values, on the device."""
        from pipeline.models.matrices.device_rows import FixedPoint

        return DeviceSums(FixedPoint.zero(k, d, SCALE, self.device))

    def windows(self, partition: "Partition", sample: "RowSample") -> Iterator[tuple[Ints, Window]]:
        """(row numbers i64[n] in the partition, unit rows f32[n, d] on the device): what `Partition.windows` gives, the same
        bits."""
        from pipeline.models.matrices.device_rows import unit_rows

        for where, sent in self._windows(partition, sample):
            reciprocal = partition.reciprocal[where]
            measured = bool(reciprocal.all())
            rows = unit_rows(sent.ready(), reciprocal, partial(_reciprocal_lengths, partition, where))
            if not measured:
                partition.reciprocal[where] = reciprocal
            yield where, rows
            beat()

    def _windows(self, partition: "Partition", sample: "RowSample") -> "Iterator[tuple[Ints, Upload]]":
        all_rows = sample.part >= 1
        if all_rows:
            yield from self._kept
        size = max(1, self.window_bytes // (4 * max(1, partition.dimension)))
        from_row = sum(len(where) for where, _ in self._kept) if all_rows else 0
        coming = _filled(partition, sample, from_row, size)
        with ThreadPoolExecutor(1) as reader:   # reads and copies the next window while the device works on this one
            ahead = reader.submit(self._next, coming)
            keeping = all_rows
            while (window := ahead.result()) is not None:
                ahead = reader.submit(self._next, coming)
                keeping = keeping and sum(sent.bytes for _, sent in [*self._kept, window]) <= self.kept_bytes
                if keeping:
                    self._kept.append(window)
                yield window

    def _next(self, coming: Iterator[tuple[Ints, list[Piece]]]) -> "tuple[Ints, Upload] | None":
        from pipeline.models.matrices.device_rows import Uploader

        self._uploader = self._uploader or Uploader.to(self.device)
        window = next(coming, None)
        return None if window is None else (window[0], self._uploader.send(window[1]))


def _reciprocal_lengths(partition: "Partition", where: Ints, rows: Floats, places: Ints) -> Floats:
    return partition.reciprocal_lengths(rows, where[places])


def _filled(partition: "Partition", sample: "RowSample", from_row: int, size: int) -> Iterator[tuple[Ints, list[Piece]]]:
    """Pieces of matrices of one dtype that make `size` rows together; the last ones, and those before another dtype, fewer."""
    held: list[tuple[Ints, Piece]] = []
    filled = 0
    for where, matrix, at in partition.pieces(sample, from_row):
        if held and held[0][1][0].dtype != matrix.dtype:
            yield _joined(held)
            held, filled = [], 0
        sent = 0
        while sent < len(where):
            numbers = where[sent : sent + size - filled]
            stop = sent + len(numbers)
            source = slice(at.start + sent, at.start + stop) if isinstance(at, slice) else at[sent:stop]
            held.append((numbers, (matrix, source)))
            filled, sent = filled + len(numbers), stop
            if filled == size:
                yield _joined(held)
                held, filled = [], 0
    if held:
        yield _joined(held)


def _joined(held: Sequence[tuple[Ints, Piece]]) -> tuple[Ints, list[Piece]]:
    return np.concatenate([where for where, _ in held]), [piece for _, piece in held]


@dataclass(frozen=True)
class DeviceSums:
    """`Sums` while they grow on a device."""

    held: "FixedPoint"

    def add_rows(self, rows: Window, assignment: Ids) -> None:
        """Adds unit rows f32[n, d], which are on this device, to their centres i32[n]."""
        from pipeline.models.matrices.device_rows import DeviceRows, on

        assert isinstance(rows, DeviceRows)
        self.held.add(rows.x, on(assignment, rows.x).long())

    def added(self) -> Sums:
        """These sums in this process's memory."""
        return Sums(*self.held.arrays())
