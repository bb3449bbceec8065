"""A kernel that rules most centres out in 8-bit integers and multiplies the rest in float32."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import faiss
import numpy as np

from pipeline.search.kernels import Found, tolerance
from pipeline.search.largest import Left, best, reached
from pipeline.search.products import BlasCentres
from pipeline.vectors import Floats

if TYPE_CHECKING:
    from pipeline.models.matrices.quantised import QuantisedMatrix

TOP = 255
SCORES = 16 << 20   # of one product, at most: of a row few centres are left as a rule, but they may be all
FEWEST = 128        # rows below which a product of integers, always a full one, does not pay
LEFT = 8            # of so many centres one may be left: from there on, plain products are as fast
HOPELESS = 0.5      # share of rows with more than that
LOOK = 1.15         # times how far a product may be off: products this far below the best few are looked at. Errors that add up
                    # are rare, so it is nearly always enough; the products in float32 tell whether it was


@dataclass(frozen=True, eq=False)
class QuantisedCentres:
    """oneDNN's products of 8-bit integers, and float32 for what these leave open. Rows of which they leave too much open go to
    plain products, and so does the rest of a call when most do."""

    vectors: Floats

    @cached_property
    def matrix(self) -> "QuantisedMatrix":
        from pipeline.models.matrices.quantised import ROWS, QuantisedMatrix  # torch takes seconds to import

        return QuantisedMatrix.of(self.vectors, max(1, min(ROWS, SCORES // len(self.vectors))))

    @cached_property
    def plain(self) -> BlasCentres:
        return BlasCentres(self.vectors)

    def candidates(self, rows: Floats, m: int) -> Found:
        return self._search(rows, m, m)

    def leaders(self, rows: Floats) -> Found:
        """See `kernels.leaders`. A row of which only one centre is left has one that leads by more than float32 gets
        wrong."""
        ids, values = self._search(rows, 1, 2)
        return ids[:, 0], values[:, 0] - values[:, 1]

    def listed(self, rows: Floats, sure: int, allowed: float) -> Left:
        """See `kernels.Listing`."""
        found = [left for _, left, _ in self._blocks(rows, sure, allowed)]
        return found[0] if len(found) == 1 else Left.joined(found)

    def _search(self, rows: Floats, sure: int, m: int) -> Found:
        """The m best of what is left of each row when the first `sure` must be among it: id -1 where fewer are left."""
        ids, values = np.full((len(rows), m), -1, np.int64), np.full((len(rows), m), -np.inf, np.float32)
        open_ = np.ones(len(rows), np.bool_)
        for part, left, products in self._blocks(rows, sure, tolerance(rows, self.vectors)):
            found = best(*left.table(products), m)
            ids[part, : found[0].shape[1]], values[part, : found[0].shape[1]] = found
            open_[part] = left.counts == 0
            if open_[part].mean() > HOPELESS:
                break
        again, many = np.flatnonzero(open_), min(m, len(self.vectors))
        if len(again):
            ids[again, :many], values[again, :many] = self.plain.candidates(rows[again], many)
        return ids, values

    def _blocks(self, rows: Floats, sure: int, allowed: float) -> Iterator[tuple[slice, Left, Floats]]:
        """(rows, the centres that may be among the first `sure` of each, or tie with these, their products) of so many rows as
        one product has. Of a row for which too many would be left, none."""
        for at in range(0, len(rows), self.matrix.rows):
            part = slice(at, min(at + self.matrix.rows, len(rows)))
            if part.stop - part.start < FEWEST:
                yield part, Left.none(part.stop - part.start), np.empty(0, np.float32)
                continue
            scored = self.matrix.scored(rows[part])
            width = np.floor((LOOK * scored.off + allowed) / scored.step * 1.0001)
            low = np.maximum(reached(scored.scores, sure) - np.minimum(width, TOP), 1)
            left = Left.where(scored.scores >= low.astype(np.uint8)[:, None])
            left = left.only(left.counts <= 4 * sure + len(self.vectors) // LEFT)
            products = self._measured(rows[part], left)
            least = left.least(products, sure)
            sound = (low - 1) * scored.step + scored.off < least - allowed   # of what was not looked at, nothing reaches the best
            kept = products >= np.repeat(np.where(sound, least - np.float32(allowed), np.inf), left.counts)
            yield part, left.among(kept), products[kept]

    def _measured(self, rows: Floats, left: Left) -> Floats:
        values = np.empty(len(left.rows), np.float32)
        rows, point, library = np.ascontiguousarray(rows), faiss.swig_ptr, cast(Any, faiss)
        library.pairwise_indexed_inner_product(
            rows.shape[1], len(values), point(rows), point(left.rows), point(self.vectors), point(left.columns), point(values)
        )
        return values
