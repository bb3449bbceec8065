"""Sketches: what is carried of a thumbnail, so that most pairs that cannot correlate are known without it.

At mean 0 and length 1, two thumbnails of correlation c are sqrt(2 - 2 c) apart, and so are their projections to a few orthonormal
directions at most. Those are low frequencies, which hold most of a picture. They are rounded, and a sketch says by how much: so no
pair that correlates is lost, on any machine.
"""

from functools import cache

import numpy as np

from pipeline.vectors import Bools, Bytes, Floats

SIDE, COLOURS = 16, 3
BRIGHT, COLOURED = 6, 3
"""Frequencies along each side, of brightness and of each of the two differences of colours."""
LENGTH = BRIGHT**2 - 1 + 2 * COLOURED**2
WIDTH = LENGTH + 1
"""Bytes: the projections in 1/127, and the length of the error of rounding in 1/2048, rounded up."""
STEP, ERROR_STEP = 127, 2048
ROUNDING = 1e-4
"""More than float32 can be off by."""
ROWS = 8192


@cache
def directions() -> Floats:
    """f32[768, LENGTH]: orthonormal, and all at right angles to the mean."""
    waves = np.cos(np.pi / SIDE * np.outer(np.arange(BRIGHT), np.arange(SIDE) + 0.5))
    waves /= np.sqrt((waves * waves).sum(axis=1, keepdims=True))
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    counts = (BRIGHT, COLOURED, COLOURED)
    chosen = [(colour, u, v) for colour, count in enumerate(counts) for u in range(count) for v in range(count)]
    columns = [np.einsum("y,x,c->yxc", waves[u], waves[v], colours[colour]).reshape(-1) for colour, u, v in chosen[1:]]
    return np.stack(columns, axis=1).astype(np.float32)


def sketches(thumbnails: Bytes) -> Bytes:
    """u8[n, WIDTH] of thumbnails u8[n, 768]; of a constant one, zeros."""
    out = np.zeros((len(thumbnails), WIDTH), np.uint8)
    for at in range(0, len(thumbnails), ROWS):
        wide = thumbnails[at : at + ROWS].astype(np.float32)
        wide -= wide.mean(axis=1, keepdims=True)
        length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        projected = (wide / np.where(length == 0, 1, length)) @ directions()
        rounded = np.rint(projected * STEP)
        error = np.sqrt(((rounded / STEP - projected) ** 2).sum(axis=1)) + ROUNDING
        out[at : at + ROWS, :LENGTH] = rounded.astype(np.int8).view(np.uint8)
        out[at : at + ROWS, LENGTH] = np.ceil(error * ERROR_STEP)
    return out


def may_correlate(one: Bytes, other: Bytes, correlation: float) -> Bools:
    """bool[n]: whether thumbnails with these sketches, u8[n, WIDTH], can have at least this Pearson correlation."""
    difference = one[:, :LENGTH].view(np.int8).astype(np.float32) - other[:, :LENGTH].view(np.int8)
    apart = np.sqrt(np.einsum("ij,ij->i", difference, difference)) / STEP
    errors = (one[:, LENGTH].astype(np.float32) + other[:, LENGTH]) / ERROR_STEP
    return np.asarray(apart <= np.sqrt(max(0.0, 2 - 2 * correlation)) + errors + ROUNDING)
