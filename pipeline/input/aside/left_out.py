"""Files of an input place that are no shards: those that stand for samples which nobody can read, and those that are left aside."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.input.members import Gap
from pipeline.input.parquet import DAMAGE, IMAGE_KEYS, image_column
from pipeline.input.values import bare, may_be_pictures
from pipeline.quantities import counted
from pipeline.store.source import SourceFile
from pipeline.store.store import FileInfo, absolute, open_url
from schemas.reasons import GapKind

PARQUET, STATS = ".parquet", "_stats.json"
MAX_STATS = 1 << 20
"""Bytes of a _stats.json; img2dataset writes some hundred."""
DATA = re.compile(
    r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|zip|7z|rar|gz|bz2|xz|zst|arrow|feather|tfrecords?|h5|hdf5|npz|lmdb|mdb|part|csv|tsv|jsonl"
    r"|ndjson)$", re.IGNORECASE)
"""Names of files that may hold samples, in forms that are not read."""
LOOKUPS = 32
"""Files opened at once to see what they hold: discovery waits for the store, not for the processor."""
EXAMPLES = 3
"""Files that are named of those left aside, for each reason."""


@dataclass(frozen=True)
class Orphan:
    """What img2dataset wrote beside a tar that is not there."""

    sidecar: FileInfo | None
    stats: FileInfo | None

    @property
    def file(self) -> FileInfo:
        """The file that stands for it among the shards."""
        file = self.sidecar or self.stats
        assert file is not None
        return file


def parquet_schema(url: str) -> pa.Schema | None:
    """The schema of a parquet file; None for other files and where it is damaged."""
    if not url.lower().endswith(PARQUET):
        return None
    with open_url(url, scattered=True) as file:
        try:
            return pq.read_schema(file)
        except DAMAGE:
            if file.failed:
                raise
            return None


def perhaps_images(schema: pa.Schema) -> list[str]:
    """Name and type of each column that may hold images, where none can be read: bytes in any wrapping, or a name for images."""
    return [f"{field.name} ({field.type})" for field in schema if field.name in IMAGE_KEYS or _has_bytes(field.type)]


@dataclass(frozen=True)
class SortedOut:
    """What a pattern names."""

    shards: list[FileInfo]
    unreadable: list[tuple[FileInfo, str]]
    """Parquet files that may hold images, in columns that are not read; and why they are not, in words."""
    aside: list[FileInfo]
    """Parquet files without images."""


def sorted_out(pattern: str, files: Sequence[FileInfo]) -> SortedOut:
    """Shards, and parquet files that are none; damaged ones are shards, so that reading names them. Raises InputError where the
    pattern names the very file that has no images."""
    with ThreadPoolExecutor(LOOKUPS) as pool:
        schemas = list(pool.map(lambda info: parquet_schema(info.url), files))
    found = SortedOut([], [], [])
    for info, schema in zip(files, schemas, strict=True):
        if schema is None or image_column(schema) is not None:
            found.shards.append(info)
        elif absolute(pattern) == info.url:
            names = ", ".join(schema.names)
            raise InputError(f"input {pattern!r}: no column of image bytes (binary or struct of bytes, path) in {names}")
        elif perhaps_images(schema):
            found.unreadable.append((info, why_unreadable(schema)))
        else:
            found.aside.append(info)
    return found


def why_none(found: SortedOut, without_tar: Sequence[Orphan]) -> str:
    """What else was found where no shard was, in words; empty where nothing was."""
    whys = [f"{info.url}: {why}" for info, why in found.unreadable[:EXAMPLES]]
    whys += [f"{orphan.file.url}: its tar is not there" for orphan in without_tar[:EXAMPLES]]
    return f" that can be read ({'; '.join(whys)})" if whys else ""


def _has_bytes(kind: pa.DataType) -> bool:
    kind = bare(kind)
    return may_be_pictures(kind) or any(_has_bytes(kind.field(i).type) for i in range(kind.num_fields))


def is_download_list(schema: pa.Schema | None) -> bool:
    """Whether these are the columns of img2dataset's list of what it downloaded into a tar."""
    return schema is not None and "status" in schema.names and bool({"url", "key"} & set(schema.names))


def promised(stats: str | None, sidecar: str | None) -> int | None:
    """How many samples the side files of a tar promise: `successes` of the stats, else the sidecar's rows of status success.

    None without side files, or if they are damaged themselves (they are only a second opinion).
    """
    if stats is not None:
        try:
            with open_url(stats) as file:
                successes = json.loads(file.read(MAX_STATS)).get("successes")
        except (ValueError, AttributeError, RecursionError, FileNotFoundError):
            successes = None
        if type(successes) is int:
            return successes
    if sidecar is None:
        return None
    try:
        with open_url(sidecar, scattered=True) as file:
            return _successes(file)
    except FileNotFoundError:
        return None


def _successes(sidecar: SourceFile) -> int | None:
    try:
        opened = pq.ParquetFile(sidecar)
        if "status" not in opened.schema_arrow.names:
            return int(opened.metadata.num_rows)
        return int(pc.sum(pc.equal(opened.read(["status"], use_threads=False).column("status"), "success")).as_py() or 0)
    except DAMAGE:
        if sidecar.failed:
            raise
        return None


def orphans(pattern: str, listing: Iterable[FileInfo], has_tar: Callable[[str], bool]) -> Iterator[Orphan]:
    """The side files in a folder whose tar is not there, although samples were written into it. `pattern`, a folder or a glob,
    names that tar; `has_tar` tells whether the tar that side files of this URL belong to is there."""
    beside: dict[str, dict[str, FileInfo]] = {}
    for info in listing:
        for suffix in (PARQUET, STATS):
            if info.url.lower().endswith(suffix) and not has_tar(info.url):
                beside.setdefault(info.url[: -len(suffix)], {})[suffix] = info
    for stem, files in sorted(beside.items()):
        if not (stem.startswith(f"{pattern.rstrip('/')}/") or fnmatchcase(f"{stem}.tar", pattern)):
            continue
        orphan = Orphan(files.get(PARQUET), files.get(STATS))
        schema = None if orphan.sidecar is None else parquet_schema(orphan.sidecar.url)
        if orphan.stats is None and not is_download_list(schema):
            continue
        if schema is not None and (image_column(schema) is not None or perhaps_images(schema)):
            continue   # a shard of img2dataset's parquet format
        if _url(orphan.sidecar) is None and promised(_url(orphan.stats), None) is None:
            continue   # somebody else's statistics
        if promised(_url(orphan.stats), _url(orphan.sidecar)) != 0:
            yield orphan


def _url(info: FileInfo | None) -> str | None:
    return None if info is None else info.url


def gap_at(url: str, stats: str | None, sidecar: str | None) -> Gap:
    """What is missing where a file stands for samples that nobody can read: side files without their tar, or (with neither) a
    parquet file whose images are in columns that are not read."""
    if stats is None and sidecar is None:
        with open_url(url, scattered=True) as file:
            opened = pq.ParquetFile(file)
            schema, rows = opened.schema_arrow, int(opened.metadata.num_rows)
        return Gap(GapKind.UNREADABLE, 0, why_unreadable(schema), rows)
    expected = promised(stats, sidecar)
    if expected is None:
        return Gap(GapKind.UNREADABLE_SIDECAR, 0, "its tar is not there, and it does not say how many samples that should have")
    detail = f"its tar is not there: {counted(expected, 'sample')} were downloaded into it"
    return Gap(GapKind.MISSING_VS_SIDECAR, 0, detail, expected)


def why_unreadable(schema: pa.Schema) -> str:
    """Which columns may hold the images, and how they would be read."""
    return (f"no column of images that can be read; it may be {', '.join(perhaps_images(schema))}: write it as binary, or a struct "
            f"of bytes and path, and call it {IMAGE_KEYS[0]}")


def beside(listings: Iterable[Mapping[str, FileInfo]]) -> Iterator[FileInfo]:
    """The files of folders that may hold samples in forms that are not read; hidden ones are not meant."""
    for listing in listings:
        yield from (info for url, info in listing.items() if DATA.search(url) and not url.rpartition("/")[2].startswith("."))


def left_aside(names: Iterable[str]) -> str:
    """The files of a folder that are no shards though they may hold samples, in words: how many of each kind, with examples; empty
    where there are none."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        if name.lower().endswith(PARQUET):
            kinds.setdefault("parquet without images", []).append(name)
        elif found := DATA.search(name):
            kinds.setdefault(found[0].lower(), []).append(name)
    return "; ".join(
        f"{counted(len(files), 'file')} {kind} ({', '.join(sorted(files)[:EXAMPLES])}{', …' * (len(files) > EXAMPLES)})"
        for kind, files in sorted(kinds.items()))
