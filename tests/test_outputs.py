"""What another recipe makes anew, and what it leaves: the folder of an output changes with all that its content follows from, and
with nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from pipeline.input.discovery import Shard
from pipeline.outputs import OUTPUTS
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.store.store import Store

SHARD = Shard("a", "/in/a.tar", "a.tar", 10, "1", "tar")
STAGE = "tests.recipe.test_further_stages:Plain"
AFTER_LABELS = {"export"}
AFTER_CENTROIDS = {"labels", "tallies", "classes", *AFTER_LABELS}
AFTER_VERDICTS = {"centroids", *AFTER_CENTROIDS}


@cache
def folders(*overrides: str, published: str = "", version: str = "1") -> Mapping[str, str | None]:
    """The folders of the sample recipe's outputs, and of the columns of all stages. `published`: the centroids of another root."""
    plan = Plan.of(
        Store("/nowhere"), load("sample", overrides, [STAGE]), [replace(SHARD, version=version)],
        Settled("cpu-avx2-fp32-eager", ner=False, others={"fit_on": published} if published else {}))
    return {**plan.folders, **plan.columns.folders}


def changed(first: Mapping[str, str | None], second: Mapping[str, str | None]) -> set[str]:
    assert first.keys() == second.keys()
    return {name for name in first if first[name] != second[name]}


@pytest.mark.parametrize(("override", "anew"), [
    ("export.shard_size=7", {"export"}),
    ("export.orient=upright", {"export"}),
    ("entities.min_count=7", {"export"}),
    ("classes.labels=3", AFTER_CENTROIDS),
    ("classes.k=5", AFTER_VERDICTS),
    ("filters.clip_similarity.min=0.4", {"verdicts", *AFTER_VERDICTS}),
    ("filters.pair_duplicate.equals=false", {"run_columns", "verdicts", *AFTER_VERDICTS}),
    ("stages.plain.limit=4", {"plain", "verdicts", *AFTER_VERDICTS}),
    ("entities.false_positive_rate=0.2", {"calibration", "entities", "counts", "verdicts", *AFTER_VERDICTS}),
    ("caption.keys=[alt]", {*folders()} - {"balance"}),
    ("duplicates.radius=3", {"duplicates", "run_columns", "verdicts", *AFTER_VERDICTS}),
    ("duplicates.find=near", set()),
])
def test_another_setting_makes_anew_what_follows_from_it_and_nothing_else(override: str, anew: set[str]) -> None:
    assert changed(folders(), folders(override)) == anew


def test_a_rule_on_semantic_duplicates_judges_anew_and_leaves_the_classes_as_they_were() -> None:
    sought = ("semantic_duplicates.epsilon=0.05",)
    ruled = (*sought, "filters.semantic_duplicate.equals=false")
    plain, found, last = folders(), folders(*sought), folders(*ruled)
    assert {name: found[name] for name in plain} == plain
    assert found.keys() - plain.keys() == {"semantic_columns", "semantic_pairs"}
    assert last.keys() - found.keys() == {"selected"}
    assert last["selected"] == plain["verdicts"]
    assert {name for name in found if last[name] != found[name]} == {"verdicts", "export"}
    wider = folders("semantic_duplicates.epsilon=0.1", *ruled[1:])
    assert changed(last, wider) == {"semantic_columns", "semantic_pairs", "verdicts", "export"}
    drawn = folders(*ruled, "semantic_duplicates.keep=random", "classes.fit_on=all", "export.balance=9")
    assert changed(drawn, folders(*ruled, "classes.fit_on=all", "export.balance=9")) == {*changed(last, wider), "balance"}


def test_another_balance_is_another_table_of_copies_and_another_export() -> None:
    assert folders()["balance"] is None
    nine, eight = folders("export.balance=9"), folders("export.balance=8")
    assert changed(folders(), nine) == changed(nine, eight) == {"balance", "export"}


def test_classes_of_another_root_follow_from_what_it_had_published() -> None:
    first, second = (folders("classes.fit_on=/other", published=published) for published in ("tables/x", "tables/y"))
    assert changed(first, second) == AFTER_VERDICTS


def test_a_changed_input_leaves_the_columns_of_a_shard_and_no_table() -> None:
    tables = {output.name for output in OUTPUTS if not output.seldom} - {"balance"}
    assert changed(folders(), folders(version="2")) == tables | {"entities"}   # by its calibration


def test_without_classes_there_is_no_folder_of_them() -> None:
    without = folders("classes.k=null")
    assert {name for name, folder in without.items() if folder is None} == {"centroids", "labels", "tallies", "classes", "balance"}
