"""What can be asked of a root in SQL: which views there are, and the parts of its files that each is read from.

Making them reads one footer of each kind of file, however many shards there are; the lists of files come from the plan.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.class_table import class_table_path, has_class_table
from pipeline.export.stored import has_export, stored_sizes
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.sql.centroids import with_centroids
from pipeline.queries.sql.source import Filter, Part, Source
from pipeline.root.existing import pair_tables
from pipeline.store.blocks.index import metadata_of
from pipeline.store.blocks.rows import row_group
from pipeline.store.store import Store
from pipeline.store.tables import read_footer, read_table
from schemas.exports import EXPORT
from schemas.tables import DUPLICATES

READERS, REMOTE_READERS = 2, 8
"""Shards that are read at once: decoding needs processors, a remote store patience."""
ROW_ID = ("shard_id", "row")
"""First, for DuckDB counts rows by the first column, and these two are in no file."""
TAR = "tar"
"""The column of `exported` that its files do not have: the name of the tar."""


@dataclass(frozen=True)
class Derived:
    """A view over columns of `samples`."""

    reads: tuple[str, ...]
    """Columns without which there is no such view."""
    query: str
    why: str
    """What has to be done before it is there."""


DERIVED: Mapping[str, Derived] = {
    "verdicts": Derived(
        ("verdict",),
        "SELECT shard_id, row, uid, verdict, split_part(verdict, ':', 1) AS outcome, "
        "nullif(split_part(verdict, ':', 2), '') AS reason FROM samples",
        "the run has no verdicts yet"),
    "labels": Derived(
        ("labels", "label_names"),
        "SELECT shard_id, row, uid, verdict, unnest(range(1, len(labels) + 1)) AS rank, unnest(labels) AS class_id, "
        "unnest(label_weights) AS weight, unnest(label_names) AS class_name FROM samples",
        "the run has no classes, or not yet"),
    "mentions": Derived(
        ("mentions",),
        'SELECT shard_id, row, uid, {verdict}m.text AS text, m.alias AS alias, m.start AS start, m."end" AS "end", '
        "m.source AS source FROM (SELECT *, unnest(mentions) AS m FROM samples)",
        "the run has not read its inputs yet"),
    "entities": Derived(
        ("entities",),
        'SELECT shard_id, row, uid, {verdict}e.id AS id, e.name AS name, e.start AS start, e."end" AS "end", '
        "e.link_score AS link_score, e.z AS z, e.confirmed AS confirmed FROM (SELECT *, unnest(entities) AS e FROM samples)",
        "the run has not linked its entities yet"),
}
NOT_YET = {"classes": "the run has no classes, or not yet", "duplicates": "duplicates were not looked for yet",
           "exported": "nothing is exported yet"}


@dataclass(frozen=True)
class Views:
    """The views of a root."""

    tables: Mapping[str, Source]
    """Those that files are read for, `samples` first."""
    derived: Mapping[str, str]
    """SQL of the others."""
    missing: Mapping[str, str]
    """Why those are not there that other roots have."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, `samples` first."""
        return (*self.tables, *self.derived)


def views_of(columns: RootColumns) -> Views:
    """The views of a root; the plan of `columns` is over the shards that can be read. Raises InputError where there is none."""
    tables = {"samples": samples(columns), **dict(_tables(columns))}
    there = tables["samples"].schema.names
    derived = {name: view.query.format(verdict="verdict, " if "verdict" in there else "")
               for name, view in DERIVED.items() if set(view.reads) <= set(there)}
    missing = {name: why for name, why in {**NOT_YET, **{n: v.why for n, v in DERIVED.items()}}.items()
               if name not in tables and name not in derived}
    return Views(tables, derived, missing)


def samples(columns: RootColumns) -> Source:
    """One row for each sample, in the order of the input: every column that `RootColumns` joins, by shard and position."""
    schema, plan = columns.schema, columns.plan
    fields = [*(schema.field(name) for name in ROW_ID), *(field for field in schema if field.name not in ROW_ID)]
    shard_ids = [shard.shard_id for shard in plan.shards]

    def parts(chosen: Filter) -> Iterator[Part]:
        return (partial(_of_shard, columns, shard_id) for shard_id in chosen.possible("shard_id", shard_ids))

    return Source(pa.schema(fields), parts, READERS if plan.root.local is not None else REMOTE_READERS)


def _of_shard(columns: RootColumns, shard_id: str, names: Sequence[str]) -> pa.Table:
    return pa.table(columns.read(shard_id, names))


def _tables(columns: RootColumns) -> Iterator[tuple[str, Source]]:
    plan = columns.plan
    if has_class_table(plan.root, plan.classes):
        path, vectors = class_table_path(str(plan.classes)), columns.schema.field("image_embedding").type
        yield "classes", with_centroids(plan, read_footer(plan.root, path)[0], list(_groups(plan.root, [path])), vectors.list_size)
    pairs = pair_tables(plan)
    if plan.root.exists(pairs[0]):
        yield "duplicates", Source(DUPLICATES, lambda _: _groups(plan.root, pairs))
    if has_export(plan.root, plan.export):
        yield "exported", _exported(plan.root, plan.export)


def _groups(store: Store, paths: Iterable[str]) -> Iterator[Part]:
    """Each row group of these files: of a table that may not fit in memory."""
    for path in paths:
        metadata = metadata_of(store, path)
        for group in range(metadata.num_row_groups):
            yield partial(_of_group, store, path, metadata, group)


def _of_group(store: Store, path: str, metadata: pq.FileMetaData, group: int, names: Sequence[str]) -> pa.Table:
    return row_group(store, path, metadata, names, group)


def _exported(store: Store, folder: str) -> Source:
    """The samples of every tar of an export, and which tar that is."""
    tars = list(stored_sizes(store, folder))
    stored = read_footer(store, _sidecar(folder, tars[0]))[0] if tars else EXPORT

    def parts(chosen: Filter) -> Iterator[Part]:
        return (partial(_of_tar, store, folder, tar) for tar in chosen.possible(TAR, tars))

    return Source(pa.schema([pa.field(TAR, pa.string()), *stored]), parts)


def _of_tar(store: Store, folder: str, tar: str, names: Sequence[str]) -> pa.Table:
    table = read_table(store, _sidecar(folder, tar), [name for name in names if name != TAR] or ["uid"])
    return table.append_column(TAR, pa.array([tar] * table.num_rows, pa.string())).select(list(names))


def _sidecar(folder: str, tar: str) -> str:
    return f"{folder}/{tar.removesuffix('.tar')}.parquet"
