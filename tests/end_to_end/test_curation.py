"""Whole curations of small, empty, damaged and changed inputs. One process, all stages, the bundled model."""

import itertools
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.api import shardmill
from pipeline.api.engines import wish
from pipeline.api.progress import Silent
from pipeline.api.run import shards_of
from pipeline.audit.verify import verify
from pipeline.curation import curate
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver, unguarded
from pipeline.errors import ConservationError, RootError
from pipeline.export import shards as export
from pipeline.export.plan import OutputShard, plan_export
from pipeline.export.shards import Export
from pipeline.input.tar import write_tar
from pipeline.models.machine import local_route
from pipeline.plan import Plan
from pipeline.queries.status import status
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.root.lifecycle import Result, claim, succeed
from pipeline.root.lock import Pace, held
from pipeline.root.log import EventLog
from pipeline.select.stored import kept_rows
from pipeline.store.store import Store
from pipeline.timing.progress import Scope
from tests.curations import curated
from tests.damage import clean_pairs
from tests.root.test_lock import QUICK
from tests.roots import counted, hashes


@pytest.fixture(scope="module")
def pairs(sample_folder: Path) -> list[tuple[str, tuple[bytes, bytes]]]:
    return list(clean_pairs(sample_folder).items())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, tuple[bytes, bytes]]]) -> Path:
    """Two shards of 12 clean pairs each."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(2):
        write(folder / f"{number}.tar", pairs[12 * number : 12 * number + 12])
    return folder


def write(path: Path, some: Iterable[tuple[str, tuple[bytes, bytes]]]) -> None:
    with path.open("wb") as file:
        write_tar(file, ((key, "jpg", image, caption, b'{"n": 1}') for key, (image, caption) in some))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Path:
    root = tmp_path_factory.mktemp("finished") / "root"
    curated(root, [inputs], ("classes.k=4", "export.shard_size=8"))
    assert verify(str(root)).faults == ()
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def again(root: Path, inputs: Path) -> Result:
    return curated(root, [inputs], ("classes.k=4", "export.shard_size=8"))


def promised(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()
            and path.relative_to(root).parts[0] not in ("log", "shards")]


def test_verify_names_every_file_in_which_one_byte_changed(root: Path) -> None:
    """Columns, vectors, tables, verdicts, labels, tars, sidecars, side files, markers: each promised byte counts."""
    unnoticed = []
    files = promised(root)
    assert len(files) > 40
    for path in files:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x01]) + content[middle + 1 :])
        try:
            faults = verify(str(root)).faults
        except RootError as error:
            faults = (str(error),)
        if not any(path.name in fault or "run.json" in fault for fault in faults):
            unnoticed.append(path.relative_to(root).as_posix())
        path.write_bytes(content)
    assert unnoticed == []
    assert verify(str(root)).faults == ()


def test_a_deleted_file_is_found_by_verify_and_made_again_by_the_same_command(root: Path, inputs: Path, finished: Path) -> None:
    for path in promised(root):
        if path.name in ("run.json", "inputs.parquet", "_SUCCESS", "manifest.parquet"):
            continue
        path.unlink()
        faults = verify(str(root)).faults
        assert any(path.name in fault for fault in faults), path
    again(root, inputs)
    assert verify(str(root)).faults == ()
    assert hashes(root) == hashes(finished)


@pytest.mark.parametrize(
    "pattern", ["columns/clip@*/*.npy", "exports/*/000001.tar", "tables/centroids@*/centroids.npy", "labels@*/*.parquet",
     "tallies@*/*.parquet"]
)
def test_one_deleted_file_is_made_again_alone(root: Path, inputs: Path, finished: Path, pattern: str) -> None:
    victim = sorted(root.glob(pattern))[0]
    victim.unlink()
    again(root, inputs)
    assert hashes(root) == hashes(finished)


def test_members_that_belong_to_no_sample_are_counted_not_forgotten(
    tmp_path: Path, pairs: list[tuple[str, tuple[bytes, bytes]]],
) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "dots.tar", "w") as archive:
        for name, (_, (image, caption)) in zip(("ok", "IMG.2020.01", ".hidden"), pairs, strict=False):
            for end, content in ((".jpg", image), (".txt", caption)):
                path = tmp_path / "member"
                path.write_bytes(content)
                archive.add(path, name + end)
    result = curated(tmp_path / "out", [tmp_path / "in"], ("classes.k=1",))
    assert result.ledger.read == 1
    assert sum(result.ledger.ignored.values()) == 4
    assert status(str(tmp_path / "out")).ignored == counted(tmp_path / "out").ignored == dict(result.ledger.ignored)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_run_of_hardly_any_samples_finishes(tmp_path: Path, pairs: list[tuple[str, tuple[bytes, bytes]]], count: int) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "few.tar", pairs[:count])
    result = curated(tmp_path / "out", [tmp_path / "in"])
    assert result.ledger.read == count
    assert verify(str(tmp_path / "out")).faults == ()


def test_a_run_that_keeps_nothing_publishes_an_empty_export(tmp_path: Path, inputs: Path) -> None:
    result = curated(tmp_path / "out", [inputs], ("filters.tiny.above=100000",))
    assert (result.ledger.read, result.ledger.kept) == (24, 0)
    assert json.loads((tmp_path / "out" / "shards" / "sizes.json").read_text()) == {}
    assert verify(str(tmp_path / "out")).faults == ()


def test_something_that_is_no_shard_is_a_named_gap_not_an_error(tmp_path: Path, inputs: Path) -> None:
    shutil.copytree(inputs, tmp_path / "in")
    (tmp_path / "in" / "page.tar").write_bytes(b"<html>not found</html>" * 100)
    result = curated(tmp_path / "out", [tmp_path / "in"])
    assert result.ledger.read == 24
    assert [(gap["kind"], gap["shard_id"].split("-")[0]) for gap in result.ledger.gaps] == [("not_an_archive", "page")]


def test_a_changed_input_is_read_again_and_the_others_are_not(
    tmp_path: Path, inputs: Path, pairs: list[tuple[str, tuple[bytes, bytes]]],
) -> None:
    shutil.copytree(inputs, tmp_path / "in")
    curated(tmp_path / "out", [tmp_path / "in"])
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "columns").glob("clip@*/*.parquet")}
    write(tmp_path / "in" / "1.tar", pairs[40:45])
    assert any("1.tar has changed" in fault for fault in verify(str(tmp_path / "out")).faults)
    result = curated(tmp_path / "out", [tmp_path / "in"])
    assert result.ledger.read == 17
    assert verify(str(tmp_path / "out")).faults == ()
    rewritten = [path.name for path, before in stored.items() if path.stat().st_mtime_ns != before]
    assert [name.split("-")[0] for name in rewritten] == ["1"]


def test_an_input_that_changed_while_it_was_no_input_is_read_again(
    tmp_path: Path, inputs: Path, pairs: list[tuple[str, tuple[bytes, bytes]]],
) -> None:
    shutil.copytree(inputs, tmp_path / "in")
    curated(tmp_path / "out", [tmp_path / "in"])
    curated(tmp_path / "out", [tmp_path / "in" / "0.tar"])
    write(tmp_path / "in" / "1.tar", pairs[40:45])
    assert curated(tmp_path / "out", [tmp_path / "in"]).ledger.read == 17
    assert verify(str(tmp_path / "out"), deep=True).faults == ()


class At(Silent):
    """Calls something when a pass begins."""

    def __init__(self, title: str, call: Callable[[], None]) -> None:
        self._title, self._call = title, call

    def start(self, title: str, scope: Scope) -> None:
        if title == self._title:
            self._call()


SILENT = Silent()


def begun(root: Path, inputs: Path, reporter: At | Silent = SILENT, fence: Callable[[], None] = unguarded) -> tuple[Plan, Driver]:
    """A plan for another export of a finished root, and a driver that has not run it yet."""
    store, recipe = Store(str(root)), load("sample", ("classes.k=4", "export.shard_size=5"))
    plan = Plan.of(store, recipe, shards_of(recipe, [str(inputs)]), Settled(local_route(wish(recipe))))
    claim(plan)
    return plan, Driver(store, LocalExecutor(), reporter, EventLog(store), fence)


def test_an_input_whose_bytes_change_behind_its_time_and_size_before_the_export_is_named_and_not_exported(
    root: Path, tmp_path: Path, inputs: Path, pairs: list[tuple[str, tuple[bytes, bytes]]],
) -> None:
    shutil.copytree(inputs, tmp_path / "in")   # with their times, by which they are known
    tar, (key, (image, _)) = tmp_path / "in" / "0.tar", pairs[5]
    content = tar.read_bytes()
    at = content.index(image) + 700

    def change() -> None:
        before = tar.stat()
        tar.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        os.utime(tar, ns=(before.st_atime_ns, before.st_mtime_ns))

    published = (root / "current.json").read_bytes()
    plan, driver = begun(root, tmp_path / "in", At("export", change))
    with pytest.raises(ConservationError, match=rf"{tar} changed since it was read: sample '{key}' has other bytes now"):
        curate(plan, driver)
    assert (root / "current.json").read_bytes() == published
    assert all(content[at - 50 : at] not in path.read_bytes() for path in (root / plan.export).glob("*"))


@pytest.fixture
def exporting(root: Path, inputs: Path) -> tuple[export.Export, list[OutputShard], Store]:
    """The work that exports a finished root otherwise, and its output shards."""
    plan, _ = begun(root, inputs)
    kept = {shard.shard_id: len(kept_rows(plan.root, plan.verdicts, shard.shard_id)) for shard in plan.shards}
    return Export(plan.exported, plan.export, 0), plan_export(plan.shards, kept, size=5, group=2, seed=0), plan.root


def test_an_output_shard_whose_plan_does_not_fit_the_verdicts_is_not_written(
    exporting: tuple[export.Export, list[OutputShard], Store],
) -> None:
    work, items, store = exporting
    last = items[-1].parts[-1]
    more = replace(items[-1], parts=(replace(last, stop=last.stop + 1),))
    says = f"{more.name}: {more.samples} samples planned, {more.samples - 1} kept rows found"
    with work.open() as run, pytest.raises(ConservationError, match=says):
        run(more)
    assert store.names(work.folder) == []


def test_an_output_shard_of_which_a_sample_was_not_written_is_not_committed(
    exporting: tuple[export.Export, list[OutputShard], Store], monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, items, store = exporting
    with work.open() as run:
        with monkeypatch.context() as patch:
            patch.setattr(export, "write_tar", lambda file, members: write_tar(file, itertools.islice(members, 3)))
            with pytest.raises(ConservationError, match="000000: 5 samples to write, 3 written"):
                run(items[0])
        assert store.names(work.folder) == []
        assert run(items[0])["rows"] == 5
    assert len(store.names(work.folder)) == 3


STILL = Pace(beat=600)
"""Of a holder whose counter stands still: so it looks while it is stopped, or cut off from the store."""


def test_a_driver_whose_root_was_taken_over_does_not_publish_over_the_other_s_export(root: Path, inputs: Path) -> None:
    others: list[tuple[str, dict[str, str]]] = []

    def taken_over() -> None:
        with held(Store(str(root)), QUICK):
            published = curated(root, [inputs], ("classes.k=4", "export.shard_size=6")).plan.export
            others.append((published, hashes(root)))

    with held(Store(str(root)), STILL) as lock:
        plan, driver = begun(root, inputs, At("export", taken_over), lock.check)
        with pytest.raises(RootError, match="has taken over, this one stops"):
            curate(plan, driver)
    [(theirs, before)] = others
    assert (root / plan.export / "sizes.json").exists(), "it never got as far as publishing"
    assert json.loads((root / "current.json").read_text())["export"] == theirs != plan.export
    assert (root / "shards").resolve() == root / theirs
    assert {path: digest for path, digest in hashes(root).items() if not path.startswith(plan.export)} == before
    assert verify(str(root)).faults == ()


def test_a_driver_whose_root_was_taken_over_does_not_say_that_it_is_finished(root: Path, inputs: Path) -> None:
    manifest = (root / "manifest.parquet").read_bytes()
    with held(Store(str(root)), STILL) as lock:
        plan, driver = begun(root, inputs, fence=lock.check)
        result = curate(plan, driver)
        with held(Store(str(root)), QUICK), pytest.raises(RootError, match="has taken over, this one stops"):
            succeed(result, driver.fence, partial(driver.must, "manifest"))
    assert not (root / "_SUCCESS").exists()
    assert (root / "manifest.parquet").read_bytes() == manifest


def test_a_run_whose_root_was_taken_over_before_it_began_claims_nothing(
    root: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def taken_over(plan: Plan, driver: Driver) -> None:
        while not list((root / "log" / "lock").glob("*.beat")):   # its first, and for long its last
            time.sleep(0.01)
        with held(Store(str(root)), QUICK):
            pass

    monkeypatch.setattr("pipeline.api.run.held", lambda store: held(store, STILL))
    monkeypatch.setattr("pipeline.api.run.refuse_what_cannot_fit", taken_over)
    before = hashes(root)
    with pytest.raises(RootError, match="has taken over, this one stops"):
        shardmill.curate("sample", inputs, root, local=True, overrides=["classes.k=3", "model.compile=false"])
    assert hashes(root) == before


def test_an_input_that_is_added_later_leaves_the_first_columns(
    tmp_path: Path, inputs: Path, pairs: list[tuple[str, tuple[bytes, bytes]]],
) -> None:
    shutil.copytree(inputs, tmp_path / "in")
    curated(tmp_path / "out", [tmp_path / "in"])
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "columns").glob("clip@*/*")}
    write(tmp_path / "in" / "2.tar", pairs[50:53])
    assert curated(tmp_path / "out", [tmp_path / "in"]).ledger.read == 27
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_classes_of_another_run_label_new_data_without_refitting(
    root: Path, tmp_path: Path, pairs: list[tuple[str, tuple[bytes, bytes]]],
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "new.tar", pairs[60:70])
    curated(tmp_path / "out", [tmp_path / "in"], (f"classes.fit_on={root}",))
    ours, theirs = (next(r.glob("tables/centroids@*/centroids.npy")).read_bytes() for r in (tmp_path / "out", root))
    assert ours == theirs
    labels = pq.read_table(next((tmp_path / "out").glob("labels@*/*.parquet"))).column("labels").to_pylist()
    assert all(len(found) == 4 for found in labels if found is not None)


def test_rare_entities_are_cut_from_what_is_exported(tmp_path: Path, inputs: Path) -> None:
    counts = []
    for least in (1, 3):
        curated(tmp_path / "out", [inputs], (f"entities.min_count={least}",))
        sidecars = [pq.read_table(path) for path in sorted((tmp_path / "out" / "shards").glob("*.parquet"))]
        counts.append([id for table in sidecars for ids in table.column("entity_ids").to_pylist() for id in ids])
    assert len(counts[0]) > len(counts[1])
    assert all(counts[0].count(id) >= 2 or id not in counts[1] for id in set(counts[0]))


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("")
    with pytest.raises(RootError, match="not empty"):
        curated(tmp_path / "thesis", [inputs])
    with pytest.raises(RootError, match="cannot be written"):
        curated(tmp_path / "thesis" / "chapter1.tex", [inputs])
