"""One publication of a root in the hands of a service."""

import re
from dataclasses import dataclass
from functools import cached_property
from threading import BoundedSemaphore

import pyarrow as pa

from pipeline.columns import row_name
from pipeline.errors import InputError
from pipeline.export.class_table import class_names, has_class_table, stored_class_table
from pipeline.models.spec import label
from pipeline.queries.naming import RowId
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.report.pictures import evenly_spread
from pipeline.search.index.ids import ROW_BITS
from pipeline.select.ledger import Ledger
from pipeline.select.stored import require_ledger, stored_ledger
from pipeline.serve.problems import Refused
from pipeline.serve.roots.images import Images
from pipeline.serve.roots.listing import Listing
from pipeline.serve.roots.lookup import Lookup
from pipeline.serve.settings import Settings
from pipeline.store.store import Store
from schemas.answers.serving import ServedColumn, ServedIndex, ServedRoot

UID = re.compile(r"[0-9a-f]{32}")
PLACE = re.compile(r"(?P<shard>[^/\\\x00-\x1f\x7f]{1,300}):(?P<row>[0-9]{1,10})")
FORMS = "a sample is named by its uid, 32 hex digits, or as SHARD:ROW"
LANGUAGE_SHARDS = 32
"""Shards whose languages are counted."""


@dataclass(frozen=True, eq=False)
class OpenedRoot:
    """What a service asks of a root; safe for many threads. It stays what it is when the root publishes something else: requests
    that have begun with it end with it."""

    name: str
    version: str | None
    """of the publication, as `publication` names it"""
    catalogue: Catalogue
    ledger: Ledger
    images: Images
    lookup: Lookup
    listing: Listing

    @classmethod
    def open(cls, url: str, name: str, version: str | None, settings: Settings, scans: BoundedSemaphore) -> "OpenedRoot":
        """Reads run.json and the account of the run. Raises RootError for what is no root, and before it has verdicts; InputError
        for one without embeddings or samples."""
        catalogue = Catalogue.open(url, settings.route)
        plan = catalogue.plan
        require_ledger(plan.root, plan.verdicts)
        columns = catalogue.columns
        _ = catalogue.dimension
        ledger = stored_ledger(plan.root, plan.verdicts)
        lookup = Lookup(columns, ledger.read <= settings.uids_held, scans)
        return cls(name, version, catalogue, ledger, Images(columns), lookup, Listing(catalogue, ledger))

    def warm(self, *, encoder: bool) -> None:
        """Loads what the first requests would wait for: the encoder, the indexes, the uids, the facts."""
        if encoder:
            self.catalogue.warm()
        self.lookup.warm()
        _ = self.facts

    @property
    def store(self) -> Store:
        """The root's folder."""
        return self.catalogue.plan.root

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Names of the classes that label samples, by id; none without classes."""
        plan = self.catalogue.plan
        return class_names(self.store, plan.fitted.classes) if has_class_table(self.store, plan.classes) else {}

    @cached_property
    def facts(self) -> ServedRoot:
        """What there is to be asked for."""
        plan, columns = self.catalogue.plan, self.catalogue.columns
        levels: tuple[int, ...] = ()
        if has_class_table(self.store, plan.classes):
            levels = tuple(sorted(set(stored_class_table(self.store, plan.fitted.classes, ["level"]).column("level").to_pylist())))
        bounded = [field for field in columns.schema if pa.types.is_primitive(field.type) or pa.types.is_string(field.type)]
        return ServedRoot(
            name=self.name, samples=self.ledger.read, kept=self.ledger.kept, dimension=self.catalogue.dimension,
            model=label(plan.clip.spec), classes=len(self.class_names), levels=levels,
            indexes=tuple(ServedIndex(modality=kind, kind=index.record.kind, size=index.index.size)
                          for kind, index in self.catalogue.indexes.items()),
            columns=tuple(ServedColumn(name=field.name, type=str(field.type)) for field in bounded),
            verdicts=dict(sorted(self.ledger.verdicts.items(), key=lambda pair: (-pair[1], pair[0]))), languages=self._languages())

    def _languages(self) -> dict[str, int]:
        columns = self.catalogue.columns
        if "language" not in columns.stored:
            return {}
        counts: dict[str, int] = {}
        for shard in evenly_spread(columns.plan.shards, LANGUAGE_SHARDS):
            for pair in columns.read(shard.shard_id, ["language"])["language"].value_counts().to_pylist():
                if pair["values"] is not None:
                    counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def rows(self, name: str) -> tuple[RowId, ...]:
        """The samples of this name, a uid or SHARD:ROW; never none. Raises Refused for another name, and for one that no sample
        has. No path is made of it: a shard is looked for among those of the root."""
        if UID.fullmatch(name):
            try:
                rows = self.lookup.rows(name)
            except InputError:
                rows = ()
            if len(rows):
                rows = tuple((hit.shard_id, hit.row) for hit in self.catalogue.samples(rows) if hit.uid == name)
            if not rows:
                raise Refused(404, "this root has no sample with this uid")
            return rows
        place = PLACE.fullmatch(name)
        if place is None:
            raise Refused(400, FORMS, field="uid")
        row_id = place["shard"], int(place["row"])
        if row_id[1] >= self.listing.counts.get(row_id[0], 0):
            raise Refused(404, "this root has no such sample")
        return (row_id,)

    def one(self, name: str) -> str:
        """The first sample of this name, as SHARD:ROW. Raises as `rows`."""
        return row_name(*self.rows(name)[0])

    def row_of_id(self, id: int) -> RowId:
        """The sample that an answer has called so. Raises Refused for an id that is none."""
        shards, (number, row) = self.catalogue.plan.shards, divmod(id, 1 << ROW_BITS)
        if not 0 <= number < len(shards) or row >= self.listing.counts.get(shards[number].shard_id, 0):
            raise Refused(404, "this root has no sample with this id", field="ids")
        return shards[number].shard_id, row

    def told(self, text: str) -> str:
        """A message without paths of this machine: the root by its name."""
        return text.replace(self.store.url, self.name)
