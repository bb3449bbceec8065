"""A whole run whose shards travel together and end up in blocks is the run of shards that went by themselves."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.api import shardmill
from pipeline.audit.gc import collect
from pipeline.passes.shards import compaction
from pipeline.queries.status import status
from pipeline.root.existing import open_root
from pipeline.store.blocks import groups
from pipeline.store.tables import read_columns
from tests.curations import curated
from tests.roots import counted, hashes

PER_SHARD = ("columns", "verdicts@", "labels@", "tallies@")


@pytest.fixture(scope="module")
def in_blocks(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Path:
    """The sample's nine shards by threes, in one process, then in blocks."""
    root = tmp_path_factory.mktemp("blocks") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SHARES", 3)
        patch.setattr(compaction, "LEAST_SHARDS", 4)
        curated(root, [sample_folder])
    return root


def test_its_tables_export_and_rows_are_the_same(in_blocks: Path, demo_root: Path) -> None:
    found, expected = hashes(in_blocks), hashes(demo_root)
    elsewhere = {name for name in expected if not name.startswith((*PER_SHARD, "run.json", "manifest.json", "_SUCCESS"))}
    assert len(elsewhere) > 20
    assert {name: found[name] for name in elsewhere} == {name: expected[name] for name in elsewhere}
    plan, other = open_root(str(in_blocks)), open_root(str(demo_root))
    folders = [*plan.columns.folders.values(), plan.run_columns, plan.verdicts, str(plan.labels), str(plan.tallies)]
    for folder in folders:
        for shard in plan.shards:
            assert read_columns(plan.root, folder, shard.shard_id).equals(read_columns(other.root, folder, shard.shard_id)), folder
        assert len([name for name in plan.root.names(folder) if name.endswith(".parquet")]) == 1


def test_every_command_finds_it_whole(in_blocks: Path, demo_root: Path) -> None:
    assert counted(in_blocks) == counted(demo_root)
    assert collect(str(in_blocks), dry_run=True).files == 0
    assert status(str(in_blocks)).passes == status(str(demo_root)).passes
    shards = [{column.name: column.shards for column in status(str(root)).columns} for root in (in_blocks, demo_root)]
    assert shards[0] == shards[1]
    names, roots = ["uid", "caption", "verdict", "class_name"], [shardmill.open(str(root)) for root in (in_blocks, demo_root)]
    first, second = (root.samples(names) for root in roots)
    assert first.to_table().equals(second.to_table())
    assert np.array_equal(first.embeddings(), second.embeddings())
    assert roots[0].explain("000000042")[0].model_dump() == roots[1].explain("000000042")[0].model_dump()


def test_a_block_that_was_deleted_is_made_again(in_blocks: Path, sample_folder: Path) -> None:
    before = hashes(in_blocks)
    [block] = in_blocks.glob("labels@*/block-*.parquet")
    block.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "LEAST_SHARDS", 4)
        curated(in_blocks, [sample_folder])
    assert hashes(in_blocks) == before
