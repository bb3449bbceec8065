"""Inner products of chosen pairs on a device, as exact as on the CPU: float64, and an exact sum where its order could show."""

import math

import torch
from torch import Tensor

PAIR_BYTES = 1 << 27
"""Bytes of float64 products in memory at a time."""
ULP64 = 2.0**-53
FLOOR = 2.0**-60
"""An upper bound of what a length in float32 can lose where squares underflow."""


def norm_bounds(x: Tensor) -> Tensor:
    """f32[n]: an upper bound of the length of each row f32[n, d], but for its own rounding; not finite where a value is not."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=1)
    return norms + FLOOR


def pair_sums(x: Tensor, rows: Tensor, vectors: Tensor, ids: Tensor) -> Tensor:
    """f64[p]: inner products of x[rows] and vectors[ids]. Products of two float32 are exact in float64."""
    step = max(1, PAIR_BYTES // (8 * x.shape[1]))
    parts = [(x[rows[at : at + step]].double() * vectors[ids[at : at + step]]).sum(1) for at in range(0, len(rows), step)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64, device=x.device)


def exact_products(x: Tensor, rows: Tensor, vectors: Tensor, ids: Tensor, reach: Tensor) -> Tensor:
    """f32[p]: the exact inner products, rounded. `reach`, f32[n], is at least the product of a row's length and any centre's.

    A sum is off by less than d * 2^-53 * reach, in any order. Where that could decide how it is rounded, it is formed exactly,
    on the CPU: a few pairs of 100,000.
    """
    sums = pair_sums(x, rows, vectors, ids)
    error = reach[rows].double() * (2.01 * (x.shape[1] + 4) * ULP64)
    rounded = sums.float()
    close = torch.nonzero((sums - error).float() != (sums + error).float())[:, 0]
    step = max(1, PAIR_BYTES // (8 * x.shape[1]))
    for at in range(0, len(close), step):
        part = close[at : at + step]
        products = (x[rows[part]].double() * vectors[ids[part]]).cpu().numpy()
        rounded[part] = torch.tensor([math.fsum(row) for row in products], dtype=torch.float32, device=x.device)
    return rounded


def ranked(x: Tensor, vectors: Tensor, candidates: Tensor, to_measure: Tensor, reach: Tensor, l: int) -> tuple[Tensor, Tensor]:  # noqa: E741, PLR0913
    """The best l of each row's candidates i64[n, m], of which those in `wanted`, bool [n, m] and l of a row or more, are measured:
    ids i32[n, l] and values f32[n, l]. Equal values rank by the lower id."""
    rows, columns = torch.nonzero(to_measure, as_tuple=True)
    values = torch.full(candidates.shape, -torch.inf, dtype=torch.float32, device=x.device)
    values[rows, columns] = exact_products(x, rows, vectors, candidates[rows, columns], reach)
    best = torch.topk(_keys(values, candidates), l, dim=1).indices
    return candidates.gather(1, best).int(), values.gather(1, best)


def _keys(values: Tensor, ids: Tensor) -> Tensor:
    """i64 that order as (value, then the lower id) do, the best one largest."""
    bits = (values + 0.0).view(torch.int32)   # -0 is 0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) | (0x7FFFFFFF - ids)
