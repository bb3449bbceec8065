"""Several shards of a folder at once: what is read and written is what each shard alone says."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.columns import RunShard, consecutive, shard_ids_of
from pipeline.store.blocks import index, writing
from pipeline.store.blocks.either import forget_blocks
from pipeline.store.blocks.index import entries_of, fresh_index, write_index
from pipeline.store.blocks.several import (
    columns_of,
    columns_with_facts,
    matrix_rows_of,
    said_of,
    stored_matrix,
    write_columns,
    write_tables,
)
from pipeline.store.blocks.writing import Said, as_blocks, part_of, write_block
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_facts, read_vectors

FOLDER = "columns/x@1"
COUNTS = {"a": 2, "b": 0, "c": 3, "d": 1, "e": 1, "f": 4, "g": 2}
IDS = list(COUNTS)
VECTORS = np.random.default_rng(0).standard_normal((sum(COUNTS.values()), 3)).astype(np.float16)


def said(ids: Sequence[str]) -> list[Said]:
    return [Said(shard_id, COUNTS[shard_id], {"shard_id": shard_id}) for shard_id in ids]


def table(ids: Sequence[str]) -> pa.Table:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.reshape(-1)), 3)
    uids, nothing = [f"{row:032x}" for row in range(len(VECTORS))], pa.nulls(len(VECTORS), pa.string())
    whole = pa.table({"uid": uids, "v": lists, "x_error": nothing})
    first = sum(COUNTS[shard_id] for shard_id in IDS[: IDS.index(ids[0])])
    return whole.slice(first, sum(COUNTS[shard_id] for shard_id in ids))


def written(store: Store, *groups: Sequence[str]) -> None:
    """Each group becomes a block; a group of one, a file."""
    for ids in groups:
        if len(ids) == 1:
            write_columns(store, FOLDER, said(ids), table(ids))
        else:
            with as_blocks():
                write_columns(store, FOLDER, said(ids), table(ids))


def same_as_each_alone(store: Store) -> None:
    alone = pa.concat_tables([read_columns(store, FOLDER, shard_id).replace_schema_metadata(None) for shard_id in IDS])
    facts = [read_facts(store, f"{FOLDER}/{shard_id}.parquet") for shard_id in IDS]
    vectors = np.concatenate([read_vectors(store, FOLDER, shard_id, "v") for shard_id in IDS])
    assert np.array_equal(vectors, VECTORS)
    assert columns_of(store, FOLDER, IDS).equals(alone)
    assert columns_of(store, FOLDER, IDS[3:5], ["uid"]).column("uid").to_pylist() == alone.column("uid").to_pylist()[5:7]
    assert [columns_with_facts(store, FOLDER, IDS)[0].equals(alone), columns_with_facts(store, FOLDER, IDS)[1]] == [True, facts]
    assert [(shard.shard_id, shard.rows, shard.facts) for shard in said_of(store, FOLDER, IDS)] == \
        [(shard_id, COUNTS[shard_id], known) for shard_id, known in zip(IDS, facts, strict=True)]
    assert np.array_equal(stored_matrix(store, FOLDER, IDS, "v"), vectors)
    some = np.array([0, 4, 5, 6, 12])
    assert np.array_equal(matrix_rows_of(store, FOLDER, COUNTS, "v", some), vectors[some])
    assert matrix_rows_of(store, FOLDER, COUNTS, "v", some[:0]).shape == (0, 3)


def test_several_shards_say_what_each_says_alone(anywhere: str) -> None:
    store = Store(anywhere)
    written(store, IDS[:3], [IDS[3]], IDS[4:])
    same_as_each_alone(store)
    forget_blocks(store)
    same_as_each_alone(store)
    for shard_id in IDS:
        forget_blocks(store)   # a worker's first question may be of one shard alone
        assert columns_of(store, FOLDER, [shard_id], ["uid"]).num_rows == COUNTS[shard_id]
    with pytest.raises(FileNotFoundError):
        columns_of(store, FOLDER, [*IDS, "z"])


@pytest.mark.parametrize("groups", [[[i] for i in IDS], [IDS]], ids=["files", "a block"])
def test_shards_in_files_or_in_one_block_say_together_what_each_says_alone(tmp_path: Path, groups: list[list[str]]) -> None:
    store = Store(str(tmp_path))
    written(store, *groups)
    same_as_each_alone(store)


def test_blocks_that_were_replaced_since_the_index_was_read_are_looked_for_anew(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    written(store, IDS[:3], IDS[3:])
    fresh_index(store, FOLDER)
    old = [name for name in store.names(FOLDER) if name.startswith("block-")]
    parts = [part_of(said(IDS), columns_of(store, FOLDER, IDS), {"v": np.array(stored_matrix(store, FOLDER, IDS, "v"))})]
    block = write_block(store, FOLDER, parts)
    stale = fresh_index(store, FOLDER)
    write_index(store, FOLDER, entries_of(store, FOLDER, block))
    for name in old:
        store.remove(f"{FOLDER}/{name}")
    assert len(stale.ids) == 2 * len(IDS)
    for asked in (lambda: columns_of(store, FOLDER, IDS).num_rows, lambda: len(stored_matrix(store, FOLDER, IDS, "v"))):
        index._known[store.url, FOLDER] = stale   # as a worker's is, which nobody told
        assert asked() == len(VECTORS)


def test_how_shards_come_in_parts_changes_no_byte_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "GROUP_ROWS", 4)
    contents = []
    for number, cuts in enumerate([[IDS], [[i] for i in IDS], [IDS[:2], IDS[2:3], IDS[3:]]]):
        store = Store(str(tmp_path / str(number)))
        with as_blocks():
            for ids in cuts:
                write_columns(store, FOLDER, said(ids), table(ids))
        contents.append({name: store.read(f"{FOLDER}/{name}") for name in store.names(FOLDER)})
    assert contents[0] == contents[1] == contents[2]
    assert len(contents[0]) == 2


def test_tables_of_several_shards_that_no_block_gathers_are_files_as_each_alone_writes_them(tmp_path: Path) -> None:
    together, alone = Store(str(tmp_path / "together")), Store(str(tmp_path / "alone"))
    values = table(IDS).drop_columns(["v"])
    write_tables(together, FOLDER, said(IDS), values)
    first = 0
    for shard in said(IDS):
        write_tables(alone, FOLDER, [shard], values.slice(first, shard.rows).combine_chunks())
        first += shard.rows
    assert together.names(FOLDER) == [f"{shard_id}.parquet" for shard_id in IDS]
    assert all(together.read(f"{FOLDER}/{name}") == alone.read(f"{FOLDER}/{name}") for name in alone.names(FOLDER))


def test_shards_are_taken_together_as_far_as_their_rows_follow_each_other() -> None:
    a, b, c, d = RunShard("a", 0, 2), RunShard("b", 2, 0), RunShard("c", 2, 3), RunShard("d", 9, 1)
    assert [shard_ids_of(stretch) for stretch in consecutive([a, b, c, d])] == [["a", "b", "c"], ["d"]]
    assert [shard_ids_of(stretch) for stretch in consecutive([a, c])] == [["a", "c"]]
    assert [shard_ids_of(stretch) for stretch in consecutive([d, a])] == [["d"], ["a"]]

