"""A whole run whose shards travel together and end up in blocks is the run of shards that went by themselves."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.api import shardmill
from pipeline.audit.gc import collect
from pipeline.audit.verify import verify
from pipeline.passes.shards import compaction
from pipeline.queries.status import status
from pipeline.root.entries import entries
from pipeline.root.existing import open_root, semantic_account
from pipeline.root.manifest import Files, vector_hashes
from pipeline.store.blocks import groups
from pipeline.store.tables import read_columns
from schemas.answers.samples import Verified
from tests.curations import curated
from tests.roots import counted, hashes

SEMANTIC = ("semantic_duplicates.epsilon=0.1", "filters.semantic_duplicate.equals=false")
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
    elsewhere = {name for name in expected if not name.startswith((*PER_SHARD, "run.json", "manifest.parquet", "_SUCCESS"))}
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


def test_the_manifest_takes_the_hashes_of_a_blocks_vectors_over_and_every_sample_is_verified(in_blocks: Path) -> None:
    plan = open_root(str(in_blocks))
    folder = plan.columns.folders["clip"]
    names = {name for name in plan.root.names(folder) if name.endswith(".npy")}
    assert len(names) > 0
    assert vector_hashes(plan.root, Files(folder, tuple(plan.root.sizes(folder).items()), {}, 0)).keys() == names
    listed = {entry.path for entry in entries(plan.root)}
    assert {f"{folder}/{name}" for name in plan.root.names(folder)} <= listed
    found = verify(str(in_blocks), deep=True)
    assert found.faults == ()
    assert isinstance(found, Verified)
    assert found.compared == found.kept


def test_semantic_duplicates_are_found_and_judged_over_blocks_as_over_files(
    in_blocks: Path, demo_root: Path, sample_folder: Path, tmp_path: Path,
) -> None:
    roots = [Path(shutil.copytree(root, tmp_path / name, symlinks=True)) for root, name in ((in_blocks, "a"), (demo_root, "b"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SHARES", 3)
        patch.setattr(compaction, "LEAST_SHARDS", 4)
        curated(roots[0], [sample_folder], SEMANTIC)
    curated(roots[1], [sample_folder], SEMANTIC)
    plan, other = (open_root(str(root)) for root in roots)
    assert plan.semantic_columns is not None
    assert semantic_account(plan) == semantic_account(other)
    for folder in (str(plan.semantic_columns), plan.verdicts):
        for shard in plan.shards:
            assert read_columns(plan.root, folder, shard.shard_id).equals(read_columns(other.root, folder, shard.shard_id)), folder
        assert len([name for name in plan.root.names(folder) if name.endswith(".parquet")]) == 1
    for folder in (str(plan.semantic_pairs), plan.export):
        assert hashes(roots[0] / folder) == hashes(roots[1] / folder)
    assert counted(roots[0]) == counted(roots[1])
    [block] = (roots[0] / plan.semantic_columns).glob("block-*.parquet")
    content = block.read_bytes()
    block.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert f"{plan.semantic_columns}/{block.name}: its bytes are not those that were written" in verify(str(roots[0])).faults
    block.unlink()
    faults = verify(str(roots[0])).faults
    assert f"{plan.semantic_columns}/{block.name} is missing" in faults
