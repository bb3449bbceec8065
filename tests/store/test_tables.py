"""Column files and tables."""

import io
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.store.blocks.either import forget_blocks
from pipeline.store.blocks.index import entries_of, write_index
from pipeline.store.blocks.writing import Said, part_of, write_block
from pipeline.store.remote.footers import footers_kept
from pipeline.store.store import Store
from pipeline.store.tables import (
    facts_of,
    parquet_file,
    parquet_table,
    read_columns,
    read_facts,
    read_many_facts,
    read_table,
    read_vector_rows,
    read_vectors,
    stored_shards,
    vector_length,
    write_table,
)
from tests.store.proxy import Proxy


class Watched(io.BytesIO):
    """Remembers which threads touched it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.threads: set[int] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(size)


@pytest.fixture
def file() -> Watched:
    out = io.BytesIO()
    pq.write_table(pa.table({"n": range(50_000), "text": [str(i) for i in range(50_000)]}), out, row_group_size=1000)
    return Watched(out.getvalue())


@pytest.mark.parametrize("filters", [None, pc.field("n") < 3])
def test_a_table_is_read_in_the_thread_that_asks(file: Watched, filters: pc.Expression | None) -> None:
    """A thread of Arrow's that still holds the Python file when the interpreter ends aborts the process."""
    table = parquet_table(file, filters=filters)
    assert table.num_rows == (50_000 if filters is None else 3)
    assert file.threads == {threading.get_ident()}


def test_columns_and_filters_choose(file: Watched) -> None:
    table = parquet_table(file, ["n"], pc.field("n").isin([7, 49_999]))
    assert table.to_pydict() == {"n": [7, 49_999]}
    assert parquet_table(file, ["n"], pc.field("n") < 0).schema == pa.schema([("n", pa.int64())])


def wide_table(rows: int) -> pa.Table:
    """Some columns that do not compress, one nested, in three row groups."""
    rng = np.random.default_rng(0)
    return pa.table({
        "uid": [f"{row:032x}" for row in range(rows)], "noise": [rng.bytes(300) for _ in range(rows)],
        "few": pa.array(["a", "b"] * (rows // 2)).dictionary_encode().cast(pa.string()),
        "nested": [[{"id": str(row), "z": 0.5}] * (row % 3) for row in range(rows)], "more": [rng.bytes(300) for _ in range(rows)],
    })


def test_of_a_remote_table_its_footer_and_the_columns_that_are_asked_for_are_read(proxy: Proxy, tmp_path: Path) -> None:
    store, table, facts = Store(f"s3://bucket/{tmp_path.name}"), wide_table(3_000), {"long": "x" * 60_000}
    with parquet_file(store, "wide.parquet", table.schema, facts) as write:
        for start in range(0, 3_000, 1_000):
            write(table.slice(start, 1_000))
    write_table(store, "small.parquet", table.slice(0, 10), {"rows": 10})
    proxy.reset()
    assert read_table(store, "small.parquet", ["uid"]).equals(table.slice(0, 10).select(["uid"]))
    assert read_facts(store, "small.parquet") == {"rows": 10}
    assert [request.partition(" ")[0] for request in proxy.asked] == ["GET", "GET"]
    proxy.reset()
    assert read_table(store, "wide.parquet", ["uid", "nested"]).equals(table.select(["uid", "nested"]))
    assert read_table(store, "wide.parquet", ["few"], pc.field("few") == "b").num_rows == 1_500
    assert facts_of(read_table(store, "wide.parquet", ["few"]).schema) == facts
    assert proxy.sent < 1_300_000, "1.8 MB of noise were not asked for"
    assert read_table(store, "wide.parquet").equals(table)
    assert read_facts(store, "wide.parquet") == facts
    assert not [request for request in proxy.asked if request.startswith("HEAD")]


def test_a_footer_is_asked_for_once_in_a_run_unless_its_file_was_made_anew(proxy: Proxy, tmp_path: Path) -> None:
    store, table = Store(f"s3://bucket/{tmp_path.name}"), pa.table({"n": [1]})
    paths = [f"{number}.parquet" for number in range(3)]
    for path in paths:
        write_table(store, path, table, {"version": 1})
    with footers_kept():
        for again in range(3):
            proxy.reset()
            assert [facts["version"] for facts in read_many_facts(store, paths)] == [1, 1, 1]
            assert len(proxy.asked) == (0 if again else 3)
        write_table(store, paths[0], table, {"version": 2})
        store.remove(paths[1])
        assert read_facts(store, paths[0]) == {"version": 2}
        with pytest.raises(FileNotFoundError):
            read_facts(store, paths[1])
    proxy.reset()
    assert read_facts(store, paths[2]) == {"version": 1}
    assert len(proxy.asked) == 1, "after the run another may have written it"


def test_of_a_remote_block_what_is_asked_of_one_shard_is_read_and_no_other_rows_but_its_neighbours(
    proxy: Proxy, tmp_path: Path,
) -> None:
    store, folder, ids = Store(f"s3://bucket/{tmp_path.name}"), "columns/x@1", [f"s{number:02d}" for number in range(61)]
    table = wide_table(6_000)
    vectors = np.random.default_rng(0).standard_normal((6_000, 64)).astype(np.float16)
    rows = {shard_id: slice(100 * number, 100 * (number + 1)) for number, shard_id in enumerate(ids)}   # the last has none
    name = write_block(store, folder, [
        part_of([Said(shard_id, len(vectors[at]), {"shard": shard_id})], table.slice(at.start, 100), {"v": vectors[at]})
        for shard_id, at in rows.items()])
    write_index(store, folder, entries_of(store, folder, name))
    forget_blocks(store)
    proxy.reset()
    assert read_columns(store, folder, "s31", ["uid", "noise"]).equals(table.slice(3_100, 100).select(["uid", "noise"]))
    assert proxy.sent < 700_000, "of 4 MB the footer, the index and 1,000 rows of two columns"
    proxy.reset()
    assert read_columns(store, folder, "s32", ["uid", "noise"]).equals(table.slice(3_200, 100).select(["uid", "noise"]))
    assert read_vector_rows(store, folder, "s32", "v", np.array([3, 4, 99])).tolist() == vectors[[3_203, 3_204, 3_299]].tolist()
    assert read_vectors(store, folder, "s33", "v").tolist() == vectors[3_300:3_400].tolist()
    assert read_vector_rows(store, folder, "s60", "v", np.zeros(0, np.int64)).shape == (0, 64)
    assert read_vectors(store, folder, "s60", "v").shape == (0, 64)
    assert vector_length(store, folder, "s60", "v") == 64
    facts = list(read_many_facts(store, [f"{folder}/{shard_id}.parquet" for shard_id in ids]))
    assert facts == [{"shard": shard_id} for shard_id in ids]
    assert proxy.sent < 150_000, "some rows of vectors, and what the index says of all shards"
    assert stored_shards(store, [folder]) == set(ids)
    with pytest.raises(FileNotFoundError):
        read_facts(store, f"{folder}/s61.parquet")
