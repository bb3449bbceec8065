"""Inner products of rows with many centres in 8-bit integers, and how far each may be off: twice as fast as float32 on
processors with AVX2, more with VNNI.

The operators are torch's own for quantised models but not documented: `can_quantise` looks for them; who uses them checks
results.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.machine import can_pack
from pipeline.models.process import tune
from pipeline.vectors import Bytes, Floats

ROWS = 1024          # of one product
CACHED = 256         # rows made smaller at a time
ROW_LEVELS = 63      # either side of zero: without VNNI, two products are added in 16 bits before they are widened
CENTRE_LEVELS = 127
TINY = 1e-15         # a row without a larger value is nothing but off
TOP = 255
ROUNDED = 0.51       # of a step: a product to its score, and float32 around it


def can_quantise() -> bool:
    """Whether this machine has the operators."""
    names = ("qlinear_prepack", "qlinear_pointwise")
    return can_pack("fp32") and all(hasattr(torch.ops.onednn, name) for name in names)


@dataclass(frozen=True)
class Scored:
    """Inner products as scores u8[n, k] in steps of their row. A true product lies within `off` of score * step; that of a
    score of 0 may be any lower, that of TOP any higher."""

    scores: Bytes
    step: NDArray[np.float64]
    """[n]"""
    off: NDArray[np.float64]
    """[n], in products."""


@dataclass(frozen=True, eq=False)
class QuantisedMatrix:
    """Centres f32[k, d] as k * d bytes in oneDNN's layout, which is opaque."""

    rows: int
    """The most rows of one product."""
    layout: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    longest: float
    """The length of the longest centre."""
    off: float
    """The largest distance of a centre from its quantised values."""

    @classmethod
    def of(cls, vectors: Floats, rows: int = ROWS) -> "QuantisedMatrix":
        """Quantises centres f32[k, d] to 8 bits for products of `rows` rows."""
        tune()   # results of megabytes, again and again: their memory must stay
        scales = _scales(vectors, CENTRE_LEVELS)
        levels = np.rint(vectors / scales[:, None])
        off = _lengths(vectors - levels * scales[:, None]).max(initial=0)
        layout = torch.ops.onednn.qlinear_prepack(torch.from_numpy(levels.astype(np.int8)), [rows, vectors.shape[1]])
        zeros = torch.zeros(len(vectors), dtype=torch.int64)
        return cls(rows, layout, torch.from_numpy(scales), zeros, float(_lengths(vectors).max(initial=0)), float(off))

    def scored(self, rows: Floats) -> Scored:
        """The products of at most `rows` rows f32[n, d] with all centres."""
        n = len(rows)
        block = np.zeros((self.rows, rows.shape[1]), np.uint8)   # always full: oneDNN makes a kernel for each number of rows
        scales, off, reach = np.empty(n, np.float32), np.empty(n), 0.0
        inside, levels = (np.empty((min(CACHED, n), rows.shape[1]), np.float32) for _ in range(2))
        for at in range(0, n, CACHED):
            part = slice(at, min(at + CACHED, n))
            values = rows[part]
            within, rounded = inside[: len(values)], levels[: len(values)]
            scale = _levelled(np.abs(values, out=within).max(axis=1, initial=0), ROW_LEVELS)
            np.multiply(values, (1 / scale)[:, None], out=within)
            np.rint(within, out=rounded)
            within -= rounded
            rounded += ROW_LEVELS + 1
            block[part] = rounded
            length, lost = _lengths(values), _lengths(within) * scale
            scales[part], off[part] = scale, lost * self.longest + (length + lost) * self.off
            reach = max(reach, float((length / scale).max()))
        unit = reach * self.longest / TOP or 1.0
        scores = torch.ops.onednn.qlinear_pointwise(
            torch.from_numpy(block), 1.0, ROW_LEVELS + 1, self.layout, self.scales, self.zeros, None, unit, 0, torch.uint8,
            "none", [], "",
        ).numpy()[:n]
        step = unit * scales.astype(np.float64)
        return Scored(scores, step, off + ROUNDED * step)


def _scales(vectors: Floats, levels: int) -> Floats:
    """What one level of each row is worth: f32[n]."""
    return _levelled(np.maximum(vectors.max(axis=1, initial=0), -vectors.min(axis=1, initial=0)), levels)


def _levelled(largest: Floats, levels: int) -> Floats:
    """What one level of each row is worth, f32[n], from its largest value of either sign, f32[n]."""
    scales: Floats = (np.where(largest > TINY, largest, 1) / levels).astype(np.float32)
    return scales


def _lengths(vectors: Floats) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.vecdot(vectors, vectors).astype(np.float64))
    return lengths
