"""Rows that are put one after another and read again at any place: in memory while they are few, then in a local file."""

from tempfile import SpooledTemporaryFile

import numpy as np

from pipeline.vectors import Halves, Ints

IN_MEMORY = 1 << 28
"""Bytes of a shelf that are held in memory; beyond, all of it lies in an unnamed file that goes with the process."""


class Shelf:
    """Embeddings f16[n, d] that are added at its end."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._file = SpooledTemporaryFile(max_size=in_memory)   # noqa: SIM115 (closed with the shelf)
        self._rows = 0
        self._width = 0

    def __len__(self) -> int:
        return self._rows

    def close(self) -> None:
        """Gives the memory or the file back."""
        self._file.close()

    def add(self, rows: Halves) -> None:
        """Puts f16[m, d] behind what is there; d is that of the first rows."""
        if not len(rows):
            return
        self._width = rows.shape[1]
        self._file.seek(2 * self._rows * self._width)
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self._rows += len(rows)

    def part(self, start: int, stop: int) -> Halves:
        """The rows from `start` up to `stop`, or up to the end."""
        stop = min(stop, self._rows)
        self._file.seek(2 * start * self._width)
        content = self._file.read(2 * max(0, stop - start) * self._width)
        return np.frombuffer(content, np.float16).reshape(-1, self._width)

    def at(self, places: Ints) -> Halves:
        """The rows at i64[m], in this order."""
        out = np.empty((len(places), self._width), np.float16)
        for i, place in enumerate(places.tolist()):
            self._file.seek(2 * place * self._width)
            out[i] = np.frombuffer(self._file.read(2 * self._width), np.float16)
        return out
