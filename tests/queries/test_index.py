"""The indexes of a root: made on a finished one, verified, planned, and found by their path."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.api import shardmill
from pipeline.audit.indexed import index_faults
from pipeline.audit.verify import verify
from pipeline.input.inventory.stored import summary
from pipeline.process.ahead import threads
from pipeline.queries.plans.index_costs import index_costs
from pipeline.queries.plans.run_costs import Extent
from pipeline.recipe.recipe import load
from pipeline.recipe.sections import Index
from pipeline.reduce.kmeans.costs import Machines
from pipeline.root.existing import gathered, open_root
from pipeline.root.other_roots import named_folders
from pipeline.search.index.stored import open_index, read_numbers, read_record
from pipeline.store.store import Store
from pipeline.store.tables import read_table, write_table
from tests.curations import curated
from tests.roots import asked, hashes

SETTINGS = ("classes.k=3", "export.shard_size=6", "filters.clip_similarity.min=0.0", "model.compile=false")
TOLD = {"run.json", "current.json", "manifest.parquet", "_SUCCESS"}


@pytest.fixture
def root(pool_root: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(pool_root, tmp_path / "root", symlinks=True))


def inputs(root: Path) -> list[Path]:
    """The shards that a root was made of."""
    return [Path(shard["url"]) for shard in read_table(Store(str(root)), "inputs.parquet").to_pylist()]


def test_a_picture_of_the_run_is_its_own_neighbour(pool_root: Path) -> None:
    folder = Path(asked("path", str(pool_root), "index").stdout.strip()).relative_to(pool_root).as_posix()
    store = Store(str(pool_root))
    record, numbers = read_record(store, folder), read_numbers(store, folder)
    kept = shardmill.open(pool_root).samples(["shard_id", "row", "image_embedding"], where={"verdict": "kept"}).to_table()
    assert {name: file.vectors for name, file in record.indexes.items()} == dict.fromkeys(("image", "text"), kept.num_rows)
    assert record.base is not None   # the run by a stricter threshold had fewer: it was gone on from
    queries = np.array(kept.column("image_embedding").to_pylist(), np.float32)
    found = open_index(store, folder, record.indexes["image"]).search(queries, 1)
    rows = {(shard_id, int(row)): at for at, (shard_id, row) in enumerate(zip(
        kept.column("shard_id").to_pylist(), kept.column("row").to_pylist(), strict=True))}
    for shard_id, places, local in numbers.located(found.ids[:, 0]):
        assert [rows[shard_id, row] for row in local.tolist()] == places.tolist()


def test_another_index_of_a_finished_root_changes_nothing_else(root: Path) -> None:
    before = hashes(root)
    curated(root, inputs(root), (*SETTINGS, "index.of=all", "index.grow=false", "index.modality=[image]"))
    after = hashes(root)
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed <= TOLD
    new = {name.rpartition("/")[2] for name in set(after) - set(before)}
    assert new == {"image.index", "image.trained.index", "shards.parquet", "index.json"}
    assert verify(str(root)).faults == ()
    unused = json.loads(asked("gc", str(root), "--dry-run", "--json").stdout)["folders"]
    assert sum(waste["folder"].startswith("tables/index@") for waste in unused) == 2   # of the thresholds before


def test_an_index_that_does_not_have_what_is_kept_is_a_fault(root: Path) -> None:
    folder = json.loads((root / "current.json").read_text())["index"]
    (root / folder / "image.index").write_bytes(b"x")
    assert f"{folder}/image.index: its bytes are not those that were written" in verify(str(root)).faults


def test_a_table_that_is_not_of_the_run_is_a_fault(root: Path) -> None:
    plan = open_root(str(root))
    assert plan.index is not None
    table = read_table(plan.root, f"{plan.index}/shards.parquet")
    write_table(plan.root, f"{plan.index}/shards.parquet", table.slice(0, table.num_rows - 1), {})
    with threads(1, "verify") as pool:
        faults = list(index_faults(plan, gathered(plan), pool))
    assert any("has other vectors than the index says" in fault for fault in faults)
    assert any("are missing or too many" in fault for fault in faults)


def test_a_root_of_before_there_were_indexes_keeps_to_the_classes_that_it_was_made_with(tmp_path: Path) -> None:
    recipe, store = load("sample", ["classes.k=2", "classes.ids_from=self"]), Store(str(tmp_path))
    record = {"recipe": recipe.model_dump(mode="json"), "outputs": {"others": {"ids_from": "tables/centroids@then"}}}
    del record["recipe"]["index"]
    store.write_json("run.json", record | {"inputs": summary([])})
    store.write_json("current.json", {"centroids": "tables/centroids@now"})
    assert named_folders(store, recipe, []) == {"ids_from": "tables/centroids@then"}
    other = load("sample", ["classes.k=3", "classes.ids_from=self"])
    assert named_folders(store, other, []) == {"ids_from": "tables/centroids@now"}


def test_plan_says_which_index_and_what_it_costs() -> None:
    machines, extent = Machines(1, 8, 1e9, 32 << 30), Extent(100_000_000, 10_000, 512)
    costs = index_costs(Index(of="kept"), extent, machines, lambda d, lists: 5e10)
    assert [part.name for part in costs.passes] == ["index of images", "index of texts"]
    assert costs.words["index"].startswith("ivfpq: 100,000,000 vectors of 512 values; in half precision they take")
    assert all(part.worker_bytes < 3 << 30 for part in costs.passes)   # of a run of any size
    assert index_costs(Index(), extent, machines, lambda d, lists: 5e10).passes == ()
    assert "set index.memory higher" in index_costs(Index(of="all", memory=1), extent, machines, lambda d, lists: 1.0).refused[0]
