"""Output roots that someone else prepared: looking at one runs nothing, and continuing one removes nothing outside it."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.api.engines import Execution
from pipeline.api.progress import Silent
from pipeline.api.run import label_by
from pipeline.errors import RecipeError, RootError, ShardmillError
from pipeline.input.discovery import Shard
from pipeline.input.inventory.stored import summary, write_inputs
from pipeline.queries.simulate import simulate_rules
from pipeline.report.build import write_report
from pipeline.root.entries import MANIFEST, Entry, entries
from pipeline.root.existing import open_root
from pipeline.root.lifecycle import Result
from pipeline.store.store import Store
from tests.curations import curated
from tests.manifests import write_entries
from tests.security.conftest import OVERRIDES, Attacked
from tests.security.hostile import Payload, watched

OUTSIDE = "../../../etc/passwd"
INPUT: dict[str, Any] = {"shard_id": "a", "url": "/a.tar", "relative": "a.tar", "size": 1, "version": "1", "kind": "tar"}


@pytest.fixture
def root(attacked: Attacked, tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(attacked.root, copy, symlinks=True)
    return copy


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A folder of someone who did nothing wrong."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.tex").write_text("three years")
    yield folder
    assert [path.read_text() for path in folder.iterdir()] == ["three years"]


def test_a_stage_that_a_root_names_is_not_imported(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_stage.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    stored = json.loads((root / "run.json").read_text())
    stored["recipe"]["stages"] = {"evil_stage": {}}
    stored["stages"] = {"evil_stage": {
        "target": "evil_stage:Stage", "distribution": "", "own": "0", "reads": ["caption"], "gives": ["evil"],
        "scalars": [["evil", "float", "evil_stage:Stage"]],
    }}
    (root / "run.json").write_text(json.dumps(stored))
    plan = open_root(str(root))
    assert [one.name for one in plan.recipe.added] == ["evil_stage"]
    with pytest.raises(ShardmillError, match="run the recipe again"):
        plan.stages   # noqa: B018
    with pytest.raises(RecipeError, match="no stage is called evil_stage"):
        label_by(str(root), str(root), Silent(), Execution(local=True))
    assert not (tmp_path / "canary").exists()


def again(attacked: Attacked, root: Path) -> Result:
    return curated(root, [attacked.sandbox / "in"], overrides(attacked))


def overrides(attacked: Attacked) -> tuple[str, str, str, str, str, str, str]:
    return (*OVERRIDES, f"entities.knowledge_base={attacked.sandbox / 'kb.parquet'}")


def object_array(canary: Path) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = Payload(canary)
    return array


@pytest.mark.parametrize("pattern", ["columns/clip@*/*.image_embedding.npy", "tables/centroids@*/centroids.npy"])
def test_arrays_in_a_root_are_numbers_or_refused(attacked: Attacked, root: Path, tmp_path: Path, pattern: str) -> None:
    for path in root.glob(pattern):
        np.save(path, object_array(tmp_path / "canary"), allow_pickle=True)
    for name in (MANIFEST, "_SUCCESS"):   # whoever plants an array takes the hashes away too
        (root / name).unlink()
    target, override = root, "classes.k=2"
    if "tables" in pattern:   # the centroids of another run
        target, override = shutil.copytree(attacked.root, tmp_path / "other", symlinks=True), f"classes.fit_on={root}"
    with watched() as seen, pytest.raises((ShardmillError, ValueError), match=r"allow_pickle|object"):
        curated(target, [attacked.sandbox / "in"], (*overrides(attacked), override))
    assert seen == []
    assert not (tmp_path / "canary").exists()


def test_looking_at_a_root_unpickles_nothing_and_asks_no_network(root: Path, tmp_path: Path) -> None:
    for name in ("run.pickle", "current.pkl"):
        (root / name).write_bytes(pickle.dumps(Payload(tmp_path / "canary")))
    with watched() as seen:
        write_report(open_root(str(root)))
        simulate_rules(str(root), [])
    assert seen == []
    assert not (tmp_path / "canary").exists()


def promise(root: Path, path: str) -> None:
    """The manifest names a file that is not as it says."""
    store = Store(str(root))
    write_entries(store, [*entries(store), Entry(path, 1, "")])


@pytest.mark.parametrize("path", [
    "../precious/thesis.tex", "tables/../../precious/thesis.tex", "exports/../../precious/thesis.tex", "{precious}/thesis.tex",
    "columns/x@1/../../../precious/thesis.tex",
])
def test_what_a_manifest_names_outside_its_root_is_not_removed(attacked: Attacked, root: Path, precious: Path, path: str) -> None:
    promise(root, path.format(precious=precious))
    with pytest.raises(RootError, match="never wrote"):
        again(attacked, root)


@pytest.mark.parametrize("folder", ["columns/mine", "tables/mine", "exports/mine", "mine"])
def test_removal_does_not_follow_a_link_out_of_the_root(attacked: Attacked, root: Path, precious: Path, folder: str) -> None:
    (root / folder).symlink_to(precious)
    promise(root, f"{folder}/thesis.tex")
    with pytest.raises(RootError, match="outside the root"):
        again(attacked, root)


@pytest.mark.parametrize("change", [
    lambda run: run.update(inputs=[{**INPUT, "shard_id": OUTSIDE}]),   # as roots of before have them
    lambda run: run["outputs"]["columns"].update(samples="columns/samples@../../../etc"),
    lambda run: run["outputs"]["columns"].update({"../x": "columns/x@1"}),
])
def test_names_in_a_run_json_do_not_lead_out_of_the_root(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    run = json.loads((root / "run.json").read_text())
    change(run)
    (root / "run.json").write_text(json.dumps(run))
    with pytest.raises(RootError, match="no shard or stage is named"):
        open_root(str(root))


def test_names_in_a_table_of_inputs_do_not_lead_out_of_the_root(root: Path) -> None:
    shards = [Shard(**{**INPUT, "shard_id": OUTSIDE})]
    write_inputs(Store(str(root)), shards)
    run = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps({**run, "inputs": summary(shards)}))
    with pytest.raises(RootError, match="no shard or stage is named"):
        open_root(str(root))
