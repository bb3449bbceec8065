"""Where the marks of the report's charts go: counts in, percentages of the plot out. The template draws them as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Histogram:
    """How many samples fall between neighbouring `edges`. The bins are drawn equally wide, so edges may grow."""

    column: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    removed: tuple[int, ...]
    without: int = 0
    """Samples that have no value."""
    beyond: int = 0
    """Samples that lie outside the edges; they count in the outermost bins."""
    null: tuple[float, ...] = ()
    """Shuffled pairs per bin, as shares that sum to 1; empty where there is no null distribution."""
    bounds: tuple[tuple[float, str], ...] = ()
    """Values at which a rule decides, each with its wording."""

    def __add__(self, other: "Histogram") -> "Histogram":
        """Counts of both, over the same edges."""
        if self.edges != other.edges:
            raise ValueError(f"histograms of {self.column} and {other.column} have other edges")
        return replace(
            self, kept=tuple(a + b for a, b in zip(self.kept, other.kept, strict=True)),
            removed=tuple(a + b for a, b in zip(self.removed, other.removed, strict=True)),
            without=self.without + other.without, beyond=self.beyond + other.beyond,
        )


def compact(value: float) -> str:
    """A number in at most five characters: 950, 1.2k, 35M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.4g}"


def histogram(
    column: str, edges: Sequence[float], kept: NDArray[np.floating], removed: NDArray[np.floating],
    null: NDArray[np.floating] | None = None
) -> Histogram:
    """Counts the values of kept and removed samples (floating point [n] and [m]) into bins [edge, next edge). NaN counts as
    `without`; a value outside the edges counts in the outermost bin and as `beyond`. `null` [pairs] gives the shares of the null
    distribution."""
    inner = np.asarray(edges[1:-1], dtype=np.float64)
    values = np.concatenate([kept, removed])

    def counts(group: NDArray[np.floating]) -> NDArray[np.int64]:
        bins = np.searchsorted(inner, group[~np.isnan(group)], side="right")
        return np.bincount(bins, minlength=len(edges) - 1).astype(np.int64)

    shuffled = counts(null) if null is not None else np.zeros(0, np.int64)
    return Histogram(
        column, tuple(map(float, edges)), tuple(counts(kept).tolist()), tuple(counts(removed).tolist()),
        without=int(np.isnan(values).sum()), beyond=int(((values < edges[0]) | (values > edges[-1])).sum()),
        null=tuple((shuffled / max(shuffled.sum(), 1)).tolist()),
    )


MOST_BINS = 80
"""Bars that can be told apart on a page."""
SEEN = 1e-4
"""Share of the null distribution below which a bin counts as empty."""


def growing_edges(first: float, integers: bool, bounds: Sequence[float] = (), high: float = 1e12) -> list[float]:
    """Edges for what has no upper end: each bin an eighth wider than the one before, at least 1 where values are whole.
    The edge nearest to each bound moves to it, so that no bin has values on both sides of a bound."""
    edges = [first]
    while edges[-1] < high:
        edges.append(max(edges[-1] + 1, float(round(edges[-1] * 1.125))) if integers else edges[-1] * 1.05)
    for bound in bounds:
        nearest = min(range(len(edges)), key=lambda i: abs(edges[i] - bound))
        if 0 < nearest < len(edges) - 1 and edges[nearest - 1] < bound < edges[nearest + 1]:
            edges[nearest] = float(bound)
    return edges


def trimmed(data: Histogram) -> Histogram:
    """The same histogram over the part of the axis that has samples, null distribution or bounds, with neighbouring bins merged
    into at most MOST_BINS."""
    count = len(data.kept)
    filled = np.add(data.kept, data.removed) > 0
    if data.null:
        filled |= np.asarray(data.null) > SEEN
    for value, _ in data.bounds:
        filled[np.clip(np.searchsorted(data.edges, value, side="right") - 1, 0, count - 1)] = True
    occupied = np.flatnonzero(filled)
    if not len(occupied):
        return data
    factor = -(-int(occupied[-1] - occupied[0] + 1) // MOST_BINS)
    first, last = int(occupied[0]) // factor * factor, min(-(-int(occupied[-1] + 1) // factor) * factor, count)
    starts = np.arange(first, last, factor)

    def merged(values: Sequence[float]) -> list[Any]:
        part: list[Any] = np.add.reduceat(np.asarray(values)[:last], starts).tolist()
        return part

    return replace(
        data, edges=(*(data.edges[i] for i in starts), data.edges[last]), kept=tuple(merged(data.kept)),
        removed=tuple(merged(data.removed)), null=tuple(merged(data.null)) if data.null else (),
    )


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round values between low and high, `about` many, ascending."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def growing_ticks(low: float, high: float) -> list[float]:
    """The values 1, 2 and 5 times a power of ten between low and high, or only the powers where that is many; `low` > 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        values = [d * 10.0**power for power in powers for d in digits if low <= d * 10.0**power <= high]
        if len(values) <= 8:
            break
    return values


class Bar(NamedTuple):
    """A bin as it is drawn: x and width in percent of the plot, heights in percent of its height."""

    x: float
    width: float
    kept: float
    removed: float
    wording: str


class Mark(NamedTuple):
    """A tick or a bound: its place in percent and its wording."""

    at: float
    wording: str


class Plot(NamedTuple):
    """A histogram in drawing units. `null` is a polyline in percent of width and height."""

    bars: list[Bar]
    x: list[Mark]
    y: list[Mark]
    bounds: list[Mark]
    null: str
    wording: str


def apart(marks: Sequence[Mark], distance: float = 5) -> list[Mark]:
    """The marks without those whose wording would run into the one before: nearer than `distance` percent of the plot."""
    kept: list[Mark] = []
    for mark in marks:
        if not kept or mark.at - kept[-1].at >= distance:
            kept.append(mark)
    return kept


def plot(data: Histogram) -> Plot:
    """Where everything of a histogram is drawn; the null distribution has the area of the samples' bars."""
    n, edges, total = len(data.kept), data.edges, sum(data.kept) + sum(data.removed)
    shuffled = [share * total for share in data.null]
    top = max([1.0, *(k + r for k, r in zip(data.kept, data.removed, strict=True)), *shuffled]) * 1.06

    def across(value: float) -> float:
        return round(float(np.interp(value, edges, np.linspace(0, 100, n + 1))), 3)

    bars = [
        Bar(round(100 * i / n, 3), round(100 / n, 3), round(100 * k / top, 2), round(100 * r / top, 2),
            f"{edges[i]:.4g} to {edges[i + 1]:.4g}: {k} kept, {r} removed")
        for i, (k, r) in enumerate(zip(data.kept, data.removed, strict=True))
    ]
    points = [(100 * (i + 0.5) / n, 100 - 100 * value / top) for i, value in enumerate(shuffled)]
    widths = np.diff(edges)
    even = bool(widths.max() < 1.01 * widths.min() + 1e-12)
    labels = ticks(edges[0], edges[-1]) if even else growing_ticks(next(edge for edge in edges if edge > 0), edges[-1])
    return Plot(
        bars, apart([Mark(across(v), f"{v:,.4g}" if abs(v) < 10_000 else compact(v)) for v in labels]),
        [Mark(round(100 - 100 * v / top, 2), compact(v)) for v in ticks(0, top, 4) if v >= 1 and v == int(v)],
        [Mark(across(v), words) for v, words in data.bounds],
        " ".join(f"{x:.2f},{y:.2f}" for x, y in points),
        f"{data.column}: {total} samples from {edges[0]:.4g} to {edges[-1]:.4g}, {sum(data.kept)} of them kept",
    )
