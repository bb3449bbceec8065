"""gc: nothing that the root still needs goes, everything that it does not need goes, whenever it is stopped."""

import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.audit.gc import collect
from pipeline.audit.verify import verify
from pipeline.cli import printing
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import RootError
from pipeline.outputs import BY_NAME
from pipeline.quantities import size
from pipeline.queries.status import status
from pipeline.root import manifest
from pipeline.root.entries import damaged_sizes, entries, file_record
from pipeline.root.existing import open_root
from pipeline.root.lock import Pace, held
from pipeline.store.store import Store
from pipeline.work import Work
from schemas.answers.runs import RunHolder
from tests.curations import curated
from tests.mixed import OVERRIDES, mixed
from tests.roots import hashes

OTHER = (*OVERRIDES, "filters.tiny.above=200")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> tuple[Path, Path, dict[str, str], dict[str, str]]:
    """A root with what a first recipe, another model and a lost input left, finished by a second recipe.

    -> root, its inputs, hashes after the first recipe, hashes in the end."""
    made = mixed(tmp_path_factory.getbasetemp() / "mixed", sample_folder)
    root = tmp_path_factory.mktemp("both") / "root"
    shutil.copytree(made / "root", root, symlinks=True)
    first = hashes(root)
    for kind in ("columns/clip", "tables/calibration"):
        shutil.copytree(next(root.glob(f"{kind}@*")), root / f"{kind}@0123456789ab")
    for path in list(root.glob("columns/*/1-*")):
        if not path.parent.name.startswith(("run@", "clip@0123456789ab")):
            shutil.copy(path, path.with_name(path.name.replace("1-", "1.gone-")))
    curated(root, [made / "in"], OTHER)
    (root / ".partial").mkdir(exist_ok=True)
    (root / ".partial" / "000000.tar.4711.abcdef01").write_bytes(b"x" * 1000)
    return root, made / "in", first, hashes(root)


@pytest.fixture
def root(both: tuple[Path, Path, dict[str, str], dict[str, str]], tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(both[0], copy, symlinks=True)
    return copy


def test_what_is_left_is_what_the_plan_promises_as_it_was(
    root: Path, both: tuple[Path, Path, dict[str, str], dict[str, str]], capsys: pytest.CaptureFixture[str],
) -> None:
    _, inputs, first, last = both
    listed = collect(str(root), dry_run=True)
    assert hashes(root) == last
    done = collect(str(root))
    printing.gc(done)
    assert capsys.readouterr().out.endswith(f"gc: {done.files:,} files, {size(done.bytes)} removed\n")
    assert (done.folders, done.removed, listed.removed) == (listed.folders, True, False)
    assert {entry.reason for entry in done.folders} == {
        "of another recipe, model or input list", "of shards that are no longer inputs", "never finished"}
    promised = [*(entry.path for entry in entries(Store(str(root)))), "manifest.parquet", "_SUCCESS"]
    assert hashes(root) == {path: last[path] for path in promised}
    assert done.files == len(last) - len(promised) + 1, "the one in .partial is among no hashes"
    assert not any(path.is_dir() and not list(path.iterdir()) for path in root.rglob("*") if path.name != ".partial")
    assert list((root / ".partial").iterdir()) == []
    assert verify(str(root)).faults == ()
    assert collect(str(root)).folders == ()
    assert curated(root, [inputs], OTHER).finished_before
    curated(root, [inputs], OVERRIDES)
    assert {path: digest for path, digest in hashes(root).items() if path in first} == first


@pytest.mark.parametrize("after", [1, 15, 30])
def test_a_gc_that_was_stopped_leaves_a_root_that_verifies_and_in_which_the_other_recipe_continues(
    root: Path, both: tuple[Path, Path, dict[str, str], dict[str, str]], monkeypatch: pytest.MonkeyPatch, after: int,
) -> None:
    remove, lock, count = Store.remove, threading.Lock(), 0

    def some(store: Store, path: str) -> None:
        nonlocal count
        if not path.startswith("log/"):
            with lock:
                count += 1
                if count > after:
                    raise InterruptedError
        remove(store, path)

    monkeypatch.setattr(Store, "remove", some)
    with pytest.raises(InterruptedError):
        collect(str(root))
    monkeypatch.undo()
    assert verify(str(root)).faults == ()
    curated(root, [both[1]], OVERRIDES)
    assert {path: digest for path, digest in hashes(root).items() if path in both[2]} == both[2]
    assert verify(str(root)).faults == ()


def test_whatever_is_done_first_no_marker_stands_without_what_it_marks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """calibration.json says that its tables are there; a parquet file of columns, that its vectors are."""
    order = []
    monkeypatch.setattr(Store, "remove", lambda _, path: order.append(path))
    monkeypatch.setattr("pipeline.audit.gc.REMOVALS", 1)
    collect(str(root))
    place = {path: number for number, path in enumerate(order)}
    vectors = [path for path in order if path.startswith("columns/") and path.endswith(".npy")]
    assert len(vectors) > 3
    assert all(place[path] > place[f"{path.rsplit('.', 2)[0]}.parquet"] for path in vectors)
    calibrations = [path for path in order if path.endswith("/calibration.json")]
    assert len(calibrations) == 1
    for path in calibrations:
        folder = path.rpartition("/")[0]
        assert place[path] == min(number for other, number in place.items() if other.startswith(f"{folder}/"))


def test_an_export_that_is_published_stays_while_another_recipe_is_on_its_way(root: Path) -> None:
    collect(str(root))
    before = hashes(root)
    (root / "_SUCCESS").unlink()
    stored = json.loads((root / "run.json").read_text())
    stored["recipe"]["export"]["shard_size"] = 3
    (root / "run.json").write_text(json.dumps(stored))
    stored["outputs"] = open_root(str(root)).describe()
    (root / "run.json").write_text(json.dumps(stored))   # as a run that was stopped before its export
    (root / "labels@0123456789ab").mkdir()
    (root / "labels@0123456789ab" / "0.parquet").write_bytes(b"x")
    assert [entry.folder for entry in collect(str(root)).folders] == ["labels@0123456789ab"]
    assert {path: hash for path, hash in hashes(root).items() if path != "run.json"} == {
        path: hash for path, hash in before.items() if path not in ("run.json", "_SUCCESS")}
    (root / "current.json").write_text("[]")
    with pytest.raises(RootError, match=r"current\.json is damaged"):
        collect(str(root))


def test_links_are_left_and_named_and_nothing_behind_them_is_touched(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    theirs = [entry.folder for entry in collect(str(root), dry_run=True).folders]
    columns = next(folder for folder in theirs if folder.startswith("columns/clip@"))
    table = next(folder for folder in theirs if folder.startswith("tables/calibration@"))
    shutil.move(root / columns, outside / "columns")
    (root / columns).symlink_to(outside / "columns")
    (outside / "precious").write_bytes(b"x")
    (root / table / "calibration.json").unlink()
    (root / table / "calibration.json").symlink_to(outside / "precious")
    (root / ".partial" / "linked").symlink_to(outside)
    shutil.move(root / "exports", outside / "exports")
    (root / "exports").symlink_to(outside / "exports")
    before = hashes(outside)
    found = collect(str(root))
    assert hashes(outside) == before
    assert found.links == (".partial/linked", columns, "exports")
    assert (root / columns).is_symlink()
    assert [path.name for path in (root / table).iterdir()] == ["calibration.json"]
    assert collect(str(root)).folders == ()


def test_what_shardmill_did_not_write_stays(root: Path) -> None:
    mine = ["notes.txt", "thesis@2026/a.tex", "columns/mine/x.parquet", "columns/clip@old/x.parquet", "exports/final/0.tar",
            "tables/README", "verdicts@0123456789ab-backup/0.parquet", "snapshots/1.json"]
    for name in mine:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    listed = [entry.folder for entry in collect(str(root), dry_run=True).folders]
    other = next(folder for folder in listed if folder.startswith("labels@"))
    (root / other / "deeper").mkdir()
    (root / other / "deeper" / "mine").write_text("mine")
    collect(str(root))
    assert all((root / name).read_text() == "mine" for name in [*mine, f"{other}/deeper/mine"])
    assert collect(str(root)).folders == ()


def test_what_is_no_root_is_refused_and_nothing_is_written_into_it(tmp_path: Path) -> None:
    (tmp_path / "columns" / "clip@0123456789ab").mkdir(parents=True)
    (tmp_path / "columns" / "clip@0123456789ab" / "0.parquet").write_bytes(b"x")
    for dry_run in (True, False):
        with pytest.raises(RootError, match="not an output root"):
            collect(str(tmp_path), dry_run=dry_run)
    assert hashes(tmp_path).keys() == {"columns/clip@0123456789ab/0.parquet"}
    assert [path.name for path in tmp_path.iterdir()] == ["columns"]


def test_a_root_of_another_version_keeps_what_is_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs have other names than this version would give them, as those of another recipe have. Where only a version was
    raised since, run.json says by which they are named."""
    before, unused = hashes(root), collect(str(root), dry_run=True)
    for name in ("duplicates", "run_columns", "calibration", "export"):
        monkeypatch.setitem(BY_NAME, name, replace(BY_NAME[name], version=999))
        assert collect(str(root), dry_run=True) == unused
        monkeypatch.setitem(BY_NAME, name, replace(BY_NAME[name], identity=lambda plan: ["of another version"]))
        with pytest.raises(RootError, match="another version of shardmill"):
            collect(str(root))
        monkeypatch.undo()
    assert hashes(root) == before
    collect(str(root))
    promised = [*(entry.path for entry in entries(Store(str(root)))), "manifest.parquet", "_SUCCESS"]
    assert hashes(root) == {path: before[path] for path in promised}
    (root / "manifest.parquet").write_text("{}")
    with pytest.raises(RootError, match=r"manifest\.parquet is damaged"):
        collect(str(root))


def test_gc_waits_for_no_run_and_takes_nothing_from_it(root: Path) -> None:
    before = hashes(root)
    pace = Pace(0.1, 0.1, 60)
    with held(Store(str(root)), pace), pytest.raises(RootError, match=f"in use by another run: process {os.getpid()}"):
        collect(str(root), pace=pace)
    assert hashes(root) == before


def test_a_root_in_an_object_store_is_cleared_like_one_on_disk(root: Path, s3_server: str, tmp_path: Path) -> None:
    remote, top = fsspec.filesystem("s3"), f"bucket/{tmp_path.name}"
    names = [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(root / "shards")]
    remote.put([str(path) for path in names], [f"{top}/root/{path.relative_to(root)}" for path in names])
    remote.pipe(f"{top}/root-of-another/columns/clip@0123456789ab/0.parquet", b"x")
    url = f"s3://{top}/root"
    here, there = collect(str(root)), collect(url)
    local = {entry.folder: entry for entry in here.folders}
    assert list(there.folders) == [local[entry.folder] for entry in there.folders]
    assert len(there.folders) == len(here.folders)
    assert collect(url, dry_run=True).folders == ()
    left = {path.removeprefix(f"{top}/root/") for path in remote.find(f"{top}/root")}
    assert {path for path in left if not path.startswith("log/")} == hashes(root).keys()
    assert remote.exists(f"{top}/root-of-another/columns/clip@0123456789ab/0.parquet")


def test_status_says_which_columns_are_whose(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = status(str(root))
    sets = found.columns
    current = [one.name.split("@")[0] for one in sets if one.current]
    assert current == ["samples", "image", "caption", "language", "hashes", "clip", "mentions", "entities", "run"]
    assert [one.name for one in sets if not one.current] == ["clip@0123456789ab"]
    assert all(one.shards == len(list((root / "columns" / one.name).glob("*.parquet"))) for one in sets)
    clip = sets[-1]
    assert clip.bytes == sum(path.stat().st_size for path in (root / "columns" / clip.name).iterdir())
    printing.status(found)
    assert f"shardmill gc {root} --dry-run" in capsys.readouterr().out
    collect(str(root))
    printing.status(status(str(root)))
    assert "shardmill gc" not in capsys.readouterr().out


def test_status_says_whether_a_run_is_at_work(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told() -> tuple[str, RunHolder | int | None, str]:
        found = status(str(root))
        printing.status(found)
        return found.state, found.holder and found.holder.pid, capsys.readouterr().out

    assert told()[:2] == ("finished", None)
    with held(Store(str(root))):
        state, pid, text = told()
        assert (state, pid) == ("running", os.getpid())
        assert f"process on {os.uname().nodename}, since 20" in text
    assert told()[:2] == ("finished", None)
    (root / "_SUCCESS").unlink()
    assert told()[:2] == ("unfinished", None)
    lock = root / "log" / "lock" / "2.json"
    here = json.loads((root / "log" / "lock" / "1.json").read_text())
    lock.write_text(json.dumps({**here, "started": here["started"] - 1}))
    assert told()[:2] == ("stopped", None)
    lock.write_text(json.dumps({**here, "host": "far\x1b[31m"}))
    state, pid, text = told()
    assert (state, pid, "\x1b" in text) == ("running or killed", os.getpid(), False)


def test_the_manifest_takes_over_the_hashes_that_exist_and_lists_files_in_order(
    root: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Vectors and output shards are most of a root's bytes; a store lists files in an order of its own."""
    plan, read = open_root(str(root)), list[str]()
    before = (root / "manifest.parquet").read_bytes()

    def recorded(store: Store, path: str, size: int | None = None) -> dict[str, Any]:
        read.append(path)
        return file_record(store, path, size)

    def workers(work: Work[manifest.Files], items: Sequence[manifest.Files]) -> None:
        assert not [outcome.error for outcome in LocalExecutor().run(work, items) if outcome.error]
        given.extend(items)

    listed = Store.sizes
    monkeypatch.setattr(manifest, "file_record", recorded)
    monkeypatch.setattr(Store, "sizes", lambda store, folder="": dict(reversed(listed(store, folder).items())))
    given = list[manifest.Files]()
    manifest.write_manifest(plan, workers)
    assert (root / "manifest.parquet").read_bytes() == before
    assert not given, "so little is read where it is asked for"
    monkeypatch.setattr(manifest, "ALONE_FILES", 0)
    monkeypatch.setattr(manifest, "FILES", 3)   # items that part a shard's files
    manifest.write_manifest(plan, workers)
    assert (root / "manifest.parquet").read_bytes() == before, "who hashes, and how much at once, changes no byte"
    assert len(given) > 20
    promised = list(entries(plan.root))
    monkeypatch.setattr(manifest, "GROUP", 7)
    manifest.write_manifest(plan, workers)
    assert list(entries(plan.root)) == promised
    assert not damaged_sizes(plan.root)
    assert not (root / ".partial" / "manifest").exists()
    assert "run.json" in read
    assert not [path for path in read if path.startswith("columns/") and path.endswith(".npy")]
    assert not [path for path in read if path.endswith(".tar")]
