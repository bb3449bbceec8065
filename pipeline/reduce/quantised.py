"""A kernel that rules most centres out in 8-bit integers and multiplies the rest in float32."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import faiss
import numpy as np

from pipeline.reduce.kernels import Floats, Found, tolerance
from pipeline.reduce.largest import Left, best, reached
from pipeline.reduce.products import BlasCentres

if TYPE_CHECKING:
    from pipeline.models.quantised import QuantisedMatrix

SCORES = 16 << 20   # of one product, at most: of a row few centres are left as a rule, but they may be all
FEWEST = 128        # rows below which a product of integers, always a full one, does not pay
LEFT = 32           # of so many centres one may be left: from there on, plain products are as fast
HOPELESS = 0.5      # share of rows with more than that


@dataclass(frozen=True, eq=False)
class QuantisedCentres:
    """oneDNN's products of 8-bit integers, and float32 for what these leave open. Rows of which they leave too much open go to
    plain products, and so does the rest of a call when most do."""

    vectors: Floats

    @cached_property
    def matrix(self) -> "QuantisedMatrix":
        from pipeline.models.quantised import ROWS, QuantisedMatrix  # torch takes seconds to import

        return QuantisedMatrix.of(self.vectors, max(1, min(ROWS, SCORES // len(self.vectors))))

    @cached_property
    def plain(self) -> BlasCentres:
        return BlasCentres(self.vectors)

    def candidates(self, rows: Floats, m: int) -> Found:
        return self._search(rows, m, m)

    def leaders(self, rows: Floats) -> Found:
        """See `kernels.leaders`. A row of which only one centre is left has one that leads by far."""
        ids, values = self._search(rows, 1, 2)
        return ids[:, 0], values[:, 0] - values[:, 1]

    def listed(self, rows: Floats, sure: int, allowed: float) -> tuple[Left, Floats]:
        """See `kernels.Listing`."""
        if len(rows) < FEWEST:
            none = np.empty(0, np.int64)
            return Left(none, none, np.zeros(len(rows), np.int64)), np.empty(0, np.float32)
        parts = [rows[at : at + self.matrix.rows] for at in range(0, len(rows), self.matrix.rows)]
        found = [self._left(part, sure, allowed) for part in parts]
        left = found[0] if len(found) == 1 else Left(
            np.concatenate([one.rows + number * self.matrix.rows for number, one in enumerate(found)]),
            np.concatenate([one.columns for one in found]), np.concatenate([one.counts for one in found]),
        )
        return left, self._measured(rows, left)

    def _search(self, rows: Floats, sure: int, m: int) -> Found:
        """The m best of what is left of each row when the first `sure` must be among it: id -1 where fewer are left."""
        ids, values = np.full((len(rows), m), -1, np.int64), np.full((len(rows), m), -np.inf, np.float32)
        allowed, open_ = tolerance(rows, self.vectors), np.ones(len(rows), np.bool_)
        at = 0
        while len(rows) - at >= FEWEST:
            part = slice(at, at + self.matrix.rows)
            left = self._left(rows[part], sure, allowed)
            found = best(*left.table(self._measured(rows[part], left)), m)
            ids[part, : found[0].shape[1]], values[part, : found[0].shape[1]] = found
            open_[part] = left.counts == 0
            at = min(part.stop, len(rows))
            if open_[part].mean() > HOPELESS:
                break
        again, many = np.flatnonzero(open_), min(m, len(self.vectors))
        if len(again):
            ids[again, :many], values[again, :many] = self.plain.candidates(rows[again], many)
        return ids, values

    def _left(self, rows: Floats, sure: int, allowed: float) -> Left:
        """The centres that may be among the first `sure` of each row, or tie with them in float32; none where that is too many."""
        scored = self.matrix.scored(rows)
        width = np.floor((2 * scored.off + allowed) / scored.step * 1.0001)
        low = reached(scored.scores, sure) - np.minimum(width, 256)
        mask = scored.scores >= np.clip(low, 0, 255).astype(np.uint8)[:, None]
        mask[low <= 0] = False
        left = Left.where(mask)
        return left.only(left.counts <= 4 * sure + len(self.vectors) // LEFT)

    def _measured(self, rows: Floats, left: Left) -> Floats:
        values = np.empty(len(left.rows), np.float32)
        rows, point, library = np.ascontiguousarray(rows), faiss.swig_ptr, cast(Any, faiss)
        library.pairwise_indexed_inner_product(
            rows.shape[1], len(values), point(rows), point(left.rows), point(self.vectors), point(left.columns), point(values)
        )
        return values
