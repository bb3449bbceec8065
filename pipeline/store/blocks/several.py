"""The files of several shards of a folder at once, one after another: what a pass over many small shards reads and writes.
Neighbours in a block are one read; who reads bounds how many rows that is."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.store.blocks.either import together
from pipeline.store.blocks.index import Place, index_of
from pipeline.store.blocks.rows import table_of, vectors_of
from pipeline.store.blocks.writing import Said, gathering, part_of
from pipeline.store.store import Store
from pipeline.store.tables import (
    as_matrix,
    is_vector,
    npy_bytes,
    read_columns,
    read_facts,
    read_vector_rows,
    read_vectors,
    read_with_facts,
    write_table,
)
from pipeline.timing.clock import READ, WRITE, spent
from pipeline.vectors import Halves, Ints


def columns_of(store: Store, folder: str, shard_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """A stage's columns of some shards, at least one: all of them or these. Raises as `read_columns`."""
    with spent(READ):
        tables = together(
            store, folder, shard_ids, lambda shard_id: read_columns(store, folder, shard_id, columns),
            lambda place, _: table_of(store, folder, place, columns))
    return tables[0] if len(tables) == 1 else pa.concat_tables(table.replace_schema_metadata(None) for table in tables)


def columns_with_facts(
    store: Store, folder: str, shard_ids: Sequence[str], columns: Sequence[str] | None = None
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """As `columns_of`, and the facts in the footers of the same files."""
    def of_shard(shard_id: str) -> tuple[pa.Table, list[dict[str, Any]]]:
        table, facts = read_with_facts(store, f"{folder}/{shard_id}.parquet", columns)
        return table.replace_schema_metadata(None), [facts]

    def of_block(place: Place, shard_ids: Sequence[str]) -> tuple[pa.Table, list[dict[str, Any]]]:
        return table_of(store, folder, place, columns), index_of(store, folder).told(shard_ids)

    found = together(store, folder, shard_ids, of_shard, of_block)
    return pa.concat_tables(table for table, _ in found), list(chain(*(facts for _, facts in found)))


def stored_matrix(store: Store, folder: str, shard_ids: Sequence[str], name: str) -> Halves:
    """The vectors of one column of some shards, at least one: float16 [rows, d], mapped where the store is local and one block
    has them. Raises as `read_vectors`."""
    parts = together(
        store, folder, shard_ids, lambda shard_id: read_vectors(store, folder, shard_id, name),
        lambda place, _: vectors_of(store, folder, place, name))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def matrix_rows_of(store: Store, folder: str, counts: Mapping[str, int], name: str, rows: Ints) -> Halves:
    """Some of the vectors of one column of some shards, at least one, given with their rows: those of the rows i64 [n], ascending,
    that count through all of them. float16 [n, d], in memory; of a remote store no other is read. Raises as `read_vector_rows`."""
    ends = np.cumsum(list(counts.values()))
    parts = dict(zip(counts, np.split(rows, np.searchsorted(rows, ends[:-1])), strict=True))
    starts = dict(zip(counts, (ends - list(counts.values())).tolist(), strict=True))

    def of_shard(shard_id: str) -> Halves:
        return read_vector_rows(store, folder, shard_id, name, parts[shard_id] - starts[shard_id])

    def of_block(place: Place, shard_ids: Sequence[str]) -> Halves:
        local = np.concatenate([parts[shard_id] for shard_id in shard_ids]) - starts[shard_ids[0]]
        return vectors_of(store, folder, place, name, local)

    found = together(store, folder, list(counts), of_shard, of_block)
    return found[0] if len(found) == 1 else np.concatenate(found)


def said_of(store: Store, folder: str, shard_ids: Sequence[str]) -> list[Said]:
    """How many rows the files of some shards have, and the facts in their footers, in order. Raises as `read_facts`."""
    def of_shard(shard_id: str) -> list[Said]:
        facts = read_facts(store, f"{folder}/{shard_id}.parquet")
        return [Said(shard_id, facts["rows"] if "files" in facts else read_columns(store, folder, shard_id).num_rows, facts)]

    def of_block(_: Place, shard_ids: Sequence[str]) -> list[Said]:
        index = index_of(store, folder)
        return list(map(Said, shard_ids, index.counts(shard_ids), index.told(shard_ids)))

    return list(chain(*together(store, folder, shard_ids, of_shard, of_block)))


def write_tables(
    store: Store, folder: str, shards: Sequence[Said], table: pa.Table, vectors: Mapping[str, Halves] | None = None
) -> None:
    """Commits the tables of some shards, whose rows follow each other in `table`, as `write_shard_table` does of one; where this
    thread gathers, with others as a block, and with their `vectors`. Raises OutputError."""
    gathered, first = gathering(), 0
    if gathered is not None:
        gathered.add(store, folder, part_of(shards, table, vectors or {}))
        return
    for shard_id, rows, facts in shards:
        part = table if len(shards) == 1 else table.slice(first, rows).combine_chunks()
        write_table(store, f"{folder}/{shard_id}.parquet", part, facts)
        first += rows


def write_columns(store: Store, folder: str, shards: Sequence[Said], table: pa.Table) -> None:
    """Commits one stage's columns of some shards, whose rows follow each other in `table`. What is said of each goes into its
    footer (fingerprint, counts, gaps), with the hashes of its vectors. Raises OutputError."""
    vectors: dict[str, Halves] = {}
    stored: dict[str, Any] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if is_vector(field):
            array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
            vectors[field.name] = as_matrix(array, field.type.list_size)
            stored[f"{field.name}_valid"] = array.is_valid()
        else:
            stored[field.name] = column
    said, first = list[Said](), 0
    for shard_id, rows, facts in shards:
        hashes = {}
        for name, matrix in vectors.items():
            content = npy_bytes(matrix[first : first + rows])
            if gathering() is None:
                with spent(WRITE):
                    store.write(f"{folder}/{shard_id}.{name}.npy", content)
            hashes[f"{shard_id}.{name}.npy"] = hashlib.sha256(content).hexdigest()
        said.append(Said(shard_id, rows, {**facts, "rows": rows, "files": hashes}))
        first += rows
    write_tables(store, folder, said, pa.table(stored), vectors)
