"""Each byte of an input is read once, and memory does not grow with the shard."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec import AbstractFileSystem

from pipeline.input.discovery import discover
from pipeline.input.reader import fetch, read
from pipeline.input.samples import BATCH
from pipeline.store.store import Store
from tests.archives import member_bytes


class CountedFile(io.FileIO):
    total = 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        CountedFile.total += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        CountedFile.total += len(content)
        return content


class CountedFileSystem(AbstractFileSystem):   # type: ignore[misc]   # fsspec has no types
    """Files of this disk, as a store that is not local; counts the bytes that leave it."""

    protocol = "counted"

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = "/" + self._strip_protocol(path).lstrip("/")
        kind = "directory" if os.path.isdir(path) else "file"
        return {"name": path, "type": kind, "size": os.stat(path).st_size, "ETag": str(os.stat(path).st_mtime_ns)}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = "/" + self._strip_protocol(path).lstrip("/")
        found = [self.info(f"{path}/{name}") for name in sorted(os.listdir(path))]
        return found if detail else [info["name"] for info in found]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> CountedFile:
        return CountedFile("/" + path.lstrip("/"), mode)


@pytest.fixture(scope="module", autouse=True)
def counted_protocol() -> None:
    fsspec.register_implementation("counted", CountedFileSystem, clobber=True)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "parquet"])
def test_each_byte_is_read_once(sample: Path, tmp_path: Path, form: str) -> None:
    if form == "parquet":
        table = pa.Table.from_batches([b for s in discover([str(sample)]) for b in read(s)]).select(["key", "caption", "image"])
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    else:
        raw = (sample / "00000.tar").read_bytes()
        (tmp_path / f"a.{form}").write_bytes(gzip.compress(raw) if form == "tar.gz" else raw)
    [shard] = discover([f"counted://{tmp_path}/a.{form}"])
    CountedFile.total = 0
    reader = read(shard)
    assert sum(batch.num_rows for batch in reader) == (828 if form == "parquet" else 100)
    assert 0.9 * shard.size <= CountedFile.total <= 1.05 * shard.size
    assert reader.bytes_read == CountedFile.total


def test_the_whole_sample_is_read_as_it_is(sample: Path) -> None:
    rows = 0
    for shard in discover([str(sample)]):
        reader = read(shard)
        for batch in reader:
            assert batch.schema.equals(BATCH, check_metadata=True)
            assert batch.column("samples_error").null_count == batch.num_rows
            rows += batch.num_rows
        assert (reader.gaps, reader.members) == ([], 3 * reader.rows)
        assert reader.bytes_read <= 1.05 * shard.size
    assert rows == 828


def test_offsets_are_those_of_the_bytes_and_fetch_brings_the_members_back(sample: Path, s3_server: str) -> None:
    store = Store("s3://bucket/ranges")
    store.write("00008.tar", (sample / "00008.tar").read_bytes())
    with tarfile.open(sample / "00008.tar") as tar:
        members = {info.name: (info.offset_data, member_bytes(tar, info)) for info in tar}
    for url in (str(sample / "00008.tar"), "s3://bucket/ranges/00008.tar"):
        [shard] = discover([url])
        table = pa.Table.from_batches(list(read(shard)))
        for row in table.to_pylist():
            assert (row["image_offset"], row["image"]) == members[f"{row['key']}.jpg"]
            assert row["json_offset"] == members[f"{row['key']}.json"][0]
        back = table.take(pa.array(range(27, -1, -1)))
        expected = [(members[f"{key}.jpg"][1], members[f"{key}.json"][1]) for key in back.column("key").to_pylist()]
        assert list(fetch(shard, back)) == expected


CHILD = """
import sys
from pipeline.input.discovery import discover
from pipeline.input.reader import read

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

[shard] = discover([sys.argv[1]])
before = peak()
rows = sum(batch.num_rows for batch in read(shard, batch_bytes=8 << 20))
print(rows, peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is asked of Linux")
@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_memory_stays_bounded_however_large_the_shard(tmp_path: Path, form: str) -> None:
    image = os.urandom(4 << 20)
    path = tmp_path / f"a.{form}"
    if form == "tar":
        with tarfile.open(path, "w") as tar:
            for i in range(50):
                info = tarfile.TarInfo(f"{i}.jpg")
                info.size = len(image)
                tar.addfile(info, io.BytesIO(image))
    else:   # one row group; its pages hold one image each
        schema = pa.schema([("image", pa.binary()), ("caption", pa.string())])
        with pq.ParquetWriter(path, schema, use_dictionary=False, write_batch_size=1, compression="none") as writer:
            writer.write_table(pa.table({"image": [image] * 50, "caption": ["c"] * 50}), row_group_size=50)
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True)
    rows, kilobytes = map(int, done.stdout.split())
    assert rows == 50
    assert kilobytes < 160_000, "the shard has 205,000 kB"
