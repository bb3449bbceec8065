"""Roots with what duplicates are found by, and the search over them in this process."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.api.progress import Silent
from pipeline.columns import Columns, Rows, Run
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.passes.duplicates.files import PARTITION_ROWS, Cut
from pipeline.passes.duplicates.write import write_pairs
from pipeline.reduce.duplicates.lookalikes import DuplicatePairs
from pipeline.root.log import EventLog
from pipeline.shuffle.parts import fixed_column
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.store.store import Store
from pipeline.store.tables import read_table
from pipeline.vectors import Ints
from tests.reduce.duplicates_before import Duplicates, Pictures

STAGES = ("samples", "image", "hashes", "clip")
TABLE = "tables/duplicates@0/duplicates.parquet"


def written(pictures: Pictures, store: Store, sizes: Sequence[int], embeddings: np.ndarray | None = None) -> Run:
    """A run whose columns are these pictures, in shards of these sizes; embeddings float16 [n, d], zeros without."""
    n = len(pictures.valid)
    vectors = np.zeros((n, 2), np.float16) if embeddings is None else embeddings
    valid, starts = pictures.valid, np.cumsum([0, *sizes])
    thumbnails = pictures.thumbnail if len(pictures.thumbnail) else np.zeros((n, 768), np.uint8)
    tables = {
        "samples": pa.table({"uid": pictures.uid}), "image": pa.table({"pixels": pictures.pixels}),
        "hashes": pa.table({"sha256": pictures.sha256, "phash": pa.array(pictures.phash, mask=~valid),
                            "thumbnail": fixed_column(thumbnails)}),
        "clip": pa.table({"image_embedding": vector_column(vectors)}),
    }
    ids = tuple(f"shard{number}" for number in range(len(sizes)))
    for stage, table in tables.items():
        for shard_id, start, size in zip(ids, starts, sizes, strict=False):
            write_columns(store, f"columns/{stage}@0", [Said(shard_id, size, {})], table.slice(int(start), size).combine_chunks())
    return Run(Columns(store, {stage: f"columns/{stage}@0" for stage in STAGES}), Rows(ids, tuple(sizes)))


def vector_column(vectors: np.ndarray) -> pa.Array:
    """Vectors float16 [n, d] as lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def cut_of(run: Run, *, radius: int = 8, correlation: float = 0.97, near: bool = True) -> Cut:
    """How a run is cut for the search."""
    return Cut(run.columns.store, TABLE.rpartition("/")[0], run.rows, radius, correlation, near)


def driver_of(store: Store) -> Driver:
    """A driver that works in this process."""
    return Driver(store, LocalExecutor(), Silent(), EventLog(store))


def pairs_table(
    pictures: Pictures, root: Path, sizes: Sequence[int] = (), embeddings: np.ndarray | None = None,
    radius: int = 8, correlation: float = 0.97, near: bool = True, size: int = PARTITION_ROWS, group_rows: int | None = None,
) -> pa.Table:
    """The table of duplicates of these pictures. `size`, `group_rows`: how they are cut."""
    store = Store(str(root))
    run = written(pictures, store, sizes or [len(pictures.valid)], embeddings)
    cut = cut_of(run, radius=radius, correlation=correlation, near=near)
    write_pairs(replace(cut, size=size, group_rows=group_rows), run, driver_of(store), TABLE)
    return read_table(store, TABLE)


def searched(table: pa.Table, pictures: Pictures, sizes: Sequence[int] = ()) -> Duplicates:
    """The pairs of a table by global rows."""
    rows = Rows(tuple(f"shard{number}" for number in range(max(1, len(sizes)))), tuple(sizes or [len(pictures.valid)]))
    row, of = global_rows(table, rows)
    pairs = DuplicatePairs(row, of, *(np.asarray(table.column(name)) for name in ("hamming", "correlation", "removed")))
    near = np.array(table.column("kind").to_pylist()) == "near"
    masks = np.zeros((2, len(pictures.valid)), bool)
    masks[near[pairs.removed].astype(int), row[pairs.removed]] = True
    return Duplicates(pairs.where(~near), pairs.where(near), masks[0], masks[1])


def global_rows(table: pa.Table, rows: Rows) -> tuple[Ints, Ints]:
    """The global rows of both ends of each pair."""
    row, of = (rows.numbers(table.column(f"{end}shard_id").to_pylist(), np.asarray(table.column(f"{end}row"), np.int64))
               for end in ("", "of_"))
    return row, of


def same_pairs(one: DuplicatePairs, other: DuplicatePairs) -> bool:
    """Whether both have the same pairs, to the bit and in the same order."""
    return all(np.array_equal(a, b) for a, b in (
        (one.row, other.row), (one.of, other.of), (one.hamming, other.hamming), (one.correlation, other.correlation),
        (one.removed, other.removed)))
