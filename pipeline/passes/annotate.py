"""One shard through the stages, and its commit. Where it runs is `distributed/`; what the columns mean is `stages/`.

Inside a worker a reader thread is ahead of the computing threads and the writer comes last: batches of one shard are
independent, so several threads may take a batch each through all stages, and they are put together in order. Pixels
live in a batch and die with it; the columns of the whole shard are committed at the end, stage by stage.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.bottleneck import Means
from pipeline.clock import WRITE, Account, spent
from pipeline.columns import Columns
from pipeline.errors import ConservationError
from pipeline.input.discovery import Shard
from pipeline.input.reader import read
from pipeline.stage import Stage, Transform, checked, joined
from pipeline.store.tables import read_columns, read_vectors, write_columns
from pipeline.work import Facts, Place, Work, beat
from schemas.columns import SAMPLES

A = TypeVar("A")
B = TypeVar("B")

BATCH_ROWS = 64




@dataclass(frozen=True)
class Annotate(Work[Shard]):
    """Reads an input shard once and writes the columns of every stage (and `samples`, the source's own)."""

    columns: Columns
    stages: tuple[Stage, ...]
    caption_keys: tuple[str, ...]
    threads: int = 1
    batch_rows: int = BATCH_ROWS

    @property
    def place(self) -> Place:
        return Place.MODEL

    def name(self, item: Shard) -> str:
        return item.shard_id

    def careful(self) -> "Annotate":
        return replace(self, stages=tuple(stage.careful() for stage in self.stages))

    def means(self) -> Means:
        return Means.by_route((getattr(stage, "route", "") for stage in self.stages), self.threads)

    @contextmanager
    def open(self) -> Iterator[Callable[[Shard], Facts]]:
        from pipeline.models.process import settle  # brings torch, which only a worker needs

        settle()
        with ExitStack() as stack:
            transforms = [stack.enter_context(stage.open()) for stage in self.stages]
            pool = stack.enter_context(ThreadPoolExecutor(self.overlap, "stages"))
            yield lambda shard: self._run(shard, transforms, pool)

    @property
    def rows(self) -> int:
        """Of a batch: as asked for, and a multiple of what a stage pads to."""
        together = max((stage.together for stage in self.stages), default=1)
        return -(-self.batch_rows // together) * together

    @property
    def overlap(self) -> int:
        """Batches in work at once."""
        return max([self.threads, *(stage.overlap for stage in self.stages)])

    def _run(self, shard: Shard, transforms: list[Transform], pool: ThreadPoolExecutor) -> Facts:
        started, account = time.monotonic(), Account(self.overlap)
        reader = read(shard, batch_rows=self.rows, caption_keys=self.caption_keys)

        def computed(batch: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
            with account.computing():
                return annotate(self.stages, transforms, batch)

        parts: dict[str, list[pa.RecordBatch]] = {"samples": [], **{s.contract.name: [] for s in self.stages}}
        for added in ahead(pool, computed, account.reading(reader), self.overlap + 1):
            for name, batch in added.items():
                parts[name].append(batch)
            beat()
        put_together = sum(batch.num_rows for batch in parts["samples"])
        if put_together != reader.rows:
            raise ConservationError(f"shard {shard.shard_id}: {reader.rows} samples were read, {put_together} came through")
        gaps = [gap.as_dict() for gap in reader.gaps]
        facts = {
            "shard_id": shard.shard_id, "version": shard.version, "gaps": gaps, "members": reader.members,
            "bytes_read": reader.bytes_read, "ignored": dict(sorted(reader.ignored.items())),
        }
        schemas = {"samples": SAMPLES, **{s.contract.name: s.writes for s in self.stages}}
        with account.feeding(WRITE):
            rows = commit(self.columns, shard.shard_id, parts, schemas, facts)
        return {**facts, **account.facts(), "rows": rows, "seconds": time.monotonic() - started}


@dataclass(frozen=True)
class Derive(Work[str]):
    """Runs stages over stored columns instead of pixels: for each shard id, reads what they read, writes what they write."""

    columns: Columns
    stages: tuple[Stage, ...]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Columns to read, by the stage that wrote them."""

    def name(self, item: str) -> str:
        return item

    @contextmanager
    def open(self) -> Iterator[Callable[[str], Facts]]:
        with ExitStack() as stack:
            transforms = [stack.enter_context(stage.open()) for stage in self.stages]
            yield lambda shard_id: self._run(shard_id, transforms)

    def _run(self, shard_id: str, transforms: list[Transform]) -> Facts:
        started = time.monotonic()
        batch = stored_batch(self.columns, shard_id, self.reads)
        added = annotate(self.stages, transforms, batch)
        parts = {name: [added[name]] for name in added if name != "samples"}
        schemas = {s.contract.name: s.writes for s in self.stages}
        rows = commit(self.columns, shard_id, parts, schemas, {"shard_id": shard_id})
        return {"shard_id": shard_id, "rows": rows, "seconds": time.monotonic() - started}


def annotate(
    stages: tuple[Stage, ...], transforms: list[Transform], batch: pa.RecordBatch
) -> dict[str, pa.RecordBatch]:
    """What the source and each stage say of one batch; transient columns are left out."""
    added = {"samples": batch.select([name for name in SAMPLES.names if name in batch.schema.names])}
    for stage, transform in zip(stages, transforms, strict=True):
        with spent(stage.contract.name):
            after = checked(stage, batch, transform(batch))
        added[stage.contract.name] = after.select(stage.writes.names)
        batch = joined(batch, after)
    return added


def commit(
    columns: Columns,
    shard_id: str,
    parts: Mapping[str, list[pa.RecordBatch]],
    schemas: Mapping[str, pa.Schema],
    facts: Mapping[str, Any],
) -> int:
    """Writes every stage's file of one shard and returns the rows. Nothing is written unless all have the same rows."""
    tables = {name: pa.Table.from_batches(batches, schema=schemas[name]) for name, batches in parts.items()}
    rows = {table.num_rows for table in tables.values()}
    if len(rows) != 1:
        raise ConservationError(f"shard {shard_id}: stages disagree about the number of rows: {rows}")
    for name, table in tables.items():
        errors = table.column(table.num_columns - 1)
        failed = {c["values"]: c["counts"] for c in errors.drop_null().value_counts().to_pylist()}
        folder = columns.folders[name]
        stored = {**facts, "stage": folder.rsplit("/", 1)[-1], "failed": failed}
        write_columns(columns.store, folder, shard_id, table, stored)
        beat()
    return int(rows.pop())


def stored_batch(columns: Columns, shard_id: str, reads: Mapping[str, tuple[str, ...]]) -> pa.RecordBatch:
    """uid and the named columns of one shard as one batch; vectors come back as lists (null where there is none)."""
    arrays: dict[str, pa.Array] = {}
    for stage, names in reads.items():
        folder = columns.folders[stage]
        table = read_columns(columns.store, folder, shard_id)
        if "uid" in arrays and not table.column("uid").combine_chunks().equals(arrays["uid"]):
            raise ConservationError(f"shard {shard_id}: the rows of {folder} are not those of the other stages")
        arrays.setdefault("uid", table.column("uid").combine_chunks())
        for name in names:
            if f"{name}_valid" in table.column_names:
                arrays[name] = vector_array(
                    read_vectors(columns.store, folder, shard_id, name), table.column(f"{name}_valid").combine_chunks()
                )
            else:
                arrays[name] = table.column(name).combine_chunks()
    return pa.RecordBatch.from_pydict(arrays)


def vector_array(matrix: Any, valid: pa.Array) -> pa.Array:
    flat = pa.array(matrix.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1], mask=pa.compute.invert(valid))


def ahead(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], depth: int) -> Iterator[B]:
    """`map(function, items)` in order, with at most `depth` items in the pool or waiting there."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
