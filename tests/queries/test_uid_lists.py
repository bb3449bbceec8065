"""A run whose recipe denies uids of a file: its verdicts, what explains and simulates them, and the question of docs/sql.md that
needs the samples' own metadata."""

import shutil
from pathlib import Path

import pytest

from pipeline.api import shardmill
from pipeline.api.opened import Root
from pipeline.errors import InputError
from pipeline.queries.simulate import simulate_rules
from tests.curations import curated
from tests.queries.sql.test_document import QUESTIONS


@pytest.fixture(scope="module")
def denied(demo_root: Path) -> list[str]:
    """Uids of three kept samples."""
    return list(shardmill.open(demo_root).samples(["uid"], where={"verdict": "kept"}).head(3).column("uid").to_pylist())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, demo_root: Path, denied: list[str]) -> Root:
    """The demo's root, run again: nothing of it is embedded anew."""
    folder = tmp_path_factory.mktemp("denied")
    shutil.copytree(demo_root, folder / "root", symlinks=True)
    (folder / "deny.txt").write_text("\n".join([*denied, "0" * 32]))
    curated(folder / "root", [], (
        f"filters.uid.none_of_file={folder}/deny.txt", "stages.metadata.texts=[url]", "classes.k=null", "model.compile=false"))
    return shardmill.open(folder / "root")


def test_samples_of_the_list_are_rejected_by_their_rule_and_no_others(root: Root, denied: list[str]) -> None:
    rejected = root.samples(["uid"], where={"verdict": "rejected:uid"}).to_table().column("uid").to_pylist()
    assert sorted(rejected) == sorted(denied)
    assert root.ledger.rejected["uid"] == 3
    rule = next(rule for rule in root.explain(denied[0])[0].rules if rule.rule == "uid")
    assert (rule.column, rule.value, rule.passes) == ("uid", denied[0], False)
    assert rule.bound == f"none of the uids in {Path(root.url).parent}/deny.txt"


def test_another_list_is_simulated(root: Root, denied: list[str]) -> None:
    folder = Path(root.url).parent
    (folder / "allow.txt").write_text("\n".join(denied[:2]))
    told = simulate_rules(root.url, ["filters.uid=null", f"filters.allowed={{column: uid, any_of_file: {folder}/allow.txt}}"])
    assert told.new.kept == 2
    assert told.new.rejected["allowed"] == told.old.kept + told.old.rejected["uid"] - 2


def test_a_condition_from_elsewhere_names_no_file(root: Root) -> None:
    with pytest.raises(InputError, match=r"uid\.any_of_file"):
        root.samples(["uid"], where={"uid": {"any_of_file": f"{Path(root.url).parent}/deny.txt"}})


def test_which_domains_lose_most(root: Root) -> None:
    (question,) = (query for query in QUESTIONS if "json.url" in query)
    rows = root.sql(question).to_pylist()
    assert rows[0]["domain"].endswith(".example.invalid")
    assert {row["why"] for row in rows} == {"rejected:clip_similarity"}
    assert sum(row["n"] for row in rows) > root.ledger.read / 2
