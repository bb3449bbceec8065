"""Lists out of a root, a page at a time: samples in the order of the inputs, classes, entities. Each reads no more than it shows,
and stops after a while, for a billion rows have many that no condition meets."""

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.columns import Run
from pipeline.export.class_table import has_class_table, stored_class_table
from pipeline.queries.classes import rows_where
from pipeline.queries.naming import RowId
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.selection import Selection, selection
from pipeline.queries.simulate import explained
from pipeline.root.existing import gathered
from pipeline.select.ledger import Ledger
from pipeline.serve.problems import Refused
from pipeline.store.tables import read_table
from schemas.answers.classes import ClassMember, ClassRow
from schemas.answers.samples import Explanation
from schemas.answers.serving import ClassPage, EntityCount, EntityPage, SamplePage

SECONDS = 5.0
"""After which a page of samples ends where it has got to."""
EXEMPLARS = 6
"""Of each class of a page."""


@dataclass(frozen=True, eq=False)
class Listing:
    """What of a root can be listed; safe for many threads."""

    catalogue: Catalogue
    ledger: Ledger

    @cached_property
    def counts(self) -> dict[str, int]:
        """Samples by shard."""
        return {shard_id: sum(verdicts.values()) for shard_id, verdicts in self.ledger.shards.items()}

    def samples(self, where: dict[str, Any], verdict: str, offset: int, limit: int) -> SamplePage:
        """Samples that meet all bounds, from the `offset`-th of the run on. Raises InputError for a verdict, a column or a bound
        that does not fit."""
        columns, shards = self.catalogue.columns, self.catalogue.plan.shards
        chosen, until = selection(columns, where, verdict), time.monotonic() + SECONDS
        rows: list[RowId] = []
        place = max(0, bisect_right(self._starts, offset) - 1)
        after: int | None = None
        for shard, first in zip(shards[place:], self._starts[place:], strict=True):
            end = first + self.counts.get(shard.shard_id, 0)
            for row in self._matching(chosen, shard.shard_id, max(0, offset - first)):
                rows.append((shard.shard_id, row))
                if len(rows) == limit:
                    after = first + row + 1
                    break
            if after is None and time.monotonic() > until:
                after = end
            if after is not None:
                break
        following = {"next": after} if after is not None and after < self.ledger.read else {}
        total = self._total(where, chosen)
        counted = {"total": total} if total is not None else {}
        return SamplePage(samples=tuple(self.catalogue.samples(rows)), **counted, **following)

    @cached_property
    def _starts(self) -> list[int]:
        """The place in the run of the first sample of each shard."""
        counts = [self.counts.get(shard.shard_id, 0) for shard in self.catalogue.plan.shards]
        return list(accumulate(counts[:-1], initial=0))

    def _matching(self, chosen: Selection, shard_id: str, start: int) -> list[int]:
        """The rows of a shard that are meant, from `start` on, ascending. A shard without such a verdict is not read."""
        count = self.counts.get(shard_id, 0)
        if start >= count:
            return []
        if chosen.verdicts is not None and not self.ledger.shards.get(shard_id, {}).keys() & set(chosen.verdicts):
            return []
        rows = chosen.rows(self.catalogue.columns, shard_id)
        return list(range(start, count)) if rows is None else [int(row) for row in rows[np.searchsorted(rows, start):]]

    def _total(self, where: dict[str, Any], chosen: Selection) -> int | None:
        """How many samples are meant, where the account of the run says it."""
        counts = self.ledger.verdicts
        if not chosen.bounds and chosen.listed is None:
            return self.ledger.read if chosen.verdicts is None else sum(counts.get(name, 0) for name in chosen.verdicts)
        if set(where) != {"verdict"} or not isinstance(where["verdict"], str | list):
            return None
        names = where["verdict"] if isinstance(where["verdict"], list) else [where["verdict"]]
        return sum(counts.get(str(name), 0) for name in set(names))

    def explain(self, rows: Sequence[RowId]) -> tuple[Explanation, ...]:
        """Why each of these samples has its verdict."""
        return tuple(explained(self.catalogue.plan, self._run, *row_id) for row_id in rows)

    @cached_property
    def _run(self) -> Run:
        return gathered(self.catalogue.plan)

    def classes(self, level: int, parent: int | None, words: str, offset: int, limit: int) -> ClassPage:
        """Classes of a level, the largest first. Raises Refused where the root has none."""
        table = self._class_names.filter(pc.equal(self._class_names.column("level"), level))
        if parent is not None:
            table = table.filter(pc.equal(table.column("parent"), parent))
        if words:
            table = table.filter(_contains(table.column("name"), words))
        table = table.sort_by([("size", "descending"), ("class_id", "ascending")])
        ids = table.column("class_id").slice(offset, limit).to_pylist()
        found = {row.class_id: row for row in self._class_rows(level, ids)}
        exemplars = [(member.shard_id, member.row) for row in found.values() for member in row.exemplars[:EXEMPLARS]]
        uids = dict(zip(exemplars, (sample.uid for sample in self.catalogue.samples(exemplars)), strict=True))
        shown = []
        for id in ids:
            members = tuple(ClassMember(**{**dict(member), "uid": uids[member.shard_id, member.row]})
                            for member in found[id].exemplars[:EXEMPLARS])
            shown.append(ClassRow(**{**dict(found[id]), "exemplars": members, "outliers": ()}))
        return ClassPage(classes=tuple(shown), total=table.num_rows)

    def _class_rows(self, level: int, ids: list[int]) -> list[ClassRow]:
        if not ids:
            return []
        return rows_where(self.catalogue.plan, (pc.field("level") == level) & pc.field("class_id").isin(ids))

    @cached_property
    def _class_names(self) -> pa.Table:
        plan = self.catalogue.plan
        if not has_class_table(plan.root, plan.classes):
            raise Refused(404, "this root has no classes: its recipe has no classes.k", code="no_classes")
        return stored_class_table(plan.root, plan.fitted.classes, ["class_id", "level", "parent", "name", "size"])

    def entities(self, words: str, limit: int) -> EntityPage:
        """Entities whose name has these words or whose id is this, the most frequent first."""
        table = self._entities
        if words:
            table = table.filter(pc.or_(_contains(table.column("name"), words), pc.equal(table.column("id"), words)))
        return EntityPage(entities=tuple(EntityCount(**row) for row in table.slice(0, limit).to_pylist()))

    @cached_property
    def _entities(self) -> pa.Table:
        plan = self.catalogue.plan
        try:
            table = read_table(plan.root, plan.frequent.path, ["id", "name", "count"])
        except FileNotFoundError:
            raise Refused(404, "this root has no entities", code="no_entities") from None
        return table.sort_by([("count", "descending"), ("id", "ascending")])


def _contains(column: Any, words: str) -> Any:
    """bool [n]: whether the text has these words, whatever their case."""
    return pc.match_substring(pc.utf8_lower(column), words.lower())
