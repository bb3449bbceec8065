"""What an index answers, whatever kind it is of. Similarities are inner products of unit vectors everywhere."""

from typing import NamedTuple, Protocol

from pipeline.vectors import Floats, Ints


class Neighbours(NamedTuple):
    """The nearest vectors of each query, best first."""

    ids: Ints
    """i64 [q, k]: see `ids.py`; -1 where there are fewer."""
    similarities: Floats
    """f32 [q, k]: inner products; -inf where there is no neighbour."""


class VectorIndex(Protocol):
    """One opened index. Any number of threads may search it at the same time: nothing that a search sets is shared."""

    @property
    def size(self) -> int:
        """How many vectors it has."""
        ...

    @property
    def dimension(self) -> int:
        """Values of a vector."""
        ...

    def search(self, queries: Floats, k: int, *, allowed: Ints | None = None, effort: int | None = None) -> Neighbours:
        """The k nearest of each query, f32 [q, d] of unit length. `allowed`: ids that may be found, i64 in any order; None: all.
        `effort` of this search alone: lists that are looked into (nprobe), or the width of the walk (efSearch); None: what was
        measured to give the recall that the recipe asks for. Raises InputError for queries of another dimension or with values
        that are not finite, and for k or effort below 1."""
        ...
