"""Centres on a GPU: searches that give the bits of `nearest`'s, and leave the ranking there too."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Union

import numpy as np
from numpy.typing import NDArray

from pipeline.vectors import Floats, Ids

if TYPE_CHECKING:
    from pipeline.models.matrices.device_centres import DeviceMatrix
    from pipeline.models.matrices.device_rows import DeviceRows

Window = Union[Floats, "DeviceRows"]
"""Rows f32[n, d]: an array, or some that are on a device already."""

SENT_BYTES = 1 << 28
"""Of rows that are sent to the device at a time."""


@dataclass(frozen=True, eq=False)
class DeviceCentres:
    """A kernel that needs no other to measure its winners. What it gives is exact, so its rounding is below any tolerance."""

    vectors: Floats
    device: str = "cuda"

    @cached_property
    def matrix(self) -> "DeviceMatrix":
        from pipeline.models.matrices.device_centres import DeviceMatrix  # torch takes seconds to import

        return DeviceMatrix.of(self.vectors, self.device)

    def candidates(self, rows: Floats, m: int) -> tuple[NDArray[np.int64], Floats]:
        ids, values = self.nearest(rows, m)
        return ids.astype(np.int64), values

    def nearest(self, x: Window, l: int) -> tuple[Ids, Floats]:  # noqa: E741
        """See `nearest.nearest`."""
        ids, values = np.empty((len(x), l), np.int32), np.empty((len(x), l), np.float32)
        for part, rows in self._sent(x):
            best = self.matrix.nearest(rows.x, l)
            ids[part], values[part] = (found.cpu().numpy() for found in best)
        return ids, values

    def assigned(self, x: Window) -> Ids:
        """See `nearest.assigned`."""
        found = np.empty(len(x), np.int32)
        for part, rows in self._sent(x):
            found[part] = self.matrix.assigned(rows.x).cpu().numpy()
        return found

    def assigned_near(self, x: Window, neighbours: Ids, previous: Ids) -> Ids:
        """See `nearest.assigned_near`."""
        from pipeline.models.matrices.device_rows import on

        found, lists = np.empty(len(x), np.int32), on(neighbours, self.matrix.vectors).long()
        for part, rows in self._sent(x):
            found[part] = self.matrix.near(rows.x, lists, on(previous[part], rows.x).long()).cpu().numpy()
        return found

    def _sent(self, x: Window) -> Iterator[tuple[slice, "DeviceRows"]]:
        """Parts of the rows, on the device. Raises ValueError where a row of the caller's is not finite."""
        from pipeline.models.matrices.device_rows import DeviceRows

        if isinstance(x, DeviceRows):
            yield slice(0, len(x)), x
            return
        step = max(1, SENT_BYTES // (4 * max(1, x.shape[1])))
        for at in range(0, len(x), step):
            part = slice(at, at + step)
            rows = DeviceRows.of(x[part], self.device)
            if not rows.finite():
                raise ValueError("rows and centres must be finite; leave out rows whose embedding is not valid")
            yield part, rows
