"""Duplicates by meaning in a whole run: found after the clustering, rejected before the export."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.api import opened
from pipeline.audit.gc import collect
from pipeline.audit.verify import ledger_faults
from pipeline.passes.semantic import find
from pipeline.plan import Plan
from pipeline.process.ahead import threads
from pipeline.queries.simulate import explain_sample, simulate_rules
from pipeline.queries.status import status
from pipeline.report.build import semantic_note
from pipeline.report.pairs import find_pairs
from pipeline.root.existing import gathered, open_root, semantic_account
from pipeline.select.stored import stored_ledger
from pipeline.shuffle.exchange import Exchange
from tests.curations import curated
from tests.roots import counted, hashes

WISHES = ("semantic_duplicates.epsilon=0.1", "filters.semantic_duplicate.equals=false")
BALANCED = ("export.balance=300", "export.multiplier=2", "export.balance_order=closest")


@pytest.fixture(scope="module")
def finished(demo_root: Path, sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, then with a rule on semantic duplicates."""
    root = tmp_path_factory.mktemp("semantic") / "root"
    shutil.copytree(demo_root, root, symlinks=True)
    curated(root, [sample_folder], WISHES)
    return root


@pytest.fixture
def plan(finished: Path) -> Plan:
    return open_root(str(finished))


def rows(root: Path, folder: str | None) -> pa.Table:
    """Rows of all shards of one folder, in order."""
    assert folder is not None
    return pa.concat_tables(pq.read_table(path) for path in sorted((root / folder).glob("*.parquet")))


def test_the_rules_on_columns_their_classes_and_labels_stay_those_of_a_recipe_without_it(
    plan: Plan, finished: Path, demo_root: Path,
) -> None:
    before = open_root(str(demo_root))
    assert (plan.selected, plan.centroids, plan.labels, plan.classes) == (
        before.verdicts, before.centroids, before.labels, before.classes)
    assert before.selected == before.verdicts
    current = json.loads((finished / "current.json").read_text())
    assert (current["verdicts"], current["labels"]) == (plan.verdicts, plan.labels)
    assert plan.verdicts != plan.selected
    first, last = (rows(finished, folder).column("verdict").to_pylist() for folder in (plan.selected, plan.verdicts))
    assert Counter(zip(first, last, strict=True)) == {
        **{(verdict, verdict): count for verdict, count in Counter(last).items() if verdict != "rejected:semantic_duplicate"},
        ("kept", "rejected:semantic_duplicate"): last.count("rejected:semantic_duplicate")}


def test_every_sample_is_accounted_for_and_every_pair_is_in_one_class_with_one_that_stays(plan: Plan, finished: Path) -> None:
    found, columns, pairs = counted(finished), rows(finished, plan.semantic_columns), rows(finished, plan.semantic_pairs)
    assert found.faults == ()
    assert found.rejected["semantic_duplicate"] == pairs.num_rows > 5
    places = [(shard.shard_id, row) for shard in plan.shards
              for row in range(pq.read_metadata(finished / plan.verdicts / f"{shard.shard_id}.parquet").num_rows)]
    verdict = dict(zip(places, rows(finished, plan.verdicts).column("verdict").to_pylist(), strict=True))
    nearest = dict(zip(places, rows(finished, plan.labels).column("labels").to_pylist(), strict=True))
    goes = dict(zip(places, columns.column("semantic_duplicate").to_pylist(), strict=True))
    assert {place for place in places if goes[place] is None} == {place for place in places if nearest[place] is None}
    assert {place for place in places if goes[place]} == {(p["shard_id"], p["row"]) for p in pairs.to_pylist()}
    for pair in pairs.to_pylist():
        place, of = (pair["shard_id"], pair["row"]), (pair["of_shard_id"], pair["of_row"])
        assert (verdict[place], verdict[of]) == ("rejected:semantic_duplicate", "kept")
        assert nearest[place][0] == nearest[of][0]
        assert pair["cosine"] > 0.9
    listed = opened.open(str(finished)).duplicates()
    assert listed.filter(pc.equal(listed.column("kind"), "semantic")).equals(pairs)
    account = semantic_account(plan)
    assert account is not None
    compared = columns.num_rows - columns.column("semantic_duplicate").null_count
    assert (account["rows"], account["removed"], account["chained"], account["classes"]) == (compared, pairs.num_rows, 0, 32)


def test_what_is_said_of_it(plan: Plan, finished: Path) -> None:
    removed = [(pair["shard_id"], pair["row"]) for pair in rows(finished, plan.semantic_pairs).to_pylist()]
    shown = find_pairs(plan, removed[:2])
    assert {"near", "semantic", "sha256"} <= {pair["kind"] for pair in shown.rows}
    assert set(shown.measures) == set(removed[:2])
    assert all("within its class" in words for words in shown.measures.values())
    account = semantic_account(plan)
    assert account is not None
    assert f"{account['removed']} have an embedding whose cosine with a preferred one of their class is above 0.9" in semantic_note(
        account, plan.recipe.semantic_duplicates)
    passes = status(str(finished)).passes
    assert all(passes[name].done == passes[name].of for name in ("rules on columns", "semantic duplicates", "select"))
    (why,) = explain_sample(str(finished), "{}:{}".format(*removed[0]))
    assert (why.rules[-1].rule, why.rules[-1].value, why.rules[-1].passes) == ("semantic_duplicate", True, False)
    other = next(place for place, verdict in enumerate(rows(finished, plan.verdicts).column("verdict").to_pylist())
                 if verdict == "rejected:clip_similarity")
    uid = rows(finished, plan.verdicts).column("uid")[other].as_py()
    assert "semantic_duplicate" not in [check.rule for check in explain_sample(str(finished), uid)[0].rules]


def test_simulate_knows_what_was_compared(finished: Path) -> None:
    without = simulate_rules(str(finished), ["filters.semantic_duplicate=null"])
    assert without.new.kept - without.old.kept == without.old.rejected["semantic_duplicate"] == counted(
        finished).rejected["semantic_duplicate"]
    assert without.uncompared == 0
    wider = simulate_rules(str(finished), ["filters.clip_similarity=null"])
    assert wider.new.rejected["semantic_duplicate"] == wider.old.rejected["semantic_duplicate"]
    assert wider.uncompared == wider.new.kept - wider.old.kept == wider.old.rejected["clip_similarity"]


def test_partitions_and_a_run_that_was_stopped_change_no_byte(
    finished: Path, demo_root: Path, sample_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    promised, root = hashes(finished), tmp_path / "root"
    shutil.copytree(finished, root, symlinks=True)
    plan = open_root(str(root))
    for folder in [*root.glob("*/semantic@*"), root / plan.verdicts, root / plan.export]:
        shutil.rmtree(folder)
    packed, account = find.packed, find.account
    monkeypatch.setattr(find, "packed", lambda sizes, most: packed(sizes, 40))

    def stopped(plan: Plan, exchange: Exchange, *_: object) -> None:
        assert exchange.partitions > 10
        raise KeyboardInterrupt

    monkeypatch.setattr(find, "account", stopped)
    with pytest.raises(KeyboardInterrupt):
        curated(root, [sample_folder], WISHES)
    next(root.glob("columns/semantic@*/*.parquet")).unlink()
    monkeypatch.setattr(find, "account", account)
    curated(root, [sample_folder], WISHES)
    assert hashes(root) == promised
    assert not list((root / ".partial").iterdir())
    assert [unused.folder for unused in collect(str(root), dry_run=True).folders] == [open_root(str(demo_root)).export]


def test_a_balanced_export_takes_none_of_them(
    finished: Path, sample_folder: Path, tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    shutil.copytree(finished, root, symlinks=True)
    curated(root, [sample_folder], (*WISHES, *BALANCED, "semantic_duplicates.greedy=false", "semantic_duplicates.keep=random"))
    assert counted(root).faults == ()
    other = open_root(str(root))
    taken = rows(root, other.balance).column("copies").to_pylist()
    verdicts = rows(root, other.verdicts).column("verdict").to_pylist()
    assert sum(taken) == 300
    assert {verdict for verdict, times in zip(verdicts, taken, strict=True) if times} == {"kept"}
    first = sorted((root / other.selected).glob("*.parquet"))[0]
    table = pq.read_table(first)
    changed = ["kept" if verdict == "rejected:tiny" else verdict for verdict in table.column("verdict").to_pylist()]
    pq.write_table(table.set_column(1, "verdict", pa.array(changed)).replace_schema_metadata(table.schema.metadata), first)
    with threads(2, "tests") as pool:
        (fault,) = ledger_faults(other, gathered(other), stored_ledger(other.root, other.verdicts), pool)
    assert fault == f"shard {first.stem}: its verdicts are not what the rules on classes make of those in {other.selected}"
