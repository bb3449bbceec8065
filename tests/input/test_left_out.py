"""Files of an input place that are no shards."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.input.discovery import discover
from pipeline.input.members import Gap
from pipeline.input.reader import read
from schemas.reasons import GapKind


def gaps(folder: Path | str) -> dict[str, list[Gap]]:
    """What is named of each shard that only stands for a gap."""
    found = {}
    for shard in discover([str(folder)]):
        if shard.kind == "gap":
            reader = read(shard)
            assert list(reader) == []
            found[shard.relative] = reader.gaps
    return found


def side_files(folder: Path, stem: str, statuses: list[str] | None, successes: int | None) -> None:
    """What img2dataset writes beside `<stem>.tar`."""
    if statuses is not None:
        table = pa.table({"url": ["u"] * len(statuses), "key": ["k"] * len(statuses), "status": statuses})
        pq.write_table(table, folder / f"{stem}.parquet")
    if successes is not None:
        (folder / f"{stem}_stats.json").write_text(json.dumps({"count": 5, "successes": successes}))


GOOD = [("a.jpg", b"1"), ("a.txt", b"1")]


def test_side_files_without_their_tar_are_a_gap_of_as_many_samples_as_they_promise(
    archive: Callable[..., Path], tmp_path: Path,
) -> None:
    archive(*GOOD, name="00000.tar")
    side_files(tmp_path, "00000", ["success"], 1)
    side_files(tmp_path, "00001", ["success", "failed_to_download", "success"], None)
    side_files(tmp_path, "00002", ["success"], 3)
    side_files(tmp_path, "00003", None, 4)
    side_files(tmp_path, "00004", ["failed_to_download"], 0)
    (tmp_path / "run_stats.json").write_text("{}")
    expected = {"00001.parquet": 2, "00002.parquet": 3, "00003_stats.json": 4}
    for pattern in (tmp_path, tmp_path / "*.tar"):
        found = gaps(pattern)
        assert {name: gap.samples for name, (gap,) in found.items()} == expected
        assert {gap.kind for (gap,) in found.values()} == {GapKind.MISSING_VS_SIDECAR}
        assert "its tar is not there: 2 samples" in found["00001.parquet"][0].detail
    assert gaps(tmp_path / "00000.tar") == gaps(tmp_path / "0000[04].tar") == {}, "they are of no shard that was named"


def test_lists_in_a_folder_of_their_own_are_of_tars_that_are_elsewhere(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(*GOOD, name="tars/00000.tar")
    (tmp_path / "lists").mkdir()
    side_files(tmp_path / "lists", "00000", ["success"], 1)
    assert gaps(tmp_path) == {}


@pytest.mark.parametrize(("columns", "named"), [
    ({"photo": [b"1", b"2"], "caption": ["a", "b"]}, "photo (binary)"),
    ({"pages": [[b"1"], [b"2"]], "caption": ["a", "b"]}, "pages (list<"),
    ({"left": [{"bytes": b"1", "path": ""}] * 2, "right": [{"bytes": b"1", "path": ""}] * 2}, "left (struct<"),
    ({"image": ["files/1.jpg", "files/2.jpg"], "caption": ["a", "b"]}, "image (string)"),
    ({"photo": pa.array([b"1" * 65] * 2, pa.binary(65))}, "photo (fixed_size_binary[65])"),
    ({"pages": pa.array([[b"1"]] * 2, pa.list_(pa.binary(), 1))}, "pages (fixed_size_list<"),
    ({"pages": pa.array([[b"1"]] * 2, pa.list_view(pa.large_binary()))}, "pages (list_view<"),
    ({"views": pa.array([[("left", [b"1"])]] * 2, pa.map_(pa.string(), pa.list_(pa.binary())))}, "views (map<"),
])
def test_a_parquet_file_whose_images_are_in_a_column_that_is_not_read_is_a_gap_in_a_folder_with_good_ones(
    tmp_path: Path, columns: dict[str, list[object] | pa.Array], named: str,
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no shard there that can be read") as refused:
        discover([str(tmp_path)])
    assert named in str(refused.value)
    pq.write_table(pa.table({"image": [b"1"], "caption": ["a"]}), tmp_path / "a.parquet")
    (gap,) = gaps(tmp_path)["b.parquet"]
    assert (gap.kind, gap.samples) == (GapKind.UNREADABLE, 2)
    assert named in gap.detail
    assert "call it image" in gap.detail


@pytest.mark.parametrize("kind", [pa.binary(16), pa.binary(32), pa.binary(64), pa.uuid(), pa.list_(pa.binary(20))], ids=str)
def test_ids_and_hashes_are_no_images(archive: Callable[..., Path], tmp_path: Path, kind: pa.DataType) -> None:
    archive(*GOOD, name="a.tar")
    pq.write_table(pa.table({"url": ["u"], "sha": pa.nulls(1, kind)}), tmp_path / "urls.parquet")
    said: list[str] = []
    assert [shard.relative for shard in discover([str(tmp_path)], said.append)] == ["a.tar"]
    assert "1 file parquet without images (urls.parquet)" in said[0]


def test_what_is_read_or_in_the_account_as_a_gap_is_not_left_aside(archive: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a.tar", "gz.tar.gz", "x.tar.zst", "old.tar.bz2", "sub/y.tgz"):
        archive(*GOOD, name=name)
    (tmp_path / "notes.gz").write_bytes(b"")
    side_files(tmp_path, "00001", ["success"], 1)
    pq.write_table(pa.table({"photo": [b"1"]}), tmp_path / "photos.parquet")
    said: list[str] = []
    found = [shard.relative for shard in discover([str(tmp_path)], said.append)]
    assert found == ["00001.parquet", "a.tar", "gz.tar.gz", "old.tar.bz2", "photos.parquet", "sub/y.tgz", "x.tar.zst"]
    assert said == [f"input '{tmp_path}': left aside, for they are no shards: 1 file .gz (notes.gz)"]


def test_what_else_lies_in_a_folder_is_said_by_kind_with_examples(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(*GOOD, name="a.tar")
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.JPG", "b.zip", "README.md", "sizes.json", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"")
    pq.write_table(pa.table({"url": ["u"], "caption": ["a"]}), tmp_path / "urls.parquet")
    said: list[str] = []
    assert [shard.relative for shard in discover([str(tmp_path)], said.append)] == ["a.tar"]
    assert len(said) == 1
    assert "4 files .jpg (1.jpg, 2.jpg, 3.jpg, …); 1 file .zip (b.zip); 1 file parquet without images (urls.parquet)" in said[0]
    discover([str(tmp_path / "a.tar")], said.append)
    assert len(said) == 1
    shutil.rmtree(tmp_path)
