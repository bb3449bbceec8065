"""Columns over a whole run: what is read of them, and how much is open at once."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.columns import Columns, Rows, Run
from pipeline.passes.embeddings import COPIES, Embeddings, sampled_embeddings
from pipeline.reduce.kmeans.partition import Partition, RowSample
from pipeline.store.blocks.several import write_columns
from pipeline.store.blocks.writing import Said
from pipeline.store.store import Store
from pipeline.vectors import unit
from tests.store.proxy import Proxy

CLIP = "columns/clip@0"


def written(store: Store, shards: int, rows: int, d: int) -> tuple[Run, np.ndarray]:
    """A run whose shards have uids and embeddings, and all its embeddings, float16 [shards x rows, d]."""
    vectors = np.random.default_rng(0).standard_normal((shards * rows, d)).astype(np.float16)
    ids = tuple(f"s{i:04d}" for i in range(shards))
    for i, shard_id in enumerate(ids):
        part = vectors[i * rows : (i + 1) * rows]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), d)
        uids = [f"{row:032x}" for row in range(i * rows, (i + 1) * rows)]
        write_columns(store, CLIP, [Said(shard_id, rows, {})], pa.table({"uid": uids, "image_embedding": lists}))
    return Run(Columns(store, {"clip": CLIP}), Rows(ids, (rows,) * shards)), vectors


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may have some hundred files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_neither_all_rows_nor_a_sample_hold_every_shard_open(tmp_path: Path, few_files: None) -> None:
    store = Store(str(tmp_path))
    run, vectors = written(store, shards=300, rows=3, d=4)
    assert np.array_equal(run.vectors("image_embedding"), vectors)
    rows = np.arange(0, 900, 2)
    assert np.array_equal(run.vectors("image_embedding", rows), vectors[rows])
    blocks = [Embeddings(store, CLIP, (shard,), None) for shard in run.rows.shards]
    assert np.array_equal(sampled_embeddings(blocks, 10_000, seed=0), unit(vectors))
    few = sampled_embeddings(blocks, 90, seed=0)
    assert 60 <= len(few) <= 120
    assert {row.tobytes() for row in few} <= {row.tobytes() for row in unit(vectors)}


def test_a_sample_of_a_remote_run_reads_its_own_rows(proxy: Proxy, tmp_path: Path) -> None:
    """100 rows of 50 shards, of 50 MB: less than a megabyte, in a few requests a shard."""
    store = Store(f"s3://bucket/{tmp_path.name}")
    run, vectors = written(store, shards=50, rows=1_000, d=512)
    proxy.reset()
    rows = np.sort(np.random.default_rng(1).choice(50_000, 100, replace=False))
    rows[1] = rows[0] + 1   # two that are one range
    rows = np.unique(rows)
    found = run.vectors("image_embedding", rows)
    assert np.array_equal(found, vectors[rows])
    assert proxy.sent < 1_000_000
    assert len(proxy.asked) <= 50 + len(rows)


def test_text_over_a_run_is_counted_by_64_bits(tmp_path: Path) -> None:
    """Of hashes of 64 digits, 2^31 bytes are 33.5 million rows."""
    run, _ = written(Store(str(tmp_path)), shards=3, rows=2, d=4)
    column = run.column("clip", "uid")
    assert column.type == pa.large_string()
    assert column.to_pylist() == [f"{row:032x}" for row in range(6)]


def test_a_fit_on_a_remote_root_keeps_one_bounded_file_and_reads_what_has_no_room_by_ranges(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(f"s3://bucket/{tmp_path.name}")
    run, _ = written(store, shards=4, rows=200, d=16)
    local = Store(str(tmp_path))
    written(local, shards=4, rows=200, d=16)
    monkeypatch.setattr(COPIES, "limit", 0)   # and back
    monkeypatch.setattr(COPIES, "spare", 0.0)

    def passed(at: Store) -> list[bytes]:
        partition = Partition([Embeddings(at, CLIP, (shard,), None) for shard in run.rows.shards])
        return [rows.tobytes() for sample in (RowSample(0), RowSample(0, 0.5)) for _, rows in partition.windows(sample)]

    expected, one = passed(local), 200 * 16 * 2
    for limit, asked in ((10 * one, 4 * 3), (2 * one, 4 * 3 + 2 * 2 * 3), (0, 3 * 4 * 3)):   # rows, head and values of each block
        COPIES.limit = limit
        proxy.reset()
        before = len(list(Path("/proc/self/fd").iterdir()))
        assert passed(store) == expected
        assert len(proxy.asked) == asked
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 1 + 4
        COPIES.clear()
