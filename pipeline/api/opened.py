"""An output root in the hands of a program."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.api.samples import Samples
from pipeline.columns import row_name
from pipeline.errors import InputError, RootError
from pipeline.plan import Plan
from pipeline.queries.naming import find_samples
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.rows.pictures import READ, image_bytes
from pipeline.queries.rows.where import Where, bounds
from pipeline.root.existing import open_root, pair_tables, readable
from pipeline.select.ledger import Ledger
from pipeline.select.stored import require_ledger, stored_ledger
from pipeline.store.tables import read_table
from schemas.answers.classes import ClassRow
from schemas.answers.runs import Status
from schemas.answers.samples import Explanation

USUAL = (
    "uid", "shard_id", "row", "key", "caption", "verdict", "clip_similarity", "width", "height", "language", "entities",
    "labels", "label_weights", "label_names", "class_id", "class_name", "class_levels",
)
"""What `samples` gives where no columns are named, as far as the root has them."""


def open(root: str | os.PathLike[str]) -> "Root":   # `shardmill.open`
    """The output root of a run, a folder or URL, to be looked at; reads run.json. The run need not be finished: what it has not
    made yet raises RootError when it is asked for. Raises RootError for what is no root, or a damaged one."""
    url = os.fspath(root)
    return Root(url, open_root(url))


@dataclass(frozen=True)
class Root:
    """An output root. Its methods read and change nothing, but for `report`; they go by the recipe and the inputs that the root had
    when it was opened, so open it again after another run.

    Captions, keys and images are untrusted: escape them where they reach HTML, and build no path from them.
    """

    url: str
    _full_plan: Plan

    def __repr__(self) -> str:
        return f"shardmill.open({self.url!r})"

    @cached_property
    def _plan(self) -> Plan:
        return readable(self._full_plan)

    @cached_property
    def _columns(self) -> RootColumns:
        return RootColumns(self._plan)

    @property
    def ledger(self) -> Ledger:
        """What became of every sample, in counts: `read`, `kept`, `rejected` and `failed` by reason, `gaps`, `quarantined`;
        read = kept + rejected + failed. Raises RootError before there are verdicts."""
        require_ledger(self._plan.root, self._plan.verdicts)
        return stored_ledger(self._plan.root, self._plan.verdicts)

    @property
    def schema(self) -> pa.Schema:
        """Names and types of all columns that `samples` can give: what the stages wrote (schemas/json/ documents it), `verdict`,
        the labels, and what is made here:

        - `shard_id` and `row` (int32): the row id; unique, where a `uid` may be there twice;
        - `image_embedding` and `text_embedding` (float16 [d]): unit vectors, null where there is none;
        - `label_names` (list of string): the names of `labels`, the nearest class first;
        - `class_id` (int32) and `class_name`: the nearest class;
        - `class_levels` (list of int32) and `class_level_names`: the classes above that one, the next coarser first.

        Columns of classes are null for samples that are not labelled, and not there without classes.
        """
        return self._columns.schema

    def status(self) -> Status:
        """How far the run is and what became of its samples, as `shardmill status --json` has it."""
        from pipeline.queries.status import status

        return status(self.url)

    def path(self, what: str) -> str:
        """Where a published output is, as `shardmill path` says it: `shards`, `tars` (their brace pattern, for a loader),
        `verdicts`, `subset`, `labels`, `classes`, `centroids`, `embeddings` or `report`. Raises InputError for another name,
        RootError before anything is published, and for what the recipe does not ask for."""
        from pipeline.queries.places import place

        return place(self.url, what).path

    def samples(self, columns: Sequence[str] | None = None, where: Where | None = None) -> Samples:
        """Samples as Arrow, one row each. Reads nothing yet: ask what comes back for `to_table()`, `to_batches()`, `head(n)` or
        `embeddings()`; then only the columns that were asked for are read, shard by shard.

        `columns`: names out of `schema`, in this order; None: the most usual ones (`USUAL`).
        `where`: as the rules of a recipe, {column: bound}, all of which must hold: {"verdict": "kept", "class_id": [3, 7],
        "clip_similarity": {"min": 0.25}}. A value stands for `equals`, a list for `any_of`; a null meets no bound.

        Raises InputError for an unknown column (it names the nearest) and for a bound that does not fit its column.
        """
        stored = self._columns
        if isinstance(columns, str):
            raise InputError(f"columns={columns!r}: give a list of names, [{columns!r}]")
        names = tuple(columns) if columns is not None else tuple(name for name in USUAL if name in stored.schema.names)
        stored.check([*names, *(where or {})])
        return Samples(stored, tuple(dict.fromkeys(names)), bounds(where or {}, stored.schema))

    def classes(self, level: int = 0) -> tuple[ClassRow, ...]:
        """The classes of a level (0: those that label samples), the largest first: `class_id`, `parent`, `name`, `confidence`
        (0..1), `size` (samples), `mean_similarity` (cosine), `entities`, `exemplars` and `outliers` as row ids. Raises RootError
        without classes, InputError for a level that is not there."""
        from pipeline.queries.classes import class_rows

        return class_rows(self.url, level)

    def duplicates(self) -> pa.Table:
        """The pairs of duplicates, exact, near and semantic: `shard_id`, `row`, `uid`, `of_shard_id`, `of_row`, `kind`, `hamming`
        (bits of 64), `correlation`, `cosine`, `removed`. All in memory: a row per pair. Raises RootError before they were looked
        for."""
        try:
            return pa.concat_tables(read_table(self._plan.root, path) for path in pair_tables(self._plan))
        except FileNotFoundError:
            raise RootError(f"{self.url} has no table of duplicates yet: run its command again first") from None

    def sql(self, query: str) -> pa.Table:
        """The answer of a query in DuckDB's SQL over the views `samples`, `verdicts`, `labels`, `classes`, `entities`, `mentions`,
        `duplicates` and `exported` (docs/sql.md); those that the run has made so far. All in memory: for a large answer, take
        `sql_reader`. Raises InputError for SQL that is wrong, with its position, and RootError for files that are damaged."""
        return self.sql_reader(query).read_all()

    def sql_reader(self, query: str) -> pa.RecordBatchReader:
        """The same as a stream, whose batches are computed as they are read."""
        from pipeline.queries.sql.session import answer

        return answer(self._columns, query)

    def explain(self, sample: str) -> tuple[Explanation, ...]:
        """Why a sample has its verdict: every column, every rule with its value and bound; one entry for each row that has this
        name: a uid or its first 6 digits, the uid that the input brought, SHARD:ROW, or a key. Raises InputError for a name that
        no sample has."""
        from pipeline.queries.simulate import explain_sample

        return explain_sample(self.url, sample)

    def image(self, sample: str | tuple[str, int]) -> bytes:
        """The image of a sample: the very bytes of the input shard, encoded as they were (they are not decoded, and may be
        damaged), checked against the hash that was stored.

        `sample`: a name as `explain` takes it, which is looked for in all shards, or a row id (shard_id, row), which is not. Raises
        InputError for a sample that is not there or has no image, for a name of several images, and where the shard is gone or has
        other bytes now.
        """
        row = self._row_of_name(sample) if isinstance(sample, str) else self._row_of_id(*sample)
        return image_bytes(next(s for s in self._plan.shards if s.shard_id == row["shard_id"]), row)

    def _row_of_name(self, name: str) -> Mapping[str, Any]:
        rows = [self._row_of_id(*row_id) for row_id in find_samples(self._plan, name)]
        if len({row["sha256"] for row in rows}) > 1:
            raise InputError(f"{len(rows)} samples of {self.url} are named {name!r}, with different images: "
                             f"name one, e.g. {row_name(rows[0]['shard_id'], rows[0]['row'])}")
        return rows[0]

    def _row_of_id(self, shard_id: str, row: int) -> Mapping[str, Any]:
        if not any(shard.shard_id == shard_id for shard in self._plan.shards):
            raise InputError(f"{self.url} has no shard {shard_id} that can be read")
        columns = self._columns.read(shard_id, READ)
        if not 0 <= row < len(columns["row"]):
            raise InputError(f"shard {shard_id} has {len(columns['row'])} samples, and no row {row}")
        return {name: column[row].as_py() for name, column in columns.items()}

    def report(self) -> str:
        """Writes ROOT/report.html again, a page that loads nothing, and returns its path or URL. Raises RootError before there are
        verdicts."""
        from pipeline.report.build import write_report  # brings torch

        write_report(self._plan)
        return f"{self._plan.root.url.rstrip('/')}/report.html"
