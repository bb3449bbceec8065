"""One query to a root and its answer, as `shardmill query` asks it."""

from dataclasses import dataclass

from pipeline.queries.neighbours.catalogue import Catalogue, Found, Modality
from pipeline.queries.neighbours.query import Query
from pipeline.queries.neighbours.selection import RowSet
from pipeline.select.verdicts import KEPT
from pipeline.vectors import Floats
from schemas.answers.neighbours import QueryHits


@dataclass(frozen=True)
class Scope:
    """Which samples are looked among, and how."""

    k: int = 10
    modality: Modality = "image"
    """Whose vectors are compared with a query."""
    verdict: str = KEPT
    """As `selection.selection` takes it."""
    condition: str = ""
    """In SQL, of the user's own: over the columns of the view `samples`; empty: none."""
    effort: int | None = None
    """Of a search of an index; None: what was measured to be enough."""
    exact: bool = False
    """No index is asked."""

    def check(self, catalogue: Catalogue) -> None:
        """Raises InputError for what the root cannot be asked."""
        catalogue.check(self.k, self.modality, verdict=self.verdict, listed=self._listed(catalogue))

    def nearest(self, catalogue: Catalogue, vectors: Floats) -> Found:
        """The neighbours of each query f32 [q, d]."""
        return catalogue.nearest(
            vectors, self.k, modality=self.modality, verdict=self.verdict, listed=self._listed(catalogue), effort=self.effort,
            exact=self.exact)

    def _listed(self, catalogue: Catalogue) -> RowSet | None:
        return catalogue.listed(self.condition) if self.condition else None


def query_hits(catalogue: Catalogue, url: str, query: Query, scope: Scope) -> QueryHits:
    """The samples nearest to a query; `url` is the root's, as it was given. Raises InputError, which says what to do, for a query
    or scope that cannot be used, RootError where the run is not as far."""
    scope.check(catalogue)   # before a model is loaded
    found = scope.nearest(catalogue, catalogue.vector(query)[None])
    return QueryHits(
        root=url, query=query.words, modality=scope.modality, verdict=scope.verdict, exact=found.exact,
        hits=tuple(catalogue.answers(found)[0]))
