"""One shard through the stages, and its commit. Where it runs is `distributed/`; what the columns mean is `stages/`.

Inside a worker a reader thread is ahead of the computing threads and the writer comes last: batches of one shard are
independent, so several threads may take a batch each through all stages, and they are put together in order. Pixels
live in a batch and die with it; the columns of the whole shard are committed at the end, stage by stage.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline.columns import Columns
from pipeline.errors import ConservationError
from pipeline.input.discovery import Shard
from pipeline.input.samples import BATCH, Reading
from pipeline.input.witnesses import Witnesses
from pipeline.passes.shards.sources import Asked, Source, common_batches
from pipeline.process.ahead import ahead
from pipeline.registry import SOURCE, TRANSIENT, producers
from pipeline.stage import Stage, Transform, checked, joined
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.timing.bottleneck import Means
from pipeline.timing.clock import WRITE, Account, spent
from pipeline.work import Facts, Place, WorkTogether, beat
from schemas.columns import SAMPLES

BATCH_ROWS = 64
TOGETHER = 16 << 20
"""Bytes of small input shards that travel together."""


@dataclass(frozen=True)
class MissingColumns:
    """What is missing of one shard, as an item of work."""

    shard: Shard
    names: frozenset[str]
    """Of stages, or `samples`: the source's own columns."""

    def __str__(self) -> str:
        return self.shard.shard_id


@dataclass(frozen=True)
class Steps:
    """How what is missing of a shard is made."""

    stages: tuple[int, ...]
    """Positions of the stages that compute, in order."""
    stored: Mapping[str, tuple[str, ...]]
    """Columns that are read where they are stored, by who wrote them."""
    opens_input: bool
    """The input shard is read; else its stored columns are enough."""
    reads_metadata: bool = False
    """A stage reads the metadata objects."""


def steps(stages: Sequence[Stage], missing: Collection[str], writers: Mapping[str, str]) -> Steps:
    """Only what is missing is computed, but for what was never written: a stage that reads another's transient columns (pixels) has
    it compute again, and one that reads the encoded image or the metadata object has the
    input read again. `writers`: who writes each column."""
    carriers = {name: s.contract.name for s in stages for name in s.contract.carries.names}
    needed = set(missing)
    for stage in reversed(stages):
        if stage.contract.name in needed:
            needed |= {carriers[name] for name in stage.contract.reads if name in carriers}
    chosen = tuple(i for i, stage in enumerate(stages) if stage.contract.name in needed)
    reads = [name for i in chosen for name in stages[i].contract.reads]
    opens = SOURCE in missing or not set(TRANSIENT).isdisjoint(reads)
    computed = {name for i in chosen for name in [*stages[i].writes.names, *stages[i].contract.carries.names]}
    computed |= set(BATCH.names) if opens else set()
    stored: dict[str, list[str]] = {}
    for name in dict.fromkeys(reads):
        if name not in computed:
            stored.setdefault(writers[name], []).append(name)
    return Steps(chosen, {writer: tuple(names) for writer, names in stored.items()}, opens, "metadata" in reads)


@dataclass(frozen=True)
class Annotate(WorkTogether[MissingColumns]):
    """Computes the missing columns of one shard. Its input is read once, and only if a missing stage looks at pixels."""

    columns: Columns
    stages: tuple[Stage, ...]
    reading: Reading
    threads: int = 1
    batch_rows: int = BATCH_ROWS
    writers: Mapping[str, str] = field(default_factory=producers)
    """Who writes each column."""
    witnesses: Witnesses = field(default_factory=dict)
    """Inputs that are asked when one cannot be read: whether it is the store."""
    linking: bool = False
    """The stages read what the whole run says; their files do not repeat what is known of the input."""

    @property
    def place(self) -> Place:
        return Place.MODEL if any(hasattr(stage, "route") for stage in self.stages) else Place.CPU

    def of(self, shards: Iterable[Shard]) -> list[MissingColumns]:
        """Everything of these shards."""
        names = frozenset([SOURCE, *(stage.contract.name for stage in self.stages)])
        return [MissingColumns(shard, names) for shard in shards]

    def careful(self) -> "Annotate":
        return replace(self, stages=tuple(stage.careful() for stage in self.stages))

    def means(self) -> Means:
        return Means.by_route((getattr(stage, "route", "") for stage in self.stages), self.threads)

    def share(self, item: MissingColumns) -> float:
        return min(1.0, item.shard.size / TOGETHER)

    def kind(self, item: MissingColumns) -> frozenset[str]:
        return item.names

    @contextmanager
    def open_together(self) -> Iterator[Callable[[Sequence[MissingColumns]], list[Facts]]]:
        if self.place is Place.MODEL or any(stage.contract.carries.names for stage in self.stages):
            from pipeline.models.process import prepare_process  # towers and decoders bring torch, which only a worker needs

            prepare_process()
        with ExitStack() as stack:
            transforms = [stack.enter_context(stage.open()) for stage in self.stages]
            pool = stack.enter_context(ThreadPoolExecutor(self.overlap, "stages"))
            yield lambda items: self._run(items, transforms, pool)

    @property
    def rows(self) -> int:
        """Of a batch: as asked for, and a multiple of what a stage pads to."""
        together = max((stage.together for stage in self.stages), default=1)
        return -(-self.batch_rows // together) * together

    @property
    def overlap(self) -> int:
        """Batches in work at once."""
        return max([self.threads, *(stage.overlap for stage in self.stages)])

    def _run(self, items: Sequence[MissingColumns], opened: Sequence[Transform], pool: ThreadPoolExecutor) -> list[Facts]:
        """The missing columns of some shards that lack the same ones. Their rows go through the stages in common batches: a model
        computes as many rows for one as for a few."""
        account, names = Account(self.overlap), items[0].names
        plan = steps(self.stages, names, self.writers)
        asked = Asked(
            self.columns, self.reading, self.witnesses, plan.stored, plan.opens_input, plan.reads_metadata, self.rows)
        sources = [Source(item.shard, asked) for item in items]
        stages, transforms = tuple(self.stages[i] for i in plan.stages), [opened[i] for i in plan.stages]

        def computed(batch: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
            with account.computing():
                return batch_columns(stages, transforms, batch)

        schemas = {s.contract.name: s.writes for s in stages} | ({SOURCE: SAMPLES} if plan.opens_input else {})
        parts: dict[str, list[pa.RecordBatch]] = {name: [] for name in [SOURCE, *schemas] if name in names}
        put_together = 0
        for added in ahead(pool, computed, account.reading(common_batches(sources, self.rows)), self.overlap + 1):
            rows = next(iter(added.values())).num_rows
            put_together += rows
            for name in parts:
                parts[name].append(added[name])
            beat(rows)
        read = sum(source.rows for source in sources)
        if put_together != read:
            raise ConservationError(f"{shards_of(items)}: {read} samples were read, {put_together} came through")
        tables = {name: pa.Table.from_batches(batches, schema=schemas[name]) for name, batches in parts.items()}
        return self._commit(sources, tables, account)

    def _commit(self, sources: Sequence[Source], tables: Mapping[str, pa.Table], account: Account) -> list[Facts]:
        with account.feeding(WRITE):
            facts = [{"shard_id": source.shard.shard_id} if self.linking else source.facts() for source in sources]
            shards = [Said(source.shard.shard_id, source.rows, said) for source, said in zip(sources, facts, strict=True)]
            failed = commit(self.columns, shards, tables)
        found: list[Facts] = [
            {**said, "bytes_read": source.bytes_read, "rows": source.rows, "verdicts": {"failed": lost}}
            for source, said, lost in zip(sources, facts, failed, strict=True)]
        return [{**found[0], **account.facts()}, *found[1:]]


def shards_of(items: Sequence[MissingColumns]) -> str:
    """Shards in words."""
    return f"shard {items[0]}" if len(items) == 1 else f"shards {items[0]} to {items[-1]}"


def batch_columns(
    stages: tuple[Stage, ...], transforms: list[Transform], batch: pa.RecordBatch
) -> dict[str, pa.RecordBatch]:
    """What the source and each stage say of one batch, by who says it; transient columns are left out. Raises ContractViolation for
    a stage that gives other rows or columns than it promises."""
    added = {SOURCE: batch.select([name for name in SAMPLES.names if name in batch.schema.names])}
    for stage, transform in zip(stages, transforms, strict=True):
        with spent(stage.contract.name):
            output = checked(stage, batch, transform(batch))
        added[stage.contract.name] = output.select(stage.writes.names)
        batch = joined(batch, output)
    return added


def commit(columns: Columns, shards: Sequence[Said], tables: Mapping[str, pa.Table]) -> list[int]:
    """Writes every stage's files of some shards, whose rows follow each other in the stages' tables, and returns how many rows
    of each a stage failed. Nothing is written unless all have the rows that are said."""
    ends = np.cumsum([shard.rows for shard in shards])
    rows = {table.num_rows for table in tables.values()}
    if rows != {ends[-1]}:
        named = f"shards {shards[0].shard_id} to {shards[-1].shard_id}"
        raise ConservationError(f"{named}: {ends[-1]} samples were read, by the stages there are {sorted(rows)}")
    lost = np.zeros(ends[-1], bool)
    for name, table in tables.items():
        errors, folder = table.column(table.num_columns - 1), columns.folders[name]
        lost |= np.asarray(errors.is_valid())
        told = {"stage": folder.rsplit("/", 1)[-1]}
        said = [Said(shard_id, rows, {**facts, **told, "failed": _counts(errors.slice(end - rows, rows))})
                for (shard_id, rows, facts), end in zip(shards, ends.tolist(), strict=True)]
        write_columns(columns.store, folder, said, table)
        beat()
    return [int(part.sum()) for part in np.split(lost, ends[:-1])]


def _counts(errors: pa.ChunkedArray) -> dict[str, int]:
    """Rows by the code of their error."""
    if errors.null_count == len(errors):
        return {}
    return {counted["values"]: counted["counts"] for counted in errors.drop_null().value_counts().to_pylist()}
