"""Centres on a GPU: searches that give the bits of `nearest.py`, and leave the ranking to the device too."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Union

import numpy as np

from pipeline.vectors import Floats, Ids, Ints

if TYPE_CHECKING:
    from pipeline.models.matrices.device_centres import DeviceMatrix
    from pipeline.models.matrices.device_rows import DeviceRows

Window = Union[Floats, "DeviceRows"]
"""Rows f32[n, d]: an array, or some that are on a device already."""

SENT_BYTES = 1 << 28
"""Bytes of rows that are sent to the device at a time."""


@dataclass(frozen=True, eq=False)
class DeviceCentres:
    """Centres f32[k, d] on a device, which ranks exactly: no other kernel has to measure its candidates again."""

    vectors: Floats
    device: str = "cuda"

    @cached_property
    def matrix(self) -> "DeviceMatrix":
        """The centres as the device multiplies them, sent there once."""
        from pipeline.models.matrices.device_centres import DeviceMatrix  # torch takes seconds to import

        return DeviceMatrix.of(self.vectors, self.device)

    def candidates(self, rows: Floats, m: int) -> tuple[Ints, Floats]:
        """See `kernels.Centres`; here the ranking is exact."""
        ids, values = self.nearest(rows, m)
        return ids.astype(np.int64), values

    def nearest(self, x: Window, l: int) -> tuple[Ids, Floats]:  # noqa: E741
        """See `nearest.nearest`."""
        ids, values = np.empty((len(x), l), np.int32), np.empty((len(x), l), np.float32)
        for part, rows in self._sent(x):
            best = self.matrix.nearest(rows.x, l)
            ids[part], values[part] = (tensor.cpu().numpy() for tensor in best)
        return ids, values

    def assigned(self, x: Window) -> Ids:
        """See `nearest.assigned`."""
        ids = np.empty(len(x), np.int32)
        for part, rows in self._sent(x):
            ids[part] = self.matrix.assigned(rows.x).cpu().numpy()
        return ids

    def assigned_near(self, x: Window, neighbours: Ids, previous: Ids) -> Ids:
        """See `nearest.assigned_near`."""
        from pipeline.models.matrices.device_rows import on

        ids, lists = np.empty(len(x), np.int32), on(neighbours, self.matrix.vectors).long()
        for part, rows in self._sent(x):
            ids[part] = self.matrix.near(rows.x, lists, on(previous[part], rows.x).long()).cpu().numpy()
        return ids

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
