"""Nearest centres on a device that torch drives: half precision proposes, float64 decides, on the device.

Rows and centres are rounded to float16 (what that costs is measured, not assumed), multiplied by the matrix units with sums
in float32, and the products rounded to float16. Pairs whose order all of this could have changed are measured again. What
comes back is what `search.nearest` defines, bit for bit, whatever the device. Lengths are scaled by powers of two: exact.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.models.matrices.device_ranking import PAIR_BYTES, norm_bounds, ranked
from pipeline.vectors import Floats

TILE = 65_536             # centres of one product
PRODUCT_BYTES = 1 << 29   # of one product in float16
GROUP = 32                # products of which the largest stands for all
SPARE = 8                 # candidates per row beyond the l that are returned
CANDIDATES = 1 << 22      # of all rows that are searched again at once
CELL_ROWS = 16            # rows of one centre that share a product in `near`
SUM = 2.0**-22            # a matrix unit cuts each term off at 24 bits of the largest, or later: per term of a sum
HALF = 2.0**-11           # unit roundoff of float16
SINGLE = 2.0**-24         # of float32
TINY = 2.0**-23           # two roundings of a product below float16's normal range


def add_in_full(device: torch.device) -> None:
    """Sets torch, for this process and from now on, to add products of float16 in float32 to the end, and to multiply float32 as
    float32. It stays so: settings are the process's, and other threads may be multiplying."""
    if device.type == "cuda":
        settings = torch.backends.cuda.matmul
        settings.allow_fp16_reduced_precision_reduction = settings.allow_fp16_accumulation = settings.allow_tf32 = False


def powers(length: Tensor) -> Tensor:
    """f32[n]: powers of two that bring lengths f32[n] to between 0.5 and 1, as far as float32 has them."""
    exponent = torch.frexp(length).exponent.clamp(-125, 125)
    return ((127 - exponent) << 23).int().view(torch.float32)


def in_half_precision(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Rows f32[n, d] as f16[n, d], and the distance of each from what it was rounded to, f32[n]."""
    half = scaled.half()
    return half, norm_bounds(scaled - half.float())


@dataclass(frozen=True, eq=False)
class HalfRows:
    """Rows in float16, and how far their products may be off."""

    half: Tensor
    margin: Tensor
    """f32[n]: how far apart two products of a row may lie and yet be in the other order, but for the rounding of the products."""

    def margin_for(self, value: Tensor) -> Tensor:
        """f32[n]: the margin of a product `value`, f32[n], to a smaller one, with the rounding of both to float16. One bit more
        covers the rounding of the margin itself."""
        return (self.margin + 2 * HALF * value.abs()) * 1.001


@dataclass(frozen=True, eq=False)
class DeviceMatrix:
    """Centres f32[k, d] on a device, in float32 and float16: 6 bytes a value."""

    vectors: Tensor
    tiles: tuple[Tensor, ...]
    """f16, of TILE centres each, filled up with zeros to whole groups."""
    longest: float
    """Length of the longest centre."""
    scale: float
    """The factor of the tiles, a power of two."""
    error: float
    """The largest distance of a centre from its float16, in the tiles' scale."""

    @classmethod
    def of(cls, vectors: Floats, device: str) -> "DeviceMatrix":
        """Puts centres f32[k, d] on a device, as torch names it. Raises ValueError where one is not finite."""
        placed = torch.tensor(vectors, dtype=torch.float32, device=device)
        add_in_full(placed.device)
        length = norm_bounds(placed).max()
        if not math.isfinite(float(length)):
            raise ValueError("centres must be finite")
        scale, tiles, error = powers(length), [], 0.0
        for at in range(0, len(placed), TILE):
            half, errors = in_half_precision(placed[at : at + TILE] * scale)
            tiles.append(torch.nn.functional.pad(half, (0, 0, 0, -len(half) % GROUP)))
            error = max(error, float(errors.max()))
        return cls(placed, tuple(tiles), float(length), float(scale), error)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def device(self) -> torch.device:
        """The device that holds the centres."""
        return self.vectors.device

    def half_rows(self, x: Tensor) -> HalfRows:
        """Rows f32[n, d] as they are multiplied, with the margin within which two products of a row with centres may be in the
        wrong order."""
        length = norm_bounds(x)
        factor = powers(length)
        half, error = in_half_precision(x * factor[:, None])
        length, longest = length * factor, self.longest * self.scale
        off = error * (longest + self.error) + length * self.error
        off += SUM * (x.shape[1] + 16) * (length + error) * (longest + self.error)
        return HalfRows(half, 2.05 * off + 4 * SINGLE * length * longest + TINY)

    def blocks(self, x: Tensor) -> Iterator[tuple[slice, HalfRows]]:
        """Yields slices of the rows f32[n, d], and those rows in float16: so many that their products with a tile fit
        PRODUCT_BYTES."""
        step = max(1, PRODUCT_BYTES // (2 * len(self.tiles[0])))
        for at in range(0, len(x), step):
            part = slice(at, at + step)
            yield part, self.half_rows(x[part])

    def products(self, half: Tensor, number: int) -> Tensor:
        """f16[n, width of the tile]; -inf where the tile is only filled up."""
        tile = self.tiles[number]
        values = half @ tile.T if self.device.type == "cuda" else (half.float() @ tile.float().T).half()
        values[:, len(self) - number * TILE :] = -torch.inf
        return values

    def leaders(self, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The largest product of each row: its centre i64[n], it, f32[n], and the second largest, f32[n]."""
        ids = torch.zeros(len(half), dtype=torch.long, device=self.device)
        first, second = (torch.full((len(half),), -torch.inf, device=self.device) for _ in range(2))
        for number in range(len(self.tiles)):
            products = self.products(half, number)
            groups = products.shape[1] // GROUP
            maxima = products.view(len(half), GROUP, groups).amax(1)
            group = maxima.argmax(1, keepdim=True)
            columns = group + groups * torch.arange(GROUP, device=self.device)
            best, inside = torch.topk(products.gather(1, columns), 2, dim=1)
            value, other = best.float().unbind(1)
            other = torch.maximum(other, maxima.scatter_(1, group, -torch.inf).amax(1).float())
            second = torch.maximum(torch.minimum(first, value), torch.maximum(second, other))
            ids = torch.where(value > first, columns.gather(1, inside[:, :1])[:, 0] + number * TILE, ids)
            first = torch.maximum(first, value)
        return ids, first, second

    def candidates(self, half: Tensor, m: int) -> tuple[Tensor, Tensor]:
        """The m <= k largest products of each row, best first: centres i64[n, m] and products f32[n, m]."""
        ids: list[Tensor] = []
        values: list[Tensor] = []
        for number in range(len(self.tiles)):
            best, columns = largest(self.products(half, number), m)
            ids, values = [*ids, columns + number * TILE], [*values, best]
            if number:
                best, places = torch.topk(torch.cat(values, 1), min(m, sum(part.shape[1] for part in values)), dim=1)
                ids, values = [torch.cat(ids, 1).gather(1, places)], [best]
        return ids[0], values[0].float()

    def nearest(self, x: Tensor, l: int, m: int | None = None) -> tuple[Tensor, Tensor]:  # noqa: E741
        """The l nearest centres of rows f32[n, d] on the device: ids i32[n, l] and their exact values f32[n, l]."""
        m = min(len(self), m or l + SPARE)
        candidates = torch.empty((len(x), m), dtype=torch.long, device=self.device)
        to_measure = torch.ones((len(x), m), dtype=torch.bool, device=self.device)
        for part, halves in self.blocks(x):
            candidates[part], products = self.candidates(halves.half, m)
            last = products[:, l - 1]
            to_measure[part, l:] = products[:, l:] >= (last - halves.margin_for(last))[:, None]
        ids, values = ranked(x, self.vectors, candidates, to_measure, self._reach(x), l)
        unsure = torch.nonzero(to_measure[:, -1])[:, 0] if m < len(self) else candidates.new_empty(0)
        step = max(1, CANDIDATES // (8 * m))
        for at in range(0, len(unsure), step):
            rows = unsure[at : at + step]
            ids[rows], values[rows] = self.nearest(x[rows], l, 8 * m)
        return ids, values

    def assigned(self, x: Tensor) -> Tensor:
        """i32[n]: the nearest centre of each row; only near ties are measured."""
        assignment = torch.zeros(len(x), dtype=torch.int32, device=self.device)
        close = torch.zeros(len(x), dtype=torch.bool, device=self.device)
        for part, halves in self.blocks(x):
            ids, first, second = self.leaders(halves.half)
            assignment[part], close[part] = ids.int(), first - second <= halves.margin_for(first)
        rows = torch.nonzero(close)[:, 0]
        if len(rows):
            assignment[rows] = self.nearest(x[rows], 1)[0][:, 0]
        return assignment

    def near(self, x: Tensor, lists: Tensor, previous: Tensor) -> Tensor:
        """i32[n]: the nearest of the centres lists[previous[i]], i64[k, m], for each row i. Rows of one previous centre are
        multiplied with its neighbours together, in float32: their products are few."""
        assignment = torch.zeros(len(x), dtype=torch.int32, device=self.device)
        reach = self._reach(x)
        allowed = 2.01 * (x.shape[1] + 4) * SINGLE * reach
        cells, members = cells_of(previous, len(lists))
        step = max(1, PAIR_BYTES // (4 * x.shape[1] * max(CELL_ROWS, lists.shape[1])))
        for at in range(0, len(cells), step):
            rows, close_to = members[at : at + step], lists[cells[at : at + step]]
            values = x[rows] @ self.vectors[close_to].transpose(1, 2)
            first, best = values.max(2, keepdim=True)
            assignment[rows] = close_to.gather(1, best[:, :, 0]).int()
            in_reach = values >= first - allowed[rows][:, :, None]
            cell, column = torch.nonzero(in_reach.sum(2) > 1, as_tuple=True)
            if len(cell):
                close = rows[cell, column]
                to_measure = in_reach[cell, column]
                assignment[close] = ranked(x[close], self.vectors, close_to[cell], to_measure, reach[close], 1)[0][:, 0]
        return assignment

    def _reach(self, x: Tensor) -> Tensor:
        return norm_bounds(x) * self.longest * 1.001


def largest(products: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m largest of each row of products f16[n, w] (all, where there are fewer), best first, and their columns: f16[n, m],
    i64[n, m].

    torch's selection reads a row many times. The m largest lie in the m groups with the largest maxima: one reading, and a
    selection from a 32nd.
    """
    n, width = products.shape
    groups = width // GROUP
    if m * 4 > groups:
        top = torch.topk(products, min(m, width), dim=1)
        return top.values, top.indices
    chosen = torch.topk(products.view(n, GROUP, groups).amax(1), m, dim=1, sorted=False).indices
    columns = (chosen[:, :, None] + groups * torch.arange(GROUP, device=products.device)).view(n, -1)
    values, inside = torch.topk(products.gather(1, columns), m, dim=1)
    return values, columns.gather(1, inside)


def cells_of(previous: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Rows by their previous centre, CELL_ROWS at a time: that centre, i64[c], and the rows, i64[c, CELL_ROWS]. The last rows
    of a centre are filled up with its last one."""
    order, counts = torch.argsort(previous), torch.bincount(previous, minlength=k)
    blocks = (counts + CELL_ROWS - 1) // CELL_ROWS
    cells = torch.repeat_interleave(torch.arange(len(counts), device=previous.device), blocks)
    number = torch.arange(len(cells), device=previous.device) - (torch.cumsum(blocks, 0) - blocks)[cells]
    within = number[:, None] * CELL_ROWS + torch.arange(CELL_ROWS, device=previous.device)
    start = torch.cumsum(counts, 0) - counts
    return cells, order[start[cells][:, None] + torch.minimum(within, counts[cells][:, None] - 1)]
