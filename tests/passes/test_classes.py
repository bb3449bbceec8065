"""Classes of whole curations: levels, ids that stay, classes of another root, advice, comparison, what is refused."""

import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from pipeline.api.engines import Execution
from pipeline.api.progress import Silent
from pipeline.api.run import Request, label_by, run_curation
from pipeline.audit.gc import collect
from pipeline.audit.verify import verify
from pipeline.cli.printing import as_json
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.errors import InputError, RecipeError, RootError
from pipeline.passes.classes import refuse_what_cannot_fit
from pipeline.queries.class_number import suggest_class_numbers
from pipeline.queries.classes import class_details, class_rows, compare_roots
from pipeline.queries.simulate import explain_sample
from pipeline.reduce.classes import taxonomy
from pipeline.root.existing import open_root
from pipeline.root.log import EventLog
from pipeline.store.store import Store
from tests.answers import checked
from tests.archives import member_bytes
from tests.curations import curated
from tests.roots import hashes

WISHES = ("classes.k=12", "classes.levels=[5, 2]", "classes.labels=4", "classes.reference_column=json.creator")


@pytest.fixture(scope="module")
def shards(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of the first two shards of the sample, and of the first three."""
    folders = []
    for count in (2, 3):
        folder = tmp_path_factory.mktemp("inputs") / "shards"
        folder.mkdir()
        for number in range(count):
            shutil.copy(sample_folder / f"{number:05d}.tar", folder)
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def finished(shards: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "root"
    curated(root, [shards[0]], WISHES)
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def table(root: Path, pattern: str) -> pa.Table:
    (path,) = root.glob(pattern)
    return pq.read_table(path)


def labelled(root: Path) -> dict[str, dict[str, Any]]:
    """uid -> labels, of the current labels."""
    folder = root / json.loads((root / "current.json").read_text())["labels"]
    rows = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["uid"]: row for row in rows if row["labels"]}


def test_every_class_knows_its_parent_and_coarse_labels_are_the_parents_of_the_labels(finished: Path) -> None:
    classes = table(finished, "tables/classes@*/classes.parquet").to_pylist()
    assert Counter(row["level"] for row in classes) == {0: 12, 1: 5, 2: 2}
    parent = {(row["level"], row["class_id"]): row["parent"] for row in classes}
    assert all((above is None) == (level == 2) for (level, _), above in parent.items())
    size = {(row["level"], row["class_id"]): row["size"] for row in classes}
    for (level, class_id), count in size.items():
        below = [n for key, n in size.items() if key[0] == level - 1 and parent[key] == class_id]
        assert level == 0 or sum(below) == count > 0
    for row in labelled(finished).values():
        parents = [parent[0, label] for label in row["labels"]]
        assert set(row["label_levels"][0]) == set(parents)
        assert set(row["label_levels"][1]) == {parent[1, one] for one in parents}
        assert len(row["labels"]) == 4


def test_the_export_carries_labels_of_every_level_and_their_names(finished: Path) -> None:
    names = {row.class_id: row.name for row in class_rows(str(finished))}
    stored = labelled(finished)
    seen = 0
    for path in sorted((finished / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in (one for one in tar if one.name.endswith(".json")):
                found = json.loads(member_bytes(tar, member))
                assert found["label_levels"] == stored[found["uid"]]["label_levels"]
                assert found["label_names"] == [names[label] for label in found["labels"]]
                seen += 1
    assert seen == len(stored) > 90


def test_quality_agrees_with_what_the_labels_and_the_metadata_say(finished: Path) -> None:
    quality = json.loads(next(finished.glob("tables/classes@*/quality.json")).read_text())
    rows = labelled(finished)
    assert quality["rows"] == len(rows)
    sizes = Counter(row["labels"][0] for row in rows.values())
    assert quality["sizes"]["max"] == max(sizes.values())
    assert {row.class_id: row.size for row in class_rows(str(finished))} == dict(sizes)
    pairs = []
    for path in sorted((finished / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in (one for one in tar if one.name.endswith(".json")):
                found = json.loads(member_bytes(tar, member))
                pairs.append((str(found["creator"]), found["labels"][0]))
    expected = adjusted_mutual_info_score(*zip(*[p for p in pairs if p[0] != "None"], strict=True))
    assert quality["agreement"]["ami"] == pytest.approx(expected, abs=1e-9)
    assert abs(quality["agreement"]["ami_by_chance"]) < 0.05 < quality["agreement"]["purity_by_chance"]
    assert quality["weights"]["nll"] <= quality["weights"]["nll_default"]


def test_a_class_is_shown_with_its_family_and_members(finished: Path) -> None:
    largest = class_rows(str(finished))[0]
    found = class_details(str(finished), largest.class_id)
    assert len(found.exemplars) == min(16, largest.size)
    assert found.exemplars[0].similarity >= found.outliers[0].similarity
    assert found.parent is not None
    above = class_details(str(finished), found.parent, level=1)
    assert above.name == found.parent_name
    assert largest.class_id in [child.class_id for child in above.children]
    with pytest.raises(InputError, match="no class 99 of level 0"):
        class_details(str(finished), 99)
    with pytest.raises(InputError, match=r"no classes of level 3.*classes.levels=\[5, 2\]"):
        class_rows(str(finished), 3)


def test_ids_stay_when_data_are_added_and_the_same_command_again_changes_nothing(root: Path, shards: list[Path]) -> None:
    before = labelled(root)
    old = {row.class_id for row in class_rows(str(root))}
    keep = (*WISHES[:-1], "classes.k=14", "classes.ids_from=self")
    curated(root, [shards[1]], keep)
    after = labelled(root)
    both = before.keys() & after.keys()
    same = np.mean([before[uid]["labels"][0] == after[uid]["labels"][0] for uid in both])
    assert len(both) > 80
    assert same >= 0.75   # a fresh fit of more data keeps about half
    now = {row.class_id for row in class_rows(str(root))}
    ids = table(root, f"{open_root(str(root)).centroids}/ids.parquet").to_pylist()
    level0 = [row for row in ids if row["level"] == 0]
    assert {row["old_id"] for row in level0 if row["status"] != "new"} == old
    assert {row["class_id"] for row in level0 if row["status"] != "retired"} == now
    assert min(now - old, default=12) >= 12      # a number is never given twice
    files = hashes(root)
    assert curated(root, [shards[1]], keep).finished_before
    assert hashes(root) == files
    assert verify(str(root)).faults == ()
    removed = {one.folder.partition("@")[0] for one in collect(str(root)).folders}
    assert {"tables/centroids", "tables/classes", "tallies", "labels"} <= removed
    assert verify(str(root)).faults == ()


def test_the_classes_of_another_root_come_with_their_ids_and_names(
    root: Path, finished: Path, shards: list[Path], tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    result = curated(other, [shards[1]], ("classes.k=null", f"classes.fit_on={finished}"))
    theirs, ours = open_root(str(finished)), result.plan
    assert theirs.centroids is not None
    assert ours.centroids is not None
    for name in ("centroids.npy", "hierarchy.parquet", "fit.json"):
        assert (other / ours.centroids / name).read_bytes() == (finished / theirs.centroids / name).read_bytes()
    names = {row.class_id: row.name for row in class_rows(str(finished))}
    assert {row.class_id: row.name for row in class_rows(str(other))} == names
    one, more = labelled(finished), labelled(other)
    both = one.keys() & more.keys()
    assert len(both) > 80
    assert all(one[uid]["labels"] == more[uid]["labels"][:4] for uid in both)
    found = compare_roots(str(finished), str(other))
    assert (found.matched, found.common_samples, found.ari) == (12, len(both), 1.0)
    # What the other root publishes later does not change a run that is asked for again.
    again = curated(other, [shards[1]], ("classes.k=null", f"classes.fit_on={finished}"))
    assert again.finished_before


def test_a_root_that_was_labelled_keeps_to_these_classes_until_an_override_says_otherwise(
    root: Path, finished: Path, shards: list[Path],
) -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    def again(*overrides: str) -> tuple[bool, str]:
        request = Request("sample", [str(shards[0])], [*WISHES, *overrides])
        result, _ = run_curation(request, str(root), Noting(), Execution(local=True))
        return result.finished_before, open_root(str(root)).recipe.classes.fit_on

    before = (root / "run.json").read_bytes()
    assert again() == (True, "kept")
    assert notes == []
    label_by(str(root), str(finished), Silent(), Execution(local=True))
    record = (root / "run.json").read_bytes()
    assert again() == (True, str(finished))
    assert f"classes: those of {finished}, by which this root was labelled; --set classes.fit_on=kept goes back" in notes
    assert (root / "run.json").read_bytes() == record
    assert verify(str(root)).faults == ()

    names = {row.class_id: row.name for row in class_rows(str(root))}
    matched = compare_roots(str(root), str(finished)).classes
    assert {row.class_id: row.name for row in matched} == {row.other_id: row.other_name for row in matched} == names
    uid = next(iter(labelled(root)))
    explained = explain_sample(str(root), uid)[0].labels
    assert explained
    assert [label.name for label in explained] == [names[label.class_id] for label in explained]

    assert again("classes.fit_on=kept") == (False, "kept")
    assert (root / "run.json").read_bytes() == before
    assert again() == (True, "kept")


def test_what_names_no_classes_is_refused_by_name(finished: Path, shards: list[Path], tmp_path: Path) -> None:
    none = tmp_path / "none"
    with pytest.raises(RecipeError, match=r"classes\.fit_on: .*none is not a finished run with classes"):
        curated(tmp_path / "root", [shards[0]], (f"classes.fit_on={none}",))
    with pytest.raises(RecipeError, match=r"classes\.ids_from: .*none is not a finished run"):
        curated(tmp_path / "root", [shards[0]], (f"classes.ids_from={none}",))
    with pytest.raises(RootError, match="nowhere is not an output root"):
        label_by(str(tmp_path / "nowhere"), str(finished), Silent())


def test_advice_looks_at_a_range_and_at_known_classes(finished: Path) -> None:
    found = suggest_class_numbers(str(finished), "2,4,5")
    assert [one.k for one in found.advice.judged] == [2, 4, 5]
    assert found.estimate is not None
    assert found.estimate.k >= found.estimate.known > 1
    assert checked("classes_suggest", as_json(found))["estimate"]
    with pytest.raises(InputError, match="no list of numbers"):
        suggest_class_numbers(str(finished), "many")


class Small(LocalExecutor):
    """A machine of 100 MB."""

    def machines(self) -> tuple[int, int]:
        return 1, 100_000_000


def test_what_cannot_fit_is_refused_before_anything_is_read_with_what_would(
    shards: list[Path], tmp_path: Path, finished: Path,
) -> None:
    plan = open_root(str(finished))
    huge = replace(plan, recipe=plan.recipe.model_copy(update={"classes": plan.recipe.classes.model_copy(update={"k": 1_000_000})}))
    store = Store(str(tmp_path))
    driver = Driver(store, Small(), Silent(), EventLog(store))
    with pytest.raises(InputError, match=r"1,000,000 classes of 256 values need .* on a node of 100\.0 MB"):
        refuse_what_cannot_fit(huge, driver)
    roomy = Driver(store, LocalExecutor(), Silent(), EventLog(store))
    refuse_what_cannot_fit(plan, roomy)


def test_the_fit_says_what_it_did(finished: Path) -> None:
    facts = Store(str(finished)).read_json(f"{open_root(str(finished)).centroids}/{taxonomy.FIT}")
    assert facts["k"] == 12
    assert facts["why"].startswith("full: ")
    assert facts["objective"] == sorted(facts["objective"])
    assert not list(finished.glob("tables/*/fitting"))


def test_other_weights_and_a_single_label_are_told_of_and_move_no_sample(root: Path, shards: list[Path]) -> None:
    before = {row.class_id: row.size for row in class_rows(str(root))}
    curated(root, [shards[0]], (*WISHES, "classes.temperature=0.2", "classes.labels=1"))
    plan = open_root(str(root))
    quality = plan.root.read_json(f"{plan.classes}/quality.json")
    assert quality["weights"]["temperature"] == 0.2
    assert {row.class_id: row.size for row in class_rows(str(root))} == before
    assert {len(row["labels"]) for row in labelled(root).values()} == {1}
    assert quality["confusable"]["share"] is not None
