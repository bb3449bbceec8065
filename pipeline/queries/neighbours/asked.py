"""One query to a root and its answer, as `shardmill query` asks it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.queries.neighbours.catalogue import Catalogue, Modality
from pipeline.queries.neighbours.query import Query
from pipeline.select.verdicts import KEPT
from pipeline.vectors import Ints
from schemas.answers.neighbours import QueryHits


@dataclass(frozen=True)
class Scope:
    """Which samples are looked among, and how."""

    k: int = 10
    modality: Modality = "image"
    """Whose vectors are compared with a query."""
    verdict: str = KEPT
    """As `selection.selection` takes it."""
    listed: Mapping[str, Ints] | None = None
    """None but these rows, i64 [n] ascending, by shard."""
    effort: int | None = None
    """Of a search of an index; None: what was measured to be enough."""
    exact: bool = False
    """No index is asked."""


def query_hits(catalogue: Catalogue, url: str, query: Query, scope: Scope) -> QueryHits:
    """The samples nearest to a query; `url` is the root's, as it was given. Raises InputError, which says what to do, for a query
    or scope that cannot be used, RootError where the run is not as far."""
    catalogue.check(scope.k, scope.modality, verdict=scope.verdict)   # before a model is loaded
    vector = catalogue.vector(query)
    found = catalogue.nearest(
        vector[None], scope.k, modality=scope.modality, verdict=scope.verdict, listed=scope.listed, effort=scope.effort,
        exact=scope.exact)
    return QueryHits(
        root=url, query=query.words, modality=scope.modality, verdict=scope.verdict, exact=found.exact,
        hits=tuple(catalogue.answers(found)[0]))
