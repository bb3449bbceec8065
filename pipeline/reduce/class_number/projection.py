"""Few-dimensional coordinates of embeddings on a binary grid, so that sums and inner products of them are exact in float64.

A Gaussian with full covariance needs far more than d^2/2 rows per class: classes are therefore modelled in 8 to 16
principal components. On a grid of 2^-16, every product is a multiple of 2^-32 and a sum over 2^19 rows still fits
float64's 53 bits: no order of additions, number of threads or BLAS changes a bit. The one exception is LAPACK's
eigenvectors; they are rounded to the grid as well, which hides their last digits.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

Coordinates = NDArray[np.float64]
"""f64 [n, D]: rows in D principal components, on the grid; also what is computed from them, of any shape."""

GRID = 2.0**16
MAX_ROWS = 20_000
ROWS_PER_CLASS = 128   # D^2 / 2 for 16 dimensions


def on_grid(values: NDArray[np.floating]) -> Coordinates:
    """The values rounded to multiples of 2^-16, f64, same shape."""
    return np.asarray(np.rint(np.asarray(values, np.float64) * GRID) / GRID, np.float64)


def dimensions(rows: int, k: int) -> int:
    """Principal components for k classes over so many rows: 16 where there are rows enough for the covariances, else 8."""
    return 16 if rows >= ROWS_PER_CLASS * k else 8


def projected(unit_rows: NDArray[np.floating], components: int) -> Coordinates:
    """The leading principal components of at most 20,000 unit rows [n, d], centred: f64[n, min(d, components)], on the grid.

    Rows of no more than `components` dimensions are only centred. Raises InputError for more rows than stay exact.
    """
    if len(unit_rows) > MAX_ROWS:
        raise InputError(f"at most {MAX_ROWS} rows are projected at once, not {len(unit_rows)}; draw a sample")
    x = on_grid(unit_rows)
    x = x - on_grid(x.sum(axis=0) / max(len(x), 1))
    if x.shape[1] <= components:
        return x
    return on_grid(x @ _axes(x, components))


def _axes(x: Coordinates, count: int) -> Coordinates:
    """f64[d, count]: principal axes, the widest first, each with its largest component positive."""
    vectors = np.linalg.eigh(x.T @ x)[1][:, ::-1][:, :count]
    largest = np.abs(vectors).argmax(axis=0)
    return on_grid(vectors * np.sign(vectors[largest, np.arange(count)]))
