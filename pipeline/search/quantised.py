"""A kernel that rules most centres out by products of 8-bit integers and multiplies the rest in float32."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import faiss
import numpy as np

from pipeline.search.kernels import SearchResult, tolerance
from pipeline.search.largest import Shortlist, best, bound_of
from pipeline.search.products import BlasCentres
from pipeline.vectors import Floats

if TYPE_CHECKING:
    from pipeline.models.matrices.quantised import QuantisedMatrix

TOP = 255
SCORES = 16 << 20   # of one product, at most: a row's shortlist is short as a rule, but may hold all centres
FEWEST = 128        # rows below which a product of integers, always a full one, does not pay
LEFT = 8            # of so many centres one may be shortlisted: from there on, plain products are as fast
HOPELESS = 0.5      # share of rows with more than that
LOOK = 1.15         # times how far a product may be off: products this far below the best few are shortlisted. Errors that add up
                    # are rare, so it is nearly always enough; the products in float32 tell whether it was


@dataclass(frozen=True, eq=False)
class QuantisedCentres:
    """Centres f32[k, d] compared by oneDNN's products of 8-bit integers, and by float32 for the shortlist that these leave. Rows
    with too long a shortlist go to plain products, and so does the rest of a call when most do."""

    vectors: Floats

    @cached_property
    def matrix(self) -> "QuantisedMatrix":
        """The centres in 8 bits."""
        from pipeline.models.matrices.quantised import ROWS, QuantisedMatrix  # torch takes seconds to import

        return QuantisedMatrix.of(self.vectors, max(1, min(ROWS, SCORES // len(self.vectors))))

    @cached_property
    def plain(self) -> BlasCentres:
        """The kernel of the rows that are left open."""
        return BlasCentres(self.vectors)

    def candidates(self, rows: Floats, m: int) -> SearchResult:
        """See `kernels.Centres`."""
        return self._search(rows, m, m)

    def leaders(self, rows: Floats) -> SearchResult:
        """See `kernels.leaders`. A row with a shortlist of one centre has one that leads by more than float32 gets
        wrong."""
        ids, values = self._search(rows, 1, 2)
        return ids[:, 0], values[:, 0] - values[:, 1]

    def listed(self, rows: Floats, sure: int, allowed: float) -> Shortlist:
        """See `kernels.Listing`."""
        shortlists = [shortlist for _, shortlist, _ in self._blocks(rows, sure, allowed)]
        return shortlists[0] if len(shortlists) == 1 else Shortlist.joined(shortlists)

    def _search(self, rows: Floats, sure: int, m: int) -> SearchResult:
        """The m best of each row's shortlist, which holds its first `sure`: id -1 where it is shorter."""
        ids, values = np.full((len(rows), m), -1, np.int64), np.full((len(rows), m), -np.inf, np.float32)
        unresolved = np.ones(len(rows), np.bool_)
        for part, shortlist, products in self._blocks(rows, sure, tolerance(rows, self.vectors)):
            part_best = best(*shortlist.table(products), m)
            ids[part, : part_best[0].shape[1]], values[part, : part_best[0].shape[1]] = part_best
            unresolved[part] = shortlist.counts == 0
            if unresolved[part].mean() > HOPELESS:
                break
        remaining, many = np.flatnonzero(unresolved), min(m, len(self.vectors))
        if len(remaining):
            ids[remaining, :many], values[remaining, :many] = self.plain.candidates(rows[remaining], many)
        return ids, values

    def _blocks(self, rows: Floats, sure: int, allowed: float) -> Iterator[tuple[slice, Shortlist, Floats]]:
        """(rows, the shortlist of centres that may be among the first `sure` of each or tie with these, their products f32[p]), as
        many rows at a time as one product has. A row whose shortlist would be too long gets none."""
        for at in range(0, len(rows), self.matrix.rows):
            part = slice(at, min(at + self.matrix.rows, len(rows)))
            if part.stop - part.start < FEWEST:
                yield part, Shortlist.empty(part.stop - part.start), np.empty(0, np.float32)
                continue
            scored = self.matrix.scored(rows[part])
            width = np.floor((LOOK * scored.off + allowed) / scored.step * 1.0001)
            low = np.maximum(bound_of(scored.scores, sure) - np.minimum(width, TOP), 1)
            shortlist = Shortlist.where(scored.scores >= low.astype(np.uint8)[:, None])
            shortlist = shortlist.only(shortlist.counts <= 4 * sure + len(self.vectors) // LEFT)
            products = self._measured(rows[part], shortlist)
            threshold = shortlist.mth_largest(products, sure)
            sound = (low - 1) * scored.step + scored.off < threshold - allowed   # nothing beyond the shortlist reaches the best
            reaching = products >= np.repeat(np.where(sound, threshold - np.float32(allowed), np.inf), shortlist.counts)
            yield part, shortlist.among(reaching), products[reaching]

    def _measured(self, rows: Floats, shortlist: Shortlist) -> Floats:
        values = np.empty(len(shortlist.rows), np.float32)
        rows, point, library = np.ascontiguousarray(rows), faiss.swig_ptr, cast(Any, faiss)
        library.pairwise_indexed_inner_product(
            rows.shape[1], len(values), point(rows), point(shortlist.rows),
            point(self.vectors), point(shortlist.columns), point(values),
        )
        return values
