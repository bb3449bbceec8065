"""Embeddings in clip-retrieval's layout, read as autofaiss and clip-back do: files in the order of their names, row by row."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api import shardmill
from pipeline.errors import InputError, RootError
from pipeline.queries.embeddings.clip_retrieval import divided, metadata_columns, write_clip_retrieval
from tests.roots import asked, hashes


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Both matrices and the metadata, put together as their readers do."""
    images, texts = (
        np.concatenate([np.load(path) for path in sorted((folder / name).glob("*.npy"))]) for name in ("img_emb", "text_emb"))
    return images, texts, pa.concat_tables([pq.read_table(path) for path in sorted((folder / "metadata").glob("*.parquet"))])


def test_rows_of_all_three_kinds_of_files_are_the_kept_samples_in_order(demo_root: Path, tmp_path: Path) -> None:
    said = json.loads(asked("embeddings", str(demo_root), "-o", str(tmp_path / "out"), "--partition", "60", "--json").stdout)
    images, texts, metadata = read(tmp_path / "out")
    names = [path.name for path in sorted((tmp_path / "out" / "img_emb").iterdir())]
    assert names == [f"img_emb_{number}.npy" for number in range(said["partitions"])]
    assert 3 < said["partitions"] < 10
    kept = shardmill.open(demo_root).samples(["key", "caption", "uid", "clip_similarity", "class_name"], where={"verdict": "kept"})
    table = kept.to_table()
    assert metadata.column_names[:2] == ["image_path", "caption"]
    assert metadata.column("image_path").to_pylist() == table.column("key").to_pylist()
    for name in ("caption", "uid", "clip_similarity", "class_name"):
        assert metadata.column(name).to_pylist() == table.column(name).to_pylist()
    assert images.dtype == texts.dtype == np.float16
    assert images.shape == texts.shape == (said["samples"], said["dimension"])
    assert (images == kept.embeddings("image")).all()
    assert (texts == kept.embeddings("text")).all()
    cosines = (images.astype(np.float32) * texts.astype(np.float32)).sum(1)
    assert np.abs(cosines - metadata.column("clip_similarity").to_numpy()).max() < 2e-3


def test_all_are_those_that_have_vectors(demo_root: Path, tmp_path: Path) -> None:
    said = write_clip_retrieval(str(demo_root), str(tmp_path / "out"), "all", 1)
    images, _, metadata = read(tmp_path / "out")
    root = shardmill.open(demo_root)
    assert said.samples == len(images) == metadata.num_rows == root.ledger.read - sum(root.ledger.failed.values())
    assert set(metadata.column("verdict").to_pylist()) > {"kept", "rejected:tiny"}
    assert said.partitions == len(root._plan.shards)   # each has more than one


def test_a_stopped_one_is_continued_and_gives_the_same_bytes(demo_root: Path, tmp_path: Path) -> None:
    write_clip_retrieval(str(demo_root), str(tmp_path / "whole"), partition=100)
    write_clip_retrieval(str(demo_root), str(tmp_path / "stopped"), partition=100)
    whole, part = hashes(tmp_path / "whole"), sorted((tmp_path / "stopped" / "metadata").iterdir())
    part[-1].unlink()
    (tmp_path / "stopped" / "img_emb" / part[-1].name.replace("metadata", "img_emb").replace("parquet", "npy")).write_bytes(b"cut")
    before = part[0].stat().st_mtime_ns
    write_clip_retrieval(str(demo_root), str(tmp_path / "stopped"), partition=100)
    assert hashes(tmp_path / "stopped") == whole
    assert part[0].stat().st_mtime_ns == before   # it was done
    with pytest.raises(InputError, match="holds embeddings of another run or choice \\(of, partitions\\): give a new folder"):
        write_clip_retrieval(str(demo_root), str(tmp_path / "stopped"), "all", 100)
    (tmp_path / "whole" / "shardmill.json").unlink()
    with pytest.raises(InputError, match="holds embeddings that are not from here"):
        write_clip_retrieval(str(demo_root), str(tmp_path / "whole"), partition=100)


def test_neither_what_is_no_root_nor_a_folder_in_the_root_is_taken(demo_root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is in the root"):
        write_clip_retrieval(str(demo_root), str(demo_root / "clip"))
    with pytest.raises(RootError, match="is not an output root"):
        write_clip_retrieval(str(tmp_path), str(tmp_path / "out"))


def test_the_samples_own_metadata_comes_by_its_keys() -> None:
    assert metadata_columns(["uid", "key", "caption", "json.url", "json.caption", "json.NSFW", "width"]) == {
        "key": "image_path", "caption": "caption", "uid": "uid", "width": "width", "json.url": "url", "json.NSFW": "NSFW"}


def test_partitions_are_neighbours_whose_numbers_have_leading_zeros_for_readers_that_go_by_names() -> None:
    parts = divided({"a": 6, "b": 4, "none": 0, "c": 1, "d": 30, "e": 2}, 10)
    assert [part.shard_ids for part in parts] == [("a", "b"), ("c",), ("d",), ("e",)]
    numbers = [part.number for part in divided({str(number): 1 for number in range(12)}, 1)]
    assert numbers == [f"{number:02d}" for number in range(12)]
    assert [part.number for part in divided({str(number): 1 for number in range(9)}, 1)] == list("012345678")
