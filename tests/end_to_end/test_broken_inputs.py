"""A folder with one good shard and every broken one, through a whole curation: each has its outcome, and harms no other."""

import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.audit.verify import verify
from pipeline.cli.printing import as_json
from pipeline.columns import Columns
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import InputError
from pipeline.input.discovery import Shard, discover
from pipeline.input.reader import read
from pipeline.input.samples import READING
from pipeline.input.tar import write_tar
from pipeline.passes.annotate import Annotate
from pipeline.queries.status import status
from pipeline.report.build import write_report
from pipeline.root.lifecycle import Result
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_facts
from pipeline.work import Item, Outcome, Work
from tests.answers import checked
from tests.broken import CASES, Broken, tar, whole
from tests.curations import curated
from tests.damage import clean_pairs

GOOD = 12
OPTIONS = ("classes.k=4",)


def write_good(folder: Path, sample: Path) -> Path:
    folder.mkdir()
    some = list(clean_pairs(sample).items())[:GOOD]
    with (folder / "good.tar").open("wb") as file:
        write_tar(file, ((key, "jpg", image, caption, b"{}") for key, (image, caption) in some))
    return folder


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("around")


@pytest.fixture(scope="module")
def result(around: Path, sample_folder: Path) -> Result:
    inputs = write_good(around / "in", sample_folder)
    for case in CASES:
        (inputs / case.file).write_bytes(case.content())
        if case.side is not None:
            (inputs / case.side[0]).write_bytes(case.side[1])
    found = curated(around / "root", [inputs], OPTIONS)
    write_report(found.plan)
    return found


def shard_of(result: Result, file: str) -> Shard:
    return next(shard for shard in result.plan.shards if shard.relative == file)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_has_its_named_outcome(result: Result, case: Broken) -> None:
    shard, folder = shard_of(result, case.file), result.plan.columns.folders["samples"]
    rows = read_columns(result.plan.root, folder, shard.shard_id).to_pylist()
    facts = read_facts(result.plan.root, f"{folder}/{shard.shard_id}.parquet")
    assert [(row["key"], row["samples_error"]) for row in rows] == case.rows
    assert [gap["kind"] for gap in facts["gaps"]] == list(case.gaps)
    assert facts["ignored"] == case.ignored
    assert sum(result.ledger.shards[shard.shard_id].values()) == len(case.rows)


def test_the_good_shard_s_columns_are_those_of_a_run_without_the_others(result: Result, around: Path) -> None:
    (around / "alone in").mkdir()
    shutil.copy2(around / "in" / "good.tar", around / "alone in")   # with its time, by which it is known
    shards = discover([str(around / "alone in")])
    there, alone = result.plan.columns, Columns(Store(str(around / "alone")), result.plan.columns.folders)
    work = Annotate(alone, result.plan.stages, READING)
    list(LocalExecutor().run(work, work.of(shards)))
    folders = [alone.folders[stage] for stage in result.plan.annotated]
    names = [f"{folder}/{name}" for folder in folders for name in alone.store.names(folder)]
    assert len(names) == 9
    for name in names:
        assert alone.store.read(name) == there.store.read(name), name


def test_the_account_balances_and_verify_finds_no_fault(result: Result) -> None:
    ledger = result.ledger
    assert ledger.read == GOOD + sum(len(case.rows) for case in CASES)
    assert ledger.read == ledger.kept + sum(ledger.rejected.values()) + sum(ledger.failed.values())
    faults = Counter(error for case in CASES for _, error in case.rows if error is not None)
    assert {name: ledger.failed[name] for name in faults} == faults
    assert verify(result.plan.root.url).faults == ()


def test_status_and_report_name_every_gap(result: Result, around: Path) -> None:
    wanted = Counter((shard_of(result, case.file).shard_id, kind) for case in CASES for kind in case.gaps)
    found = status(result.plan.root.url)
    assert Counter((gap.shard_id, gap.kind) for gap in found.gaps) == wanted
    assert checked("status", as_json(found))["gaps"]
    assert found.ignored == sum((Counter(case.ignored) for case in CASES), Counter())
    page = (around / "root" / "report.html").read_text()
    assert all(case.file in page for case in CASES if case.gaps)


def test_names_in_archives_reach_no_path(result: Result, around: Path) -> None:
    assert sorted(path.name for path in around.iterdir() if "alone" not in path.name) == ["in", "root"]
    for path in (around / "root" / "shards").glob("*.tar"):
        with tarfile.open(path) as archive:
            assert all(re.fullmatch(r"\d{10}\.(jpg|json|txt)", name) for name in archive.getnames())


class Forgiving(LocalExecutor):
    """Gives an item up at its first error, as the executor on Ray does at its third."""

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        with work.open() as run:
            for item in items:
                try:
                    yield Outcome(item, run(item))
                except InputError as error:
                    yield Outcome(item, error=str(error))


def test_a_shard_that_goes_or_changes_after_it_was_listed_is_given_up_by_name(tmp_path: Path, sample_folder: Path) -> None:
    inputs = write_good(tmp_path / "in", sample_folder)
    for name in ("changed.tar", "gone.tar"):
        (inputs / name).write_bytes(whole())
    shards = discover([str(inputs)])
    (inputs / "gone.tar").unlink()
    (inputs / "changed.tar").write_bytes(whole()[:9_000])
    columns = Columns(Store(str(tmp_path / "root")), {"samples": "columns/samples@1"})
    work = Annotate(columns, (), READING)
    outcomes = list(Forgiving().run(work, work.of(shards)))
    errors = {outcome.item.shard.relative: outcome.error for outcome in outcomes}
    assert errors["good.tar"] is None
    assert re.search(r"gone\.tar is no longer there", str(errors["gone.tar"]))
    assert re.search(r"changed\.tar changed after it was listed", str(errors["changed.tar"]))
    assert [name.split("-")[0] for name in columns.store.names("columns/samples@1")] == ["good"]


@pytest.mark.parametrize("ending", ["tar.bz2", "tar.xz", "tar.lz4"])
def test_an_unsupported_compression_that_is_named_directly_is_an_error(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(b"")
    with pytest.raises(InputError, match=r"not supported; supported are \.tar, \.tar\.gz"):
        discover([str(tmp_path / f"a.{ending}")])


def test_an_archive_of_nothing_but_damage_has_a_bounded_account(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes((tar(("a.jpg", b""))[:512] + b"\xff" * 1024) * 3_000)
    reader = read(*discover([str(tmp_path / "a.tar")]))
    assert sum(batch.num_rows for batch in reader) > 0
    assert len(reader.gaps) == 1_001
    assert reader.gaps[-1].detail.endswith(" further places")
