"""Input shards read once as record batches, their bytes fetched again by row, output shards written.

What other rooms need of this one: archives are read in tar.py, parquet files in parquet.py, and samples.py makes the samples.
"""

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.input.aside.ignored import IgnoredMembers
from pipeline.input.aside.left_out import gap_at
from pipeline.input.discovery import Shard, expected_samples
from pipeline.input.members import Gap, RewoundBlocks, add_gap
from pipeline.input.parquet import ParquetSamples, Row, rows_at
from pipeline.input.samples import (
    LIMITS,
    READING,
    WINDOW_BYTES,
    WINDOW_SAMPLES,
    Reading,
    Sample,
    batches,
    group_members,
    sample_of,
)
from pipeline.input.tar import TarMembers, write_tar
from pipeline.store.source import CODECS, COMPRESSED_PIECE, UNSUPPORTED, Decompressed, SourceFile
from pipeline.store.store import open_url, read_ranges, stat
from schemas.reasons import GapKind, SampleFault

__all__ = ["Gap", "ShardReader", "fetch", "read", "write_tar"]

BATCH_ROWS = 64
BATCH_BYTES = 32 << 20
FAR_APART = (
    "members of a sample are not adjacent: of {} samples, first {!r}, some come more than "
    f"{WINDOW_SAMPLES} samples or {WINDOW_BYTES >> 20} MiB after the others; pack the tar with the members of each sample "
    "side by side, e.g. by tar --sort=name"
)
FETCH_ROWS = 128
FETCH_BYTES = 64 << 20
SPOOL_IN_MEMORY = 64 << 20


def read(
    shard: Shard,
    *,
    batch_rows: int = BATCH_ROWS,
    batch_bytes: int = BATCH_BYTES,
    reading: Reading = READING,
    metadata: bool = False,
) -> "ShardReader":
    """The samples of a shard, in one streaming pass. `metadata`: with the metadata objects of parquet rows, which are made out of
    their other columns; an archive's are there in any case. A store that does not answer raises, and so does a file that is gone or
    not the one that was listed (InputError); damage is in `gaps`."""
    return ShardReader(shard, batch_rows, batch_bytes, reading, metadata)


class ShardReader:
    """Iterates once over batches in the schema samples.BATCH; what it says of the shard is complete after the last."""

    def __init__(self, shard: Shard, batch_rows: int, batch_bytes: int, reading: Reading, metadata: bool) -> None:
        self.shard = shard
        self._batch = batch_rows, batch_bytes
        self._reading, self._metadata = reading, metadata
        self.gaps: list[Gap] = []
        self.members = 0
        """Entries of the archive of any kind, or rows."""
        self.rows = 0
        self.bytes_read = 0
        self.ignored = IgnoredMembers()
        """Members that belong to no sample, by reason."""
        self._first_apart, self._apart = "", 0
        """Samples whose members are too far apart: the key of the first, and how many."""

    def __iter__(self) -> Generator[pa.RecordBatch, None, None]:
        if self.shard.kind == "gap":
            self.gaps.append(gap_at(self.shard.url, self.shard.stats, self.shard.sidecar))
            _check_unchanged(self.shard)
            return
        different = 0
        with _opened(self.shard) as file:
            try:
                for batch in self._parquet(file) if self.shard.kind == "parquet" else self._tar(file):
                    self.rows += batch.num_rows
                    faults = batch.column("samples_error").to_pylist()
                    different += batch.num_rows - faults.count(SampleFault.DUPLICATE_KEY) - faults.count(SampleFault.NOT_ADJACENT)
                    yield batch
            finally:
                self.bytes_read = file.bytes_read
        _check_unchanged(self.shard)
        expected = expected_samples(self.shard)
        if expected is None and (self.shard.stats or self.shard.sidecar):
            detail = "what lies beside it does not say how many samples there should be"
            self.gaps.append(Gap(GapKind.UNREADABLE_SIDECAR, self.shard.size, detail))
        if expected is not None and different < expected:
            detail = f"{different} samples of different keys, the side file says {expected}"
            self.gaps.append(Gap(GapKind.MISSING_VS_SIDECAR, self.shard.size, detail, expected - different))

    def _parquet(self, file: SourceFile) -> Iterator[pa.RecordBatch]:
        samples = ParquetSamples(file, self._reading.caption_keys, self._metadata)
        yield from batches(samples, "parquet_row", *self._batch, self._reading.fallback)
        self.gaps, self.members = samples.gaps, samples.members

    def _tar(self, file: SourceFile) -> Iterator[pa.RecordBatch]:
        codec = codec_of(file)
        if codec in UNSUPPORTED.values():
            detail = f"{codec}: compress with gzip or zstd, or not at all"
            self.gaps.append(Gap(GapKind.UNSUPPORTED_COMPRESSION, 0, detail))
            return
        members = tar_members(file, codec)
        self.ignored = members.ignored
        location = "tar_range" if codec is None else "stream_only"
        yield from batches(self._samples(members, in_place=codec is None), location, *self._batch, self._reading.fallback)
        self.gaps, self.members = members.gaps, members.members
        if self._apart:
            add_gap(self.gaps, Gap(GapKind.NOT_ADJACENT, 0, FAR_APART.format(self._apart, self._first_apart)))

    def _samples(self, members: TarMembers, *, in_place: bool) -> Iterator[Sample]:
        for ordinal, parts in enumerate(group_members(members, self.ignored)):
            sample = sample_of(parts, None if in_place else ordinal, self._reading)
            if sample.json_problem is not None and sample.fault is None:
                self.ignored.note(f"metadata that is no JSON object: {sample.json_problem}", f"{sample.key}.json")
            if sample.fault is SampleFault.NOT_ADJACENT:
                self._first_apart = self._first_apart or sample.key
                self._apart += 1
            yield sample


def _opened(shard: Shard) -> SourceFile:
    try:
        return open_url(shard.url, scattered=shard.kind == "parquet")
    except FileNotFoundError as error:
        raise InputError(f"input shard {shard.url} is no longer there: put it back, or name the inputs that are") from error


def _check_unchanged(shard: Shard) -> None:
    """Raises InputError unless the file is still the one that was listed: its columns would go by the wrong version."""
    try:
        current = stat(shard.url)
    except FileNotFoundError as error:
        raise InputError(f"input shard {shard.url} was removed while it was read") from error
    if current.version != shard.version:
        raise InputError(f"input shard {shard.url} changed after it was listed: run again when nobody writes to it")


def codec_of(file: SourceFile) -> str | None:
    """The compression that the first bytes show; None for none. Names are not trusted."""
    head = file.read(6)
    file.seek(0)
    return next((codec for magic, codec in {**CODECS, **UNSUPPORTED}.items() if head.startswith(magic)), None)


def tar_members(file: SourceFile, codec: str | None) -> TarMembers:
    """The members of an archive in an open file, decompressed by this codec (None: it is not compressed)."""
    if codec is None:
        size = file.seek(0, 2)
        file.seek(0)
        return TarMembers(RewoundBlocks(file), LIMITS, size)
    return TarMembers(RewoundBlocks(Decompressed(file, codec), COMPRESSED_PIECE), LIMITS)


def fetch(shard: Shard, rows: pa.Table) -> Iterator[Row]:
    """(image bytes, JSON object bytes or None) of each row of a `samples` table of this shard, in the table's order.

    The bytes are checked for length only. Raises InputError where the shard has fewer bytes than when it was read.
    """
    if rows.num_rows == 0:
        return
    locations = set(rows.column("location").to_pylist())
    if locations == {"tar_range"}:
        yield from _ranged(shard, rows)
        return
    ordinals = np.asarray(rows.column("image_offset").combine_chunks())
    lengths = rows.column("image_length").to_pylist()
    with _in_order(shard, ordinals, locations.pop()) as samples:
        for length, (image, original) in zip(lengths, samples, strict=True):
            yield _checked(shard, image, length), original


def _ranged(shard: Shard, rows: pa.Table) -> Iterator[Row]:
    columns = [rows.column(name).to_pylist() for name in ("image_offset", "image_length", "json_offset", "json_length")]
    places = zip(*columns, strict=True)
    while chunk := _chunk(places):
        ranges = [(start, start + length) for a, b, c, d in chunk for start, length in ((a or 0, b or 0), (c or 0, d or 0))]
        contents = iter(read_ranges(shard.url, ranges))
        for _, image_length, json_offset, json_length in chunk:
            image, original = next(contents), next(contents)
            has_json = json_offset is not None
            yield _checked(shard, image, image_length), _checked(shard, original, json_length) if has_json else None


def _chunk(places: Iterator[tuple[int | None, ...]]) -> list[tuple[int | None, ...]]:
    """The next samples to fetch together: at most FETCH_ROWS, and not much above FETCH_BYTES."""
    chunk, held = [], 0
    for place in islice(places, FETCH_ROWS):
        chunk.append(place)
        held += (place[1] or 0) + (place[3] or 0)
        if held >= FETCH_BYTES:
            break
    return chunk


@contextmanager
def _in_order(shard: Shard, ordinals: NDArray[np.int64], location: str) -> Iterator[Iterator[Row]]:
    """Samples found by one pass over the shard; spooled to a temporary file unless they are wanted in its order."""
    order = np.argsort(ordinals, kind="stable")
    with _opened(shard) as file:
        ascending = ordinals[order]
        passed = rows_at(file, ascending) if location == "parquet_row" else _streamed(file, ascending)
        samples = _complete(shard, passed, len(order))
        if np.array_equal(order, np.arange(len(order))):
            yield samples
            return
        with tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY) as spool:
            places: dict[int, tuple[int, int, int | None]] = {}
            for position, (image, original) in zip(order.tolist(), samples, strict=True):
                places[position] = spool.tell(), len(image), None if original is None else len(original)
                spool.write(image)
                spool.write(original or b"")
            yield (_spooled(spool, places[position]) for position in range(len(order)))


def _complete(shard: Shard, rows: Iterator[Row], count: int) -> Iterator[Row]:
    missing = count
    for row in rows:
        missing -= 1
        yield row
    if missing:
        raise InputError(f"input shard {shard.url} changed since it was read ({missing} samples less): run again to read it anew")


def _spooled(spool: tempfile.SpooledTemporaryFile[bytes], place: tuple[int, int, int | None]) -> Row:
    spool.seek(place[0])
    image = spool.read(place[1])
    return image, None if place[2] is None else spool.read(place[2])


def _streamed(file: SourceFile, ordinals: NDArray[np.int64]) -> Iterator[Row]:
    remaining = iter(ordinals)
    next_ordinal = next(remaining, None)
    for ordinal, parts in enumerate(group_members(tar_members(file, codec_of(file)), IgnoredMembers())):
        while next_ordinal == ordinal:
            image = parts.image.content if parts.image is not None else None
            yield image or b"", parts.json.content if parts.json is not None else None
            next_ordinal = next(remaining, None)
        if next_ordinal is None:
            return


def _checked(shard: Shard, content: bytes, length: int | None) -> bytes:
    if len(content) != (length or 0):
        sizes = f"{len(content)} bytes where {length} were"
        raise InputError(f"input shard {shard.url} changed since it was read ({sizes}): run again to read it anew")
    return content
