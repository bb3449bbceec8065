"""One root, opened to be asked what is near what: by a program, a service or the command line."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Literal, NamedTuple

import numpy as np

from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.queries.neighbours.best import Best
from pipeline.queries.neighbours.encoder import QueryEncoder
from pipeline.queries.neighbours.exact import ExactSearch
from pipeline.queries.neighbours.hits import HitColumns, row_ids
from pipeline.queries.neighbours.indexed import MOST_REFINED, NARROW, REFINED, StoredIndex, meant, stored_index
from pipeline.queries.neighbours.query import Query, checked_vectors, query_vector
from pipeline.queries.neighbours.selection import RowSet, Selection, selection
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.rows.where import Where
from pipeline.queries.sql.condition import batches_where
from pipeline.root.existing import open_root, readable
from pipeline.search.index.ids import by_number
from pipeline.select.verdicts import KEPT
from pipeline.vectors import Floats, Ints, unit
from schemas.answers.neighbours import FoundSample, Hit

Modality = Literal["image", "text"]
MOST = 100_000
"""Neighbours of a query, at most."""
REMEMBERED = 256 << 20
"""Bytes of rows that met the last conditions."""


class Found(NamedTuple):
    """The nearest samples of each query, best first; equal ones in the order of the input."""

    ids: Ints
    """i64 [q, k]: the place of a shard among the plan's in the upper 32 bits, a row of it in the lower; -1 where there are fewer"""
    similarities: Floats
    """f32 [q, k]: cosines; -inf there"""
    exact: bool
    """every vector was compared; else an index found them"""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """One root, opened once; safe for many threads. It goes by the outputs that the root had when it was opened."""

    plan: Plan
    """Over the readable shards."""
    route: str = ""
    """The numeric route by which queries are embedded; empty: the root's own where it can be had here, else this machine's."""

    _listed: dict[str, RowSet] = field(default_factory=dict)
    _indexes: dict[Modality, StoredIndex | None] = field(default_factory=dict)
    _selected: dict[Hashable, tuple[Selection, RowSet]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def open(cls, url: str, route: str = "") -> "Catalogue":
        """A root, a folder or URL. Reads run.json and what it names; no model. Raises RootError for what is no root."""
        return cls(readable(open_root(url)), route)

    @cached_property
    def columns(self) -> RootColumns:
        """Every column that a bound can be put on."""
        return RootColumns(self.plan)

    @cached_property
    def encoder(self) -> QueryEncoder:
        """The model of the root."""
        return QueryEncoder(self.plan, self.route)

    @cached_property
    def _hit_columns(self) -> HitColumns:
        return HitColumns(self.columns)

    @cached_property
    def _uid_columns(self) -> HitColumns:
        return HitColumns(self.columns, ("uid",))

    @property
    def dimension(self) -> int:
        """Values of a vector. Raises InputError for a root without embeddings."""
        return self.columns.dimension

    def warm(self) -> None:
        """Loads what the first query would wait for: the model, the schema of the root, and its indexes. Raises InputError, which
        says what is missing, RootError where an index is damaged."""
        _ = self.dimension, self.columns.schema, self._index("image"), self._index("text")
        self.encoder.open()

    def encode_text(self, texts: Sequence[str]) -> Floats:
        """Unit vectors f32 [n, d] of raw texts. Raises InputError where the model cannot be had."""
        return self.encoder.texts(texts)

    def encode_image(self, images: Sequence[bytes]) -> tuple[Floats, list[str | None]]:
        """Unit vectors f32 [n, d] of encoded images; for each the code of ImageFault that says why it cannot be read (its row is
        zeros), else None. Raises InputError where the model cannot be had."""
        return self.encoder.images(images)

    def vector(self, query: Query) -> Floats:
        """The unit vector f32 [d] of a query; see `query.query_vector`."""
        return query_vector(self.plan, self.columns, self.encoder, query)

    def nearest(  # noqa: PLR0913
        self, vectors: Floats, k: int, *, modality: Modality = "image", where: Where | None = None, verdict: str = KEPT,
        listed: RowSet | None = None, effort: int | None = None, exact: bool = False
    ) -> Found:
        """The k samples nearest to each of the queries f32 [q, d], by their vectors of this modality.

        `verdict`: among which samples, as `selection.selection` takes it; a bound on `verdict` in `where` ({column: bound}, as the
        rules of a recipe) takes its place. `listed`: none but these. `effort`: of this search of
        an index alone. Raises InputError for queries of another dimension or with values that are not finite, k outside 1..MOST,
        and for an unknown modality, verdict or column."""
        chosen = self.check(k, modality, where, verdict, listed)
        queries = checked_vectors(np.asarray(vectors), self.dimension)
        index = None if exact else self._index(modality)
        if index is None or not index.has(chosen):
            return self._compared(modality, queries, k, chosen)
        among = None if index.is_whole(chosen) else self._meant(chosen)
        if among is not None and among.count <= NARROW:
            return self._compared(modality, queries, k, Selection(listed=among))
        return self._by_index(index, modality, queries, k, among, effort)

    def _compared(self, modality: Modality, queries: Floats, k: int, chosen: Selection) -> Found:
        best = ExactSearch(self.columns, modality).search(queries, k, chosen)
        return Found(best.ids, best.similarities, exact=True)

    def _by_index(  # noqa: PLR0913
        self, index: StoredIndex, modality: Modality, queries: Floats, k: int, among: RowSet | None, effort: int | None
    ) -> Found:
        """Where the index has rounded vectors, more than k are measured again by the stored ones."""
        wide = max(k, min(REFINED * k, MOST_REFINED)) if index.rounded else k
        best = index.search(queries, wide, among, effort)
        if index.rounded:
            there = best.ids >= 0
            vectors = self.vectors(best.ids[there], modality).astype(np.float64)
            query = np.nonzero(there)[0]
            measured = np.full(best.ids.shape, -np.inf, np.float32)
            measured[there] = np.einsum("ij,ij->i", queries[query].astype(np.float64), vectors)
            refined = Best.of(queries, k)
            refined.add(best.ids, measured)
            best = refined
        return Found(best.ids, best.similarities, exact=False)

    def _index(self, modality: Modality) -> StoredIndex | None:
        """The root's index of these vectors, opened once."""
        with self._lock:
            if modality not in self._indexes:
                self._indexes[modality] = stored_index(self.columns, modality)
            return self._indexes[modality]

    @property
    def indexes(self) -> dict[Modality, StoredIndex]:
        """The indexes that the root has, by the vectors that they are of."""
        kinds: tuple[Modality, ...] = ("image", "text")
        return {kind: index for kind in kinds if (index := self._index(kind)) is not None}

    def _meant(self, chosen: Selection) -> RowSet:
        """The rows that are meant. Those of the last few selections are remembered, up to REMEMBERED bytes."""
        with self._lock:
            known = self._selected.get(chosen.key)
        if known is not None:
            return known[1]
        rows = meant(self.columns, chosen)
        with self._lock:
            self._selected[chosen.key] = (chosen, rows)   # with what its key names by identity
            while len(self._selected) > 1 and sum(held.bytes for _, held in self._selected.values()) > REMEMBERED:
                self._selected.pop(next(iter(self._selected)))
        return rows

    def listed(self, condition: str) -> RowSet:
        """The samples for which a condition in SQL holds, over the columns of `shardmill sql`'s view `samples`; the last one is
        remembered. Raises InputError for what is no condition. Never for text from HTTP."""
        with self._lock:
            if condition not in self._listed:
                self._listed.clear()
                self._listed[condition] = RowSet.of(batches_where(self.plan, condition, columns=self.columns))
            return self._listed[condition]

    def check(
        self, k: int, modality: Modality = "image", where: Where | None = None, verdict: str = KEPT,
        listed: RowSet | None = None
    ) -> Selection:
        """Which samples are meant. Raises InputError as `nearest` does."""
        if not 1 <= k <= MOST:
            raise InputError(f"k is {k:,}: ask for 1 to {MOST:,} neighbours")
        if modality not in ("image", "text"):
            raise InputError(f"modality is {modality!r}: choose image or text")
        return selection(self.columns, where, verdict, listed)

    def hits(self, ids: Ints, similarities: Floats) -> list[Hit]:
        """What is known of each id, i64 [n] of `Found` without its -1, and its similarity, f32 [n]; in order. Reads the shards that
        they are in."""
        return self._hit_columns.hits(self.located(ids), similarities.tolist())

    def samples(self, rows: Sequence[tuple[str, int]]) -> list[FoundSample]:
        """What is known of each row id (shard_id, row), in order."""
        return self._hit_columns.samples(rows)

    def located(self, ids: Ints) -> list[tuple[str, int]]:
        """(shard_id, row) of each id, i64 [n] of `Found` without its -1."""
        return row_ids(self.columns, ids)

    def vectors(self, ids: Ints, modality: Modality = "image") -> Floats:
        """The stored vectors f32 [n, d] of these ids, unit rows, in order; of remote shards their bytes alone are read."""
        vectors = np.zeros((len(ids), self.dimension), np.float32)
        for number, places, found in by_number(ids):
            rows, back = np.unique(found, return_inverse=True)
            shard_id = self.plan.shards[number].shard_id
            vectors[places] = unit(self.columns.vector_rows(shard_id, f"{modality}_embedding", rows))[back]
        return vectors

    def uids(self, ids: Ints) -> list[str]:
        """The uid of each; no other column is read."""
        return [sample["uid"] for sample in self._uid_columns.values(self.located(ids))]

    def answers(self, found: Found) -> list[list[Hit]]:
        """The hits of each query."""
        there = found.ids >= 0
        flat = self.hits(found.ids[there], found.similarities[there])
        ends = np.cumsum(there.sum(axis=1)).tolist()
        return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []

    def search(  # noqa: PLR0913
        self, vectors: Floats, k: int, *, modality: Modality = "image", where: Where | None = None, verdict: str = KEPT,
        effort: int | None = None
    ) -> list[list[Hit]]:
        """The hits of each query: `nearest`, and what is known of them."""
        return self.answers(self.nearest(vectors, k, modality=modality, where=where, verdict=verdict, effort=effort))
