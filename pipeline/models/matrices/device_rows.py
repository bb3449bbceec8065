"""Rows on a device: sent there while it works on others, brought to unit length, and added up in fixed point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.models.matrices.device_ranking import ULP64, norm_bounds
from pipeline.vectors import Floats

ADDED = 16_384   # rows added up at a time: 8 bytes a value


def can_compute_on(device: str) -> bool:
    """Whether torch can compute on this device (as torch names it: cpu, cuda, cuda:1) here."""
    return torch.device(device).type == "cpu" or (torch.device(device).type == "cuda" and torch.cuda.is_available())


def free_bytes(device: str) -> int:
    """Free bytes of the device's memory; 0 for the CPU, whose memory is the machine's own."""
    return int(torch.cuda.mem_get_info(device)[0]) if torch.device(device).type == "cuda" else 0


@dataclass(frozen=True, eq=False)
class DeviceRows:
    """f32[n, d] on a device; to the CPU it is an array of rows that costs a copy."""

    x: Tensor

    @classmethod
    def of(cls, rows: Floats, device: str) -> "DeviceRows":
        """A copy of rows f32[n, d] on a device, as torch names it."""
        return cls(torch.tensor(rows, dtype=torch.float32, device=device))

    def __len__(self) -> int:
        return len(self.x)

    def finite(self) -> bool:
        """Whether the lengths of all rows are finite in float32."""
        return bool(torch.isfinite(norm_bounds(self.x)).all())

    def __getitem__(self, chosen: NDArray[np.int64]) -> "DeviceRows":
        return DeviceRows(self.x[on(chosen, self.x)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.x.cpu().numpy(), dtype)


def on(values: NDArray[Any], other: Tensor) -> Tensor:
    """The values as a tensor on the device of `other`, of the same shape and dtype."""
    return torch.as_tensor(values, device=other.device)


@dataclass(frozen=True, eq=False)
class Upload:
    """Rows [n, d], float16 or float32, that are on the device or being copied there."""

    rows: Tensor
    copied: torch.cuda.Event | None

    @property
    def bytes(self) -> int:
        """Bytes of the rows."""
        return self.rows.nbytes

    def ready(self) -> Tensor:
        """The rows [n, d]. Work that is enqueued on the current stream from now on starts after the copy."""
        if self.copied is not None:
            self.copied.wait()
            self.rows.record_stream(torch.cuda.current_stream(self.rows.device))
        return self.rows


@dataclass(frozen=True, eq=False)
class Uploader:
    """Copies rows to a device beside its work, from pinned memory. torch keeps that memory, and hands it out again once the copy is
    done."""

    device: torch.device
    stream: torch.cuda.Stream | None

    @classmethod
    def to(cls, device: str) -> "Uploader":
        """An uploader to this device, as torch names it; on a GPU with a stream of its own."""
        place = torch.device(device)
        return cls(place, torch.cuda.Stream(place) if place.type == "cuda" else None)  # type: ignore[no-untyped-call]

    def send(self, pieces: Sequence[tuple[NDArray[Any], slice | NDArray[np.int64]]]) -> Upload:
        """Starts the copy of rows, one piece after another: each is a matrix [n, d] and which of its rows, and all have one dtype
        (float16 or float32) and width."""
        sizes = [len(range(*at.indices(len(matrix)))) if isinstance(at, slice) else len(at) for matrix, at in pieces]
        kind = torch.float16 if pieces[0][0].dtype == np.float16 else torch.float32
        staged = torch.empty((sum(sizes), pieces[0][0].shape[1]), dtype=kind, pin_memory=self.stream is not None)
        buffer, filled = staged.numpy(), 0
        for (matrix, at), size in zip(pieces, sizes, strict=True):
            buffer[filled : filled + size] = matrix[at]
            filled += size
        if self.stream is None:
            return Upload(staged, None)
        with torch.cuda.stream(self.stream):
            return Upload(staged.to(self.device, non_blocking=True), self.stream.record_event())


def unit_rows(stored: Tensor, reciprocal: Floats, measure: Callable[[Floats, NDArray[np.int64]], Floats]) -> DeviceRows:
    """Rows times their reciprocal length, f32[n], as the CPU does it. Where that is 0 it is found, and put there.

    `measure` gives the reciprocals of rows, whose places it gets too, where the order of a sum in float64 could show, or where
    a row has none.
    """
    x = stored.to(torch.float32, copy=True)
    if not reciprocal.all():
        unknown = np.flatnonzero(reciprocal == 0)
        rows = x if len(unknown) == len(x) else x[on(unknown, x)]
        values, doubtful = reciprocals(rows)
        reciprocal[unknown] = values.cpu().numpy()
        places = torch.nonzero(doubtful)[:, 0]
        if len(places):
            doubtful_rows = unknown[places.cpu().numpy()]
            reciprocal[doubtful_rows] = measure(rows[places].cpu().numpy(), doubtful_rows)
    return DeviceRows(x.mul_(on(reciprocal, x)[:, None]))


def reciprocals(x: Tensor) -> tuple[Tensor, Tensor]:
    """1 / length, f32[n], and bool [n]: whether another order of summation could give other bits, or there is no such value."""
    wide = 1 / torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    error = (x.shape[1] + 8) * ULP64   # of this and of another sum together, and of the two operations after it
    sure = ((wide * (1 - error)).float() == (wide * (1 + error)).float()) & torch.isfinite(wide) & (wide > 0)
    return wide.float(), ~sure


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Integer sums of rows per centre, on the device: exact, so the order in which they are added shows nowhere."""

    counts: Tensor
    """i64[k]"""
    vectors: Tensor
    """i64[k, d], in units of 1 / scale"""
    scale: float

    @classmethod
    def zero(cls, k: int, d: int, scale: float, device: str) -> "FixedPoint":
        """Sums of no rows yet, for k centres of d values, in units of 1 / scale, on a device as torch names it."""
        counts, vectors = (torch.zeros(shape, dtype=torch.int64, device=device) for shape in ((k,), (k, d)))
        return cls(counts, vectors, scale)

    def add(self, x: Tensor, assignment: Tensor) -> None:
        """Adds rows f32[n, d] of values up to 1 to the sums of their centres, i64[n]. Each value is rounded to the nearest multiple
        of 1 / scale, ties to the even one."""
        for at in range(0, len(x), ADDED):
            part = slice(at, at + ADDED)
            self.vectors.index_add_(0, assignment[part], torch.round(x[part] * self.scale).long())
        self.counts.add_(torch.bincount(assignment, minlength=len(self.counts)))

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts i64[k] and vectors i64[k, d] in the CPU's memory."""
        return self.counts.cpu().numpy(), pinned_copy(self.vectors).numpy()


def pinned_copy(values: Tensor) -> Tensor:
    """A copy in pinned memory of the CPU, of the same shape and dtype; a tensor of the CPU as it is. The memory is used again when
    the copy is gone."""
    if values.device.type == "cpu":
        return values
    pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    pinned.copy_(values)
    return pinned
