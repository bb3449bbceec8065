"""Whole curations of small, empty, damaged and changed inputs. One process, all stages, the bundled model."""

import json
import shutil
import tarfile

import pyarrow.parquet as pq
import pytest

from pipeline.errors import RootError
from pipeline.io.tar import write_tar
from pipeline.status import status
from pipeline.verify import verify
from tests.curations import curated
from tests.damage import clean_pairs
from tests.roots import hashes


@pytest.fixture(scope="module")
def pairs(sample_folder):
    return list(clean_pairs(sample_folder).items())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, pairs):
    """Two shards of 12 clean pairs each."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(2):
        write(folder / f"{number}.tar", pairs[12 * number : 12 * number + 12])
    return folder


def write(path, some):
    with path.open("wb") as file:
        write_tar(file, ((key, "jpg", image, caption, b'{"n": 1}') for key, (image, caption) in some))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, inputs):
    root = tmp_path_factory.mktemp("finished") / "root"
    curated(root, [inputs], ("classes.k=4", "export.shard_size=8"))
    assert verify(str(root))["faults"] == []
    return root


@pytest.fixture
def root(finished, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def again(root, inputs):
    return curated(root, [inputs], ("classes.k=4", "export.shard_size=8"))


def promised(root):
    return [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()
            and path.relative_to(root).parts[0] not in ("log", "shards")]


def test_verify_names_every_file_in_which_one_byte_changed(root):
    """Columns, vectors, tables, verdicts, labels, tars, sidecars, side files, markers: each promised byte counts."""
    unnoticed = []
    files = promised(root)
    assert len(files) > 40
    for path in files:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x01]) + content[middle + 1 :])
        try:
            faults = verify(str(root))["faults"]
        except RootError as error:
            faults = [str(error)]
        if not any(path.name in fault or "run.json" in fault for fault in faults):
            unnoticed.append(path.relative_to(root).as_posix())
        path.write_bytes(content)
    assert unnoticed == []
    assert verify(str(root))["faults"] == []


def test_a_deleted_file_is_found_by_verify_and_made_again_by_the_same_command(root, inputs, finished):
    for path in promised(root):
        if path.name in ("run.json", "_SUCCESS", "manifest.json"):
            continue
        path.unlink()
        faults = verify(str(root))["faults"]
        assert any(path.name in fault for fault in faults), path
    again(root, inputs)
    assert verify(str(root))["faults"] == []
    assert hashes(root) == hashes(finished)


@pytest.mark.parametrize(
    "pattern", ["columns/clip@*/*.npy", "exports/*/000001.tar", "tables/centroids@*/centroids.npy", "labels@*/*.parquet"]
)
def test_one_deleted_file_is_made_again_alone(root, inputs, finished, pattern):
    victim = sorted(root.glob(pattern))[0]
    victim.unlink()
    again(root, inputs)
    assert hashes(root) == hashes(finished)


def test_members_that_belong_to_no_sample_are_counted_not_forgotten(tmp_path, pairs):
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
    assert status(str(tmp_path / "out"))["ignored"] == verify(str(tmp_path / "out"))["ignored"] == dict(result.ledger.ignored)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_run_of_hardly_any_samples_finishes(tmp_path, pairs, count):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "few.tar", pairs[:count])
    result = curated(tmp_path / "out", [tmp_path / "in"])
    assert result.ledger.read == count
    assert verify(str(tmp_path / "out"))["faults"] == []


def test_a_run_that_keeps_nothing_publishes_an_empty_export(tmp_path, inputs):
    result = curated(tmp_path / "out", [inputs], ("filters.tiny.above=100000",))
    assert (result.ledger.read, result.ledger.kept) == (24, 0)
    assert json.loads((tmp_path / "out" / "shards" / "sizes.json").read_text()) == {}
    assert verify(str(tmp_path / "out"))["faults"] == []


def test_something_that_is_no_shard_is_a_named_gap_not_an_error(tmp_path, inputs):
    shutil.copytree(inputs, tmp_path / "in")
    (tmp_path / "in" / "page.tar").write_bytes(b"<html>not found</html>" * 100)
    result = curated(tmp_path / "out", [tmp_path / "in"])
    assert result.ledger.read == 24
    assert [(gap["kind"], gap["shard_id"].split("-")[0]) for gap in result.ledger.gaps] == [("not_an_archive", "page")]


def test_a_changed_input_is_read_again_and_the_others_are_not(tmp_path, inputs, pairs):
    shutil.copytree(inputs, tmp_path / "in")
    curated(tmp_path / "out", [tmp_path / "in"])
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "columns").glob("clip@*/*.parquet")}
    write(tmp_path / "in" / "1.tar", pairs[40:45])
    assert any("1.tar has changed" in fault for fault in verify(str(tmp_path / "out"))["faults"])
    result = curated(tmp_path / "out", [tmp_path / "in"])
    assert result.ledger.read == 17
    assert verify(str(tmp_path / "out"))["faults"] == []
    rewritten = [path.name for path, before in stored.items() if path.stat().st_mtime_ns != before]
    assert [name.split("-")[0] for name in rewritten] == ["1"]


def test_an_input_that_changed_while_it_was_no_input_is_read_again(tmp_path, inputs, pairs):
    shutil.copytree(inputs, tmp_path / "in")
    curated(tmp_path / "out", [tmp_path / "in"])
    curated(tmp_path / "out", [tmp_path / "in" / "0.tar"])
    write(tmp_path / "in" / "1.tar", pairs[40:45])
    assert curated(tmp_path / "out", [tmp_path / "in"]).ledger.read == 17
    assert verify(str(tmp_path / "out"), deep=True)["faults"] == []


def test_an_input_that_is_added_later_leaves_the_first_columns(tmp_path, inputs, pairs):
    shutil.copytree(inputs, tmp_path / "in")
    curated(tmp_path / "out", [tmp_path / "in"])
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "columns").glob("clip@*/*")}
    write(tmp_path / "in" / "2.tar", pairs[50:53])
    assert curated(tmp_path / "out", [tmp_path / "in"]).ledger.read == 27
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_classes_of_another_run_label_new_data_without_refitting(root, tmp_path, pairs):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "new.tar", pairs[60:70])
    curated(tmp_path / "out", [tmp_path / "in"], (f"classes.fit_on={root}",))
    ours, theirs = (next(r.glob("tables/centroids@*/centroids.npy")).read_bytes() for r in (tmp_path / "out", root))
    assert ours == theirs
    labels = pq.read_table(next((tmp_path / "out").glob("labels@*/*.parquet"))).column("labels").to_pylist()
    assert all(len(found) == 4 for found in labels if found is not None)


def test_rare_entities_are_cut_from_what_is_exported(tmp_path, inputs):
    counts = []
    for least in (1, 3):
        curated(tmp_path / "out", [inputs], (f"entities.min_count={least}",))
        sidecars = [pq.read_table(path) for path in sorted((tmp_path / "out" / "shards").glob("*.parquet"))]
        counts.append([id for table in sidecars for ids in table.column("entity_ids").to_pylist() for id in ids])
    assert len(counts[0]) > len(counts[1])
    assert all(counts[0].count(id) >= 2 or id not in counts[1] for id in set(counts[0]))


def test_a_folder_that_is_something_else_is_refused(tmp_path, inputs):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("")
    with pytest.raises(RootError, match="not empty"):
        curated(tmp_path / "thesis", [inputs])
    with pytest.raises(RootError, match="cannot be written"):
        curated(tmp_path / "thesis" / "chapter1.tex", [inputs])
