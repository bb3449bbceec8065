"""Inner products of some pairs of rows and centres that torch makes faster than numpy.

Those in float64 four times as fast: torch's operator for sparse matrices finds each row and centre where it lies, and nothing is
copied together first. `can_pair` tries it once.
"""

import warnings
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.vectors import Doubles, Floats


@cache
def can_pair() -> bool:
    """Whether torch has the operator on a CPU, and it multiplies what it should."""
    rows, centres = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(4, 3)
    starts, columns = np.array([0, 1, 3]), np.array([2, 0, 3])
    try:
        with warnings.catch_warnings():   # torch says once in a process that its sparse matrices are new
            warnings.simplefilter("ignore")
            products = pair_products(rows, centres, starts, columns)
    except (RuntimeError, AttributeError):
        return False
    return bool(products.tolist() == [float(rows[row] @ centres[column]) for row, column in ((0, 2), (1, 0), (1, 3))])


def pair_products(rows: Doubles, centres: Doubles, starts: NDArray[np.int64], columns: NDArray[np.int64]) -> Doubles:
    """f64[p]: of row i with the centres columns[starts[i] : starts[i + 1]], one after the other, in any order of summation."""
    values = torch.zeros(len(columns), dtype=torch.float64)
    pairs = torch.sparse_csr_tensor(
        torch.from_numpy(starts), torch.from_numpy(columns), values, (len(rows), len(centres)), check_invariants=False,
    )
    sampled = torch.sparse.sampled_addmm(pairs, torch.from_numpy(rows), torch.from_numpy(centres).T, beta=0.0)
    products: Doubles = sampled.values().numpy()
    return products


def cell_products(rows: Floats, centres: Floats, members: NDArray[np.int64], near: NDArray[np.integer]) -> Floats:
    """f32[c, r, m]: of the rows members[i] ([c, r]) with the centres near[i] ([c, m]), cell by cell."""
    width = rows.shape[1]
    row_values = torch.from_numpy(rows.take(members.ravel(), axis=0)).view(*members.shape, width)
    centre_values = torch.from_numpy(centres.take(near.ravel(), axis=0)).view(*near.shape, width)
    products: Floats = torch.bmm(row_values, centre_values.transpose(1, 2)).numpy()
    return products
