"""A kernel of plain float32 products by numpy's BLAS, a block of rows and a tile of centres at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.search.kernels import SearchResult
from pipeline.search.largest import Shortlist, best, bound_of
from pipeline.vectors import Floats

ROWS, WIDTH = 1024, 4096   # 16 MB of products


@dataclass(frozen=True, eq=False)
class BlasCentres:
    """Centres f32[k, d] multiplied by numpy, whose OpenBLAS is newer than FAISS's."""

    vectors: Floats

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `kernels.Centres`."""
        ids, values = np.empty((len(rows), m), np.int64), np.empty((len(rows), m), np.float32)
        for at in range(0, len(rows), ROWS):
            part = slice(at, at + ROWS)
            tiles = [_best(products, first, m) for first, products in self._tiles(rows[part])]
            merged = tiles[0]
            if len(tiles) > 1:
                columns, scores = (np.concatenate([tile[half] for tile in tiles], axis=1) for half in (0, 1))
                merged = best(columns, scores, m)
            ids[part], values[part] = merged
        return ids, values

    def leaders(self, rows: Floats) -> SearchResult:
        """See `kernels.leaders`. numpy finds a row's largest product fast, and its second as the largest without it."""
        ids = np.zeros(len(rows), np.int64)
        first, second = (np.full(len(rows), -np.inf, np.float32) for _ in range(2))
        for at in range(0, len(rows), ROWS):
            part = slice(at, at + ROWS)
            for start, products in self._tiles(rows[part]):
                column = products.argmax(axis=1)[:, None]
                values = np.take_along_axis(products, column, 1)[:, 0]
                np.put_along_axis(products, column, -np.inf, 1)
                second[part] = np.maximum(np.minimum(first[part], values), np.maximum(second[part], products.max(axis=1)))
                ids[part] = np.where(values > first[part], column[:, 0] + start, ids[part])
                first[part] = np.maximum(first[part], values)
        return ids, first - second

    def _tiles(self, rows: Floats) -> Iterator[tuple[int, Floats]]:
        """(the first centre of a tile, products f32[n, up to WIDTH]); the products are overwritten by the next ones."""
        space = np.empty(len(rows) * min(WIDTH, len(self.vectors)), np.float32)
        for start in range(0, len(self.vectors), WIDTH):
            tile = self.vectors[start : start + WIDTH]
            products = space[: len(rows) * len(tile)].reshape(len(rows), len(tile))
            yield start, np.matmul(rows, tile.T, out=products)


def _best(products: Floats, first: int, m: int) -> SearchResult:
    """The m best of a tile's products f32[n, width]; ids count from `first`."""
    shortlist = Shortlist.where(products >= bound_of(products, min(m, products.shape[1]))[:, None])
    columns, values = best(*shortlist.table(products[shortlist.rows, shortlist.columns]), m)
    return columns + first, values
