"""Rows of input shards on their way into the stages: each shard is read from its input, its stored columns or both, and the rows of
several small ones share batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.columns import Columns, stored_batch
from pipeline.errors import ConservationError, InputError
from pipeline.input.discovery import Shard
from pipeline.input.reader import ShardReader, read
from pipeline.input.samples import Reading
from pipeline.input.witnesses import Witnesses, to_blame
from pipeline.registry import SOURCE
from pipeline.stage import joined
from pipeline.store.blocks.several import said_of
from pipeline.store.tables import read_facts
from pipeline.work import Facts

EXAMPLES = "ignored_examples"
"""In the facts of a shard that has ignored members: the names of some, by reason."""
OF_THE_INPUT = ("shard_id", "version", "gaps", "members", "bytes_read", "ignored")


@dataclass(frozen=True)
class Asked:
    """What is asked of every shard, and of whom."""

    columns: Columns
    reading: Reading
    witnesses: Witnesses
    stored: Mapping[str, tuple[str, ...]]
    """Columns that are read where they are stored, by who wrote them."""
    opens_input: bool
    reads_metadata: bool
    batch_rows: int


class Source:
    """Batches of one shard for the stages that compute: from its input, from stored columns, or from both side by side."""

    def __init__(self, shard: Shard, asked: Asked) -> None:
        self.shard, self.asked, self.columns = shard, asked, asked.columns
        self.reader = None
        if asked.opens_input:
            self.reader = read(shard, batch_rows=asked.batch_rows, reading=asked.reading, metadata=asked.reads_metadata)
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        reads = self.asked.stored or ({} if self.asked.opens_input else {SOURCE: ()})
        stored = stored_batch(self.columns, [self.shard.shard_id], reads) if reads else None
        if self.reader is None:
            assert stored is not None
            self.rows = stored.num_rows
            yield from sliced(stored, self.asked.batch_rows)
            return
        for batch in self._read(self.reader):
            if stored is not None:
                beside = stored.slice(self.rows, batch.num_rows)
                if not beside.column("uid").equals(batch.column("uid")):
                    raise ConservationError(f"shard {self.shard.shard_id}: its stored columns are of other samples")
                batch = joined(batch, beside)
            self.rows += batch.num_rows
            yield batch
        self.rows = self.reader.rows

    def _read(self, reader: ShardReader) -> Iterator[pa.RecordBatch]:
        """The batches of the input. Raises SourceError where no other input could be read either."""
        batches = iter(reader)
        while True:
            try:
                batch = next(batches, None)
            except (InputError, OSError) as error:
                raise to_blame(error, self.shard.url, self.asked.witnesses) from error
            if batch is None:
                return
            yield batch

    @property
    def bytes_read(self) -> int:
        """Of the input."""
        return 0 if self.reader is None else self.reader.bytes_read

    def facts(self) -> Facts:
        """What is known of the input, for the footers; complete after the last batch."""
        if self.reader is None:
            footer = read_facts(self.columns.store, f"{self.columns.folders[SOURCE]}/{self.shard.shard_id}.parquet")
            return {name: footer[name] for name in (*OF_THE_INPUT, EXAMPLES) if name in footer}
        reader = self.reader
        return {
            "shard_id": self.shard.shard_id, "version": self.shard.version, "gaps": [gap.as_dict() for gap in reader.gaps],
            "members": reader.members, "bytes_read": reader.bytes_read, "ignored": dict(sorted(reader.ignored.items())),
            **({EXAMPLES: dict(sorted(reader.ignored.examples.items()))} if reader.ignored else {}),
        }


def sliced(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """So many rows of a batch at a time, at least once."""
    return (batch.slice(at, rows) for at in range(0, max(1, batch.num_rows), rows))


def common_batches(sources: Sequence[Source], rows: int) -> Iterator[pa.RecordBatch]:
    """The batches of each source in order; small ones put together, to `rows` at most. Of one source they are as they come."""
    if len(sources) > 1 and sources[0].reader is None:
        yield from sliced(stored_together(sources), rows)
        return
    waiting: list[pa.RecordBatch] = []
    count = 0
    for source in sources:
        for batch in source:
            if waiting and count + batch.num_rows > rows:
                yield as_one(waiting)
                waiting, count = [], 0
            waiting.append(batch)
            count += batch.num_rows
            if len(sources) == 1:
                yield as_one(waiting)
                waiting, count = [], 0
    if waiting:
        yield as_one(waiting)


def stored_together(sources: Sequence[Source]) -> pa.RecordBatch:
    """The stored columns of several small sources, read at once."""
    asked, ids = sources[0].asked, [source.shard.shard_id for source in sources]
    reads = asked.stored or {SOURCE: ()}
    for source, said in zip(sources, said_of(asked.columns.store, asked.columns.folders[next(iter(reads))], ids), strict=True):
        source.rows = said.rows
    return stored_batch(asked.columns, ids, reads)


def as_one(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of several batches as one."""
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
