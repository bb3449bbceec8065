"""An opened root beside its own files, read here by hand."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api import shardmill
from pipeline.api.opened import Root
from pipeline.errors import InputError, RootError
from schemas.tables import DUPLICATES
from tests.archives import member_bytes
from tests.curations import curated


@pytest.fixture(scope="module")
def root(demo_root: Path) -> Root:
    return shardmill.open(demo_root)


@pytest.fixture(scope="module")
def levelled(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Root:
    """Two shards in six classes under two levels, each sample with three labels."""
    url = tmp_path_factory.mktemp("levels") / "root"
    wishes = ("classes.k=6", "classes.levels=[3,2]", "classes.labels=3")
    curated(url, [sample_folder / "00007.tar", sample_folder / "00008.tar"], wishes)
    return shardmill.open(url)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Root:
    """One shard, a copy of the sample's last, without classes."""
    folder = tmp_path_factory.mktemp("single")
    shutil.copy(sample_folder / "00008.tar", folder)
    curated(folder / "root", [folder / "00008.tar"], ("classes.k=null",))
    return shardmill.open(folder / "root")


@pytest.fixture
def copied(demo_root: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "root"
    shutil.copytree(demo_root, copy, symlinks=True)
    return copy


def files(url: Path, folder: str) -> pa.Table:
    """Rows of all shards of one folder, in order."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(url.glob(f"{folder}@*/*.parquet")))


def test_samples_join_every_file_of_a_root_row_by_row(root: Root, demo_root: Path) -> None:
    names = ["uid", "key", "caption", "verdict", "clip_similarity", "language", "entities", "labels", "exact_duplicate", "sha256"]
    table = root.samples(names).to_table()
    assert table.column_names == names
    assert table.num_rows == 828
    folders = {"key": "columns/samples", "caption": "columns/samples", "verdict": "verdicts", "clip_similarity": "columns/clip",
               "language": "columns/language", "entities": "columns/entities", "labels": "labels", "sha256": "columns/hashes",
               "exact_duplicate": "columns/run"}
    for name, folder in folders.items():
        stored = files(demo_root, folder)
        assert stored["uid"].to_pylist() == table["uid"].to_pylist()
        assert stored[name].to_pylist() == table[name].to_pylist()


def test_row_ids_are_those_of_the_input_order(root: Root, demo_root: Path) -> None:
    table = root.samples(["row", "shard_id"]).to_table()
    counts = {path.stem: pq.read_metadata(path).num_rows for path in sorted(demo_root.glob("verdicts@*/*.parquet"))}
    assert list(zip(table["shard_id"].to_pylist(), table["row"].to_pylist(), strict=True)) == [
        (shard_id, row) for shard_id, count in counts.items() for row in range(count)]


def test_the_usual_columns_come_where_none_is_named(root: Root) -> None:
    names = root.samples().head(1).column_names
    wanted = {"uid", "key", "shard_id", "row", "caption", "verdict", "clip_similarity", "entities", "labels", "label_names"}
    assert wanted < set(names)
    assert not {"image_embedding", "thumbnail"} & set(names)
    assert root.samples().schema.names == names


def test_only_the_files_of_the_columns_that_are_asked_for_are_read(copied: Path) -> None:
    first = sorted(copied.glob("verdicts@*/*.parquet"))[0].stem
    for path in [*copied.glob("columns/*@*/*"), *copied.glob("labels@*/*.parquet")]:
        if not path.name.startswith(first) and not path.parent.name.startswith("samples@"):
            path.unlink()
    root = shardmill.open(copied)
    table = root.samples(["caption", "verdict"], where={"key": ["000000005", "000030005"]}).to_table()
    assert table.num_rows == 2
    assert root.samples(["clip_similarity"]).head(100).num_rows == 100
    with pytest.raises(RootError, match="not all columns of shard"):
        root.samples(["clip_similarity"]).to_table()


def test_a_shard_is_read_when_its_turn_comes(copied: Path) -> None:
    last = sorted(copied.glob("columns/samples@*/*.parquet"))[-1]
    samples = shardmill.open(copied).samples(["caption", "shard_id"])
    last.unlink()
    assert samples.head(700).num_rows == 700
    batches = iter(samples)
    shards = [next(batches)["shard_id"].unique().to_pylist() for _ in range(8)]
    assert [len(one) for one in shards] == [1] * 8
    with pytest.raises(RootError, match=f"not all columns of shard {last.stem} yet: run its command again"):
        next(batches)


@pytest.mark.parametrize(("where", "meets"), [
    ({"verdict": "kept"}, lambda row: row["verdict"] == "kept"),
    ({"verdict": ["rejected:tiny", "rejected:language"]}, lambda row: row["verdict"] in ("rejected:tiny", "rejected:language")),
    ({"clip_similarity": {"min": 0.3}}, lambda row: (row["clip_similarity"] or -1) >= np.float32(0.3)),
    ({"class_id": {"none_of": [0, 1]}, "width": {"above": 200, "max": 256}},
     lambda row: row["class_id"] not in (None, 0, 1) and 200 < row["width"] <= 256),
    ({"exact_duplicate": True}, lambda row: row["exact_duplicate"]),
    ({"entities": ["n07767847"]}, lambda row: any(one["id"] == "n07767847" and one["confirmed"] for one in row["entities"] or ())),
    ({"class_id": np.int32(3)}, lambda row: row["class_id"] == 3),
    ({"class_name": {"any_of": []}, "uid": "none"}, None),
    ({"uid": "none"}, lambda row: False),
])
def test_where_chooses_as_the_rules_of_a_recipe_do(
    root: Root, where: dict[str, Any], meets: Callable[[dict[str, Any]], bool] | None,
) -> None:
    if meets is None:
        with pytest.raises(InputError, match=r"where: class_name\.any_of"):
            root.samples(where=where)
        return
    columns = ["uid", "verdict", "clip_similarity", "class_id", "width", "exact_duplicate", "row", "entities"]
    whole = root.samples(columns).to_table().to_pylist()
    some = root.samples(columns, where=where)
    assert some.to_table().to_pylist() == [row for row in whole if meets(row)]
    assert some.count_rows() == sum(map(bool, map(meets, whole)))
    assert some.to_reader().read_all().equals(some.to_table())
    assert root.samples(["uid"], where=where).count_rows() == some.count_rows()


@pytest.mark.parametrize(("asked", "words"), [
    ({"columns": ["captoin"]}, "no column captoin; did you mean caption"),
    ({"columns": "uid"}, r"give a list of names, \['uid'\]"),
    ({"where": {"verdcit": "kept"}}, "no column verdcit; did you mean verdict"),
    ({"where": {"clip_similarity": 0.3}}, "clip_similarity is a decimal number: give a bound"),
    ({"where": {"labels": 3}}, "labels is list.*one value per sample"),
    ({"where": {"entities": {"min": 3}}}, r"entities are several per sample: say which ids are wanted"),
    ({"where": {"image_embedding": 3}}, "image_embedding is fixed_size_list.*one value per sample"),
    ({"where": {"verdict": {"equal": "kept"}}}, r"verdict\.equal: Extra inputs.*equals"),
    ({"where": {"verdict": {"min": 1}}}, "min compares numbers, verdict is text"),
    ({"where": {"language": None}}, "language: has no bound"),
    ({"where": {"width": {"min": 2, "max": 1}}}, "width: no value can meet both bounds"),
    ({"where": {"width": "wide"}}, "equals of width must be a whole number"),
])
def test_what_cannot_be_asked_is_named(root: Root, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        root.samples(**asked)


def test_embeddings_are_rows_of_the_table_and_those_of_the_files(root: Root, demo_root: Path, tmp_path: Path) -> None:
    stored = np.concatenate([np.load(path) for path in sorted(demo_root.glob("columns/clip@*/*.text_embedding.npy"))])
    assert (root.samples().embeddings("text") == stored).all()
    some = root.samples(["uid", "image_embedding", "image_embedding_valid"], where={"width": {"below": 200}})
    matrix, table = some.embeddings(), some.to_table()
    assert matrix.shape == (some.count_rows(), 256)
    assert matrix.dtype == np.float16
    for row, vector in zip(table.to_pylist(), matrix, strict=True):
        assert (row["image_embedding"] is None) == (not row["image_embedding_valid"]) == (not vector.any())
        assert row["image_embedding"] is None or (np.array(row["image_embedding"], np.float16) == vector).all()
    written = some.embeddings(out=tmp_path / "some.npy")
    assert isinstance(written, np.memmap)
    assert (written == matrix).all()
    assert (np.load(tmp_path / "some.npy", allow_pickle=False) == matrix).all()
    with pytest.raises(FileExistsError):
        some.embeddings(out=tmp_path / "some.npy")
    none = root.samples(where={"uid": "none"})
    assert none.embeddings().shape == none.embeddings(out=tmp_path / "none.npy").shape == (0, 256)
    with pytest.raises(InputError, match="choose image or text"):
        some.embeddings("picture")   # type: ignore[arg-type]


def test_embeddings_that_are_not_there_yet_are_named(copied: Path) -> None:
    last = sorted(copied.glob("columns/clip@*/*.image_embedding.npy"))[-1]
    last.unlink()
    samples = shardmill.open(copied).samples(["image_embedding"])
    for ask in (samples.embeddings, samples.to_table):
        with pytest.raises(RootError, match=f"not all columns of shard {last.name.partition('.')[0]} yet"):
            ask()


def test_the_embeddings_of_one_shard_are_mapped_not_read(single: Root) -> None:
    mapped = single.samples().embeddings()
    assert isinstance(mapped, np.memmap)
    assert mapped.shape == (28, 256)
    (batch,) = single.samples(["image_embedding"])
    values = np.frombuffer(batch["image_embedding"].values.buffers()[1], np.float16)
    assert (values.reshape(mapped.shape) == mapped).all()


def test_a_root_without_classes_has_no_columns_of_them(single: Root) -> None:
    assert not {"labels", "label_names", "class_id"} & set(single.schema.names)
    with pytest.raises(RootError, match="has no classes"):
        single.classes()


def test_names_of_labels_are_those_of_the_exported_samples(root: Root, demo_root: Path) -> None:
    exported = {}
    for path in (demo_root / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in (one for one in tar if one.name.endswith(".json")):
                sample = json.loads(member_bytes(tar, member))
                exported[sample["uid"]] = sample["labels"], sample["label_names"]
    rows = root.samples(["uid", "verdict", "labels", "label_names", "class_id", "class_name"]).to_table().to_pylist()
    assert {row["uid"]: (row["labels"], row["label_names"]) for row in rows if row["verdict"] == "kept"} == exported
    for row in rows:
        assert (row["class_id"], row["class_name"]) == (
            (row["labels"][0], row["label_names"][0]) if row["verdict"] == "kept" else (None, None))


def test_the_levels_of_a_class_are_its_parents(levelled: Root) -> None:
    classes = {level: {one.class_id: one for one in levelled.classes(level)} for level in range(3)}
    names = ["verdict", "class_id", "class_name", "class_levels", "class_level_names", "label_levels"]
    seen = 0
    for row in levelled.samples(names).to_table().to_pylist():
        if row["verdict"] != "kept":
            assert [row[name] for name in names[1:]] == [None] * 5
            continue
        own = classes[0][row["class_id"]]
        assert own.parent is not None
        above = classes[1][own.parent]
        assert above.parent is not None
        top = classes[2][above.parent]
        assert row["class_name"] == own.name
        assert row["class_levels"] == [above.class_id, top.class_id]
        assert row["class_level_names"] == [above.name, top.name]
        assert [set(ids) >= {id} for ids, id in zip(row["label_levels"], row["class_levels"], strict=True)] == [True, True]
        seen += 1
    assert seen == levelled.ledger.kept > 50


def test_an_image_is_the_bytes_of_the_input_shard(root: Root, sample_folder: Path) -> None:
    with tarfile.open(sample_folder / "00003.tar") as tar:
        names = [member for member in tar.getnames() if member.endswith(".jpg")]
        images = {name.removesuffix(".jpg"): member_bytes(tar, name) for name in names}
    rows = root.samples(["uid", "key", "shard_id", "row"], where={"key": list(images)}).to_table().to_pylist()
    assert len(rows) == len(images) > 90
    for row in rows[::20]:
        assert root.image(row["uid"]) == root.image((row["shard_id"], row["row"])) == images[row["key"]]


@pytest.mark.parametrize(("sample", "words"), [
    ("0" * 32, "has no sample '0000"), ("abc", "name it by a uid"), (("nowhere", 0), "no shard nowhere"),
])
def test_an_image_that_is_not_there_is_named(root: Root, sample: str | tuple[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        root.image(sample)


def test_a_sample_without_image_bytes_and_a_row_beyond_the_last_are_named(root: Root) -> None:
    empty = root.samples(["uid", "key", "shard_id"], where={"image_error": "image_empty"}).to_table().to_pylist()[0]
    with pytest.raises(InputError, match=f"sample '{empty['key']}' of .* has no image bytes"):
        root.image(empty["uid"])
    for row in (-1, 1000):
        with pytest.raises(InputError, match=f"and no row {row}"):
            root.image((empty["shard_id"], row))


def test_other_bytes_than_those_that_were_hashed_are_no_image_of_the_sample(single: Root) -> None:
    row = single.samples(["uid", "image_offset", "image_length", "sha256"]).head(1).to_pylist()[0]
    tar = Path(single.url).parent / "00008.tar"
    before = tar.read_bytes()
    changed, place = bytearray(before), row["image_offset"] + row["image_length"] // 2
    changed[place] ^= 1
    assert hashlib.sha256(single.image(row["uid"])).hexdigest() == row["sha256"]
    try:
        tar.write_bytes(changed)
        with pytest.raises(InputError, match=r"00008\.tar changed since it was read: sample .* has other bytes now"):
            single.image(row["uid"])
        tar.unlink()
        with pytest.raises(InputError, match=r"00008\.tar is no longer there"):
            single.image(row["uid"])
    finally:
        tar.write_bytes(before)


def test_a_root_answers_as_the_command_line_does(root: Root, demo_root: Path) -> None:
    assert root.status().state == "finished"
    assert root.ledger.read == 828 == root.ledger.kept + sum(root.ledger.rejected.values()) + sum(root.ledger.failed.values())
    classes = root.classes()
    assert sum(one.size for one in classes) == root.ledger.kept
    exemplar = classes[0].exemplars[0]
    assert root.image((exemplar.shard_id, exemplar.row))
    pairs = root.duplicates()
    assert pairs.column_names == DUPLICATES.names
    assert pairs.num_rows == files(demo_root, "tables/duplicates").num_rows > 20
    uid = pairs["uid"][0].as_py()
    assert {one.uid for one in root.explain(uid)} == {uid}
    with pytest.raises(InputError, match="no class"):
        root.classes(level=9)


def test_the_report_is_written_again(copied: Path) -> None:
    (copied / "report.html").unlink()
    path = shardmill.open(copied).report()
    assert path == str(copied / "report.html")
    assert (copied / "report.html").read_text().startswith("<!doctype html>")


def test_an_unfinished_root_opens_and_says_what_is_not_there(copied: Path) -> None:
    for folder in [*copied.glob("verdicts@*"), *copied.glob("tables/*@*"), *copied.glob("labels@*")]:
        shutil.rmtree(folder)
    root = shardmill.open(str(copied))
    assert root.samples().to_table().num_rows == 828
    assert not {"verdict", "labels", "class_id"} & set(root.schema.names)
    for ask in (lambda: root.ledger, root.duplicates, root.classes, root.report):
        with pytest.raises(RootError, match=r"run its command again first|has no classes"):
            ask()


def test_what_is_no_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(RootError, match=r"is not an output root of shardmill: it has no run\.json"):
        shardmill.open(tmp_path)
