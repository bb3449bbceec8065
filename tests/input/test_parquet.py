import datetime
import decimal
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.input.discovery import Shard, discover
from pipeline.input.parquet import image_column
from pipeline.input.reader import ShardReader, fetch, read
from pipeline.input.samples import Reading
from pipeline.input.values import plain
from schemas.columns import SAMPLES

JPEG = b"\xff\xd8\xff..."


def write(tmp_path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Shard:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, tmp_path / "a.parquet", **options)
    [shard] = discover([str(tmp_path / "a.parquet")])
    return shard


def damaged(tmp_path: Path, *, group: int, column: int, start: float = 0.0) -> Shard:
    """The file with the bytes of one column chunk overwritten, from this share of it on."""
    chunk = pq.read_metadata(tmp_path / "a.parquet").row_group(group).column(column)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    begin = chunk.data_page_offset + int(start * chunk.total_compressed_size)
    stop = chunk.data_page_offset + chunk.total_compressed_size
    content[begin:stop] = b"\x55" * (stop - begin)
    (tmp_path / "a.parquet").write_bytes(content)
    [shard] = discover([str(tmp_path / "a.parquet")])
    return shard


def rows_of(shard: Shard, **options: Any) -> tuple[list[dict[str, Any]], ShardReader]:
    reader = read(shard, **options)
    return [row for batch in reader for row in batch.to_pylist()], reader


def test_a_binary_column_and_a_caption_are_samples(tmp_path: Path) -> None:
    shard = write(tmp_path, {"jpg": [JPEG, b"", None, b"x"], "caption": ["a", "", "b", None], "original_width": [640, 1, 2, 3]})
    rows, reader = rows_of(shard)
    assert [row["samples_error"] for row in rows] == [None, None, "missing_image", "missing_caption"]
    assert [row["key"] for row in rows] == [f"{i:09d}" for i in range(4)]
    assert [row["image"] for row in rows] == [JPEG, b"", None, b"x"]
    assert {row["location"] for row in rows} == {"parquet_row"}
    assert [row["image_offset"] for row in rows] == [0, 1, 2, 3]
    assert (rows[0]["image_name"], rows[0]["image_extension"], rows[0]["image_length"]) == ("jpg", "jpg", len(JPEG))
    assert [row["source_width"] for row in rows] == [640, 1, 2, 3]
    assert rows[0]["uid"] == hashlib.sha256(len(JPEG).to_bytes(8, "big") + JPEG + b"a").hexdigest()[:32]
    assert (reader.gaps, reader.members) == ([], 4)
    assert next(iter(read(shard))).drop_columns(["image", "metadata"]).schema.equals(SAMPLES, check_metadata=True)


def test_the_struct_of_hugging_face_is_an_image(tmp_path: Path) -> None:
    images = [{"bytes": JPEG, "path": "a/b.JPG"}, {"bytes": b"\x89PNG..", "path": None}, {"bytes": None, "path": "c"}, None]
    shard = write(tmp_path, {"picture": images, "text": pa.array(["a", "b", "c", "d"]).dictionary_encode(), "key": list("wxyz")})
    rows, _ = rows_of(shard)
    assert [(row["key"], row["image_name"], row["image_extension"]) for row in rows] == [
        ("w", "a/b.JPG", "jpg"), ("x", "picture", "png"), ("y", "c", None), ("z", "picture", None)
    ]
    assert [row["samples_error"] for row in rows] == [None, None, "missing_image", "missing_image"]
    assert [row["caption"] for row in rows] == ["a", "b", "c", "d"]


def test_columns_are_told_apart_by_name_and_type() -> None:
    hf = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert image_column(pa.schema([("image", pa.string()), ("jpg", pa.large_binary())])) == "jpg"
    assert image_column(pa.schema([("photo", hf), ("hash", pa.binary())])) == "photo"
    assert image_column(pa.schema([("one", hf), ("two", hf)])) is None
    assert image_column(pa.schema([("hash", pa.binary()), ("image", pa.list_(pa.uint8()))])) is None
    assert image_column(pa.schema([("image", pa.binary(64)), ("jpg", pa.binary(65))])) == "jpg", "a hash is no image"


def test_the_caption_column_can_be_named(tmp_path: Path) -> None:
    shard = write(tmp_path, {"image": [b"1"], "caption": ["c"], "title": ["t"]})
    assert rows_of(shard)[0][0]["caption"] == "c"
    assert rows_of(shard, reading=Reading(("title", "caption")))[0][0]["caption"] == "t"
    assert rows_of(shard, reading=Reading(("nothing",)))[0][0]["samples_error"] == "missing_caption"


def test_captions_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    raw = pa.array([b"caf\xe9", b"ok"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    nested = pa.ListArray.from_arrays([0, 1, 2], text)
    shard = write(tmp_path, {"image": [b"1", b"2"], "caption": text, "tags": nested})
    rows, _ = rows_of(shard)
    assert [(row["caption"], row["caption_raw"]) for row in rows] == [("café", b"caf\xe9"), ("ok", None)]
    objects = [json.loads(found or b"") for _, found in fetch(shard, pa.Table.from_pylist(rows, SAMPLES))]
    assert objects == [{"caption": "café", "tags": ["café"]}, {"caption": "ok", "tags": ["ok"]}]


def bad_texts(kind: pa.DataType) -> pa.Array:
    """Two texts of this type, of which the first is not UTF-8."""
    storage = {pa.string_view(): pa.binary_view(), pa.large_string(): pa.large_binary()}.get(kind, pa.binary())
    return pa.Array.from_buffers(kind, 2, pa.array([b"caf\xe9 on a table", b"ok"], storage).buffers())


VALUES: dict[str, tuple[pa.Array, list[Any]]] = {
    "view": (pa.array(["a", None], pa.string_view()), ["a", None]),
    "bytes view": (pa.array([b"a", None], pa.binary_view()), ["YQ==", None]),
    "list of views": (pa.array([["a"], []], pa.list_(pa.string_view())), [["a"], []]),
    "struct of views": (pa.array([{"a": "x"}, None], pa.struct([("a", pa.string_view())])), [{"a": "x"}, None]),
    "bad view": (bad_texts(pa.string_view()), ["café on a table", "ok"]),
    "bad large": (bad_texts(pa.large_string()), ["café on a table", "ok"]),
    "dictionary": (pa.array(["a", None]).dictionary_encode(), ["a", None]),
    "list view": (pa.array([[1], None], pa.list_view(pa.int32())), [[1], None]),
    "map": (pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())), [[["a", 1]], []]),
    "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), [[1, 2], None]),
    "fixed bytes": (pa.array([b"ab", None], pa.binary(2)), ["YWI=", None]),
    "decimal": (pa.array([decimal.Decimal("1.50"), None], pa.decimal256(50, 2)), ["1.50", None]),
    "half": (pa.array([1.5, float("nan")], pa.float16()), [1.5, None]),
    "big": (pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
    "days": (pa.array([2**30, 1], pa.date32()), [2**30, "1970-01-02"]),
    "times": (pa.array([2**62, 0], pa.timestamp("us")), [2**62, "1970-01-01T00:00:00"]),
    "uuid": (pa.array([b"0" * 16, None], pa.binary(16)).cast(pa.uuid()), ["30303030-3030-3030-3030-303030303030", None]),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", None])), ["{}", None]),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None], pa.int8())), [True, None]),
    "same names": (pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], names=["x", "x"]), [{"x": 3}, {"x": 4}]),
    "null": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_column_of_any_type_goes_into_the_metadata_object(tmp_path: Path, name: str) -> None:
    column, expected = VALUES[name]
    shard = write(tmp_path, {"image": [b"1", b"2"], "caption": ["a", "b"], "value": column})
    rows, reader = rows_of(shard)
    assert ([row["samples_error"] for row in rows], reader.gaps) == ([None, None], [])
    for order in ([0, 1], [1]):
        found = list(fetch(shard, pa.Table.from_pylist([rows[i] for i in order], SAMPLES)))
        assert [image for image, _ in found] == [rows[i]["image"] for i in order]
        assert [json.loads(one or b"")["value"] for _, one in found] == [expected[i] for i in order]


def test_what_arrow_cannot_read_is_a_gap_that_says_why(tmp_path: Path) -> None:
    value = pa.DictionaryArray.from_arrays(pa.array([0, 1]), bad_texts(pa.string()))
    rows, reader = rows_of(write(tmp_path, {"image": [b"1", b"2"], "caption": ["a", "b"], "value": value}))
    assert (rows, [(gap.kind, gap.samples) for gap in reader.gaps]) == ([], [("corrupt_data", 2)])
    assert "UTF8" in reader.gaps[0].detail


def dictionary(values: list[Any]) -> pa.Array:
    return pa.array(values).dictionary_encode()


def test_images_of_one_length_are_read(tmp_path: Path) -> None:
    image = JPEG.ljust(65, b"\x00")
    for kind, value in ((pa.binary(65), image), (pa.struct([("bytes", pa.binary(65))]), {"bytes": image})):
        shard = write(tmp_path, {"image": pa.array([value, None], kind), "caption": ["a", "b"]})
        rows, _ = rows_of(shard)
        assert [(row["image"], row["samples_error"]) for row in rows] == [(image, None), (None, "missing_image")]
        assert [found for found, _ in fetch(shard, pa.Table.from_pylist(rows[:1], SAMPLES))] == [image]


@pytest.mark.parametrize("image", [
    pa.array([b"1", None], pa.binary_view()), pa.array([b"1", None], pa.large_binary()), dictionary([b"1", None]),
    pa.array([{"bytes": b"1", "path": "a.jpg"}, None], pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])),
], ids=lambda array: str(array.type))
@pytest.mark.parametrize("caption", [
    pa.array(["é", None], pa.string_view()), pa.array(["é", None], pa.large_string()), dictionary(["é", None]),
    pa.array(["é".encode(), None], pa.binary()), pa.array(["é".encode(), None], pa.binary_view()),
], ids=lambda array: str(array.type))
def test_images_and_captions_of_any_type_are_read(tmp_path: Path, image: pa.Array, caption: pa.Array) -> None:
    shard = write(tmp_path, {"image": image, "caption": caption, "original_width": dictionary([640, 1])})
    rows, _ = rows_of(shard)
    assert [(row["image"], row["caption"], row["source_width"], row["samples_error"]) for row in rows] == [
        (b"1", "é", 640, None), (None, None, 1, "missing_image")]
    assert [found for found, _ in fetch(shard, pa.Table.from_pylist(rows[:1], SAMPLES))] == [b"1"]


def test_all_other_columns_become_the_metadata_object_and_rows_come_in_the_order_asked(tmp_path: Path) -> None:
    count = 500
    images, captions = [b"%d" % i for i in range(count)], [str(i) for i in range(count)]
    columns = {"image": images, "caption": captions, "score": [i / 4 for i in range(count)]}
    shard = write(tmp_path, columns, row_group_size=90)
    table = pa.Table.from_batches(list(read(shard)))
    for order in ([499, 0, 89, 90, 3, 3, 250], list(range(0, 500, 7)), list(range(499, -1, -1))):
        found = list(fetch(shard, table.take(pa.array(order))))
        assert [image for image, _ in found] == [b"%d" % i for i in order]
        assert [json.loads(o or b"") for _, o in found] == [{"caption": str(i), "score": i / 4} for i in order]


def test_values_that_json_does_not_know_are_said_in_a_way_it_does() -> None:
    when = datetime.datetime(2026, 11, 22, 17, 0)
    value = {"a": [b"\x00", float("nan"), when, decimal.Decimal("1.50"), None, True], "b": {"c": float("inf")}}
    assert plain(value) == {"a": ["AA==", None, "2026-11-22T17:00:00", "1.50", None, True], "b": {"c": None}}
    json.dumps(plain(value), allow_nan=False)


def test_batches_are_bounded_in_rows_and_in_bytes(tmp_path: Path) -> None:
    shard = write(tmp_path, {"image": [b"x" * 1000] * 100, "caption": ["c"] * 100}, row_group_size=30)
    assert [batch.num_rows for batch in read(shard, batch_rows=40)] == [40, 40, 20]
    assert [batch.num_rows for batch in read(shard, batch_bytes=10_000)] == [10] * 10


def test_a_row_group_that_cannot_be_decoded_is_named_and_costs_no_other(tmp_path: Path) -> None:
    images = [bytes([i]) * 4000 for i in range(90)]
    write(tmp_path, {"image": images, "caption": ["c"] * 90}, row_group_size=30, compression="zstd", use_dictionary=False)
    shard = damaged(tmp_path, group=1, column=0)
    rows, reader = rows_of(shard)
    assert [row["image_offset"] for row in rows] == [*range(30), *range(60, 90)]
    assert [row["image"] for row in rows] == images[:30] + images[60:]
    assert [(gap.kind, gap.offset, gap.samples) for gap in reader.gaps] == [("corrupt_data", 30, 30)]


@pytest.mark.parametrize("column", [0, 2])
def test_rows_before_a_damaged_page_are_read_and_can_be_fetched_again(tmp_path: Path, column: int) -> None:
    """Damage in a column that only the metadata object needs counts as well: otherwise export would meet it first."""
    images = [bytes([i]) * 3000 for i in range(200)]
    columns = {"image": images, "caption": ["c"] * 200, "score": [os.urandom(400) for _ in range(200)]}
    write(tmp_path, columns, use_dictionary=False, compression="none", data_page_size=1000, write_batch_size=10)
    shard = damaged(tmp_path, group=0, column=column, start=0.7)
    rows, reader = rows_of(shard)
    assert [(gap.kind, gap.offset, gap.samples) for gap in reader.gaps] == [("corrupt_data", 128, 72)]
    assert [row["image"] for row in rows] == images[:128]
    chosen = pa.Table.from_pylist(rows, SAMPLES).take(pa.array([5, 127]))
    assert [image for image, _ in fetch(shard, chosen)] == [images[5], images[127]]


def test_a_column_that_fills_the_memory_out_of_a_few_bytes_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.input.parquet.MAX_IMAGE", 1 << 20)
    shard = write(tmp_path, {"image": [bytes(2 << 20)], "caption": ["c"]}, compression="zstd", use_dictionary=False)
    rows, reader = rows_of(shard)
    assert rows == []
    assert [(gap.kind, gap.samples) for gap in reader.gaps] == [("corrupt_data", 1)]
    assert "column image is a decompression bomb" in reader.gaps[0].detail


def test_a_column_name_that_occurs_twice_names_no_column(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([b"1"]), pa.array(["a"]), pa.array(["b"])], names=["image", "caption", "caption"])
    rows, _ = rows_of(write(tmp_path, twice))
    assert [(row["image"], row["samples_error"]) for row in rows] == [(b"1", "missing_caption")]


def test_facts_of_an_odd_type_are_left_out(tmp_path: Path) -> None:
    sizes = pa.array([2**62], pa.timestamp("us"))
    columns = {"image": [b"1"], "caption": ["c"], "original_width": sizes, "uid": [7], "day": pa.array([2**30], pa.date32())}
    shard = write(tmp_path, columns)
    rows, _ = rows_of(shard)
    assert [(row["source_width"], row["source_uid"], row["samples_error"]) for row in rows] == [(None, None, None)]
    [(_, found)] = fetch(shard, pa.Table.from_pylist(rows, SAMPLES))
    assert json.loads(found or b"") == {"caption": "c", "original_width": 2**62, "uid": 7, "day": 2**30}


@pytest.mark.parametrize(("keep", "kind"), [(500, "truncated"), (0, "not_an_archive")])
def test_a_file_without_its_footer_is_named(tmp_path: Path, keep: int, kind: str) -> None:
    write(tmp_path, {"image": [b"x" * 1000], "caption": ["c"]})
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    rows, reader = rows_of(discover([str(path)])[0])
    assert (rows, [gap.kind for gap in reader.gaps]) == ([], [kind])


def test_a_shard_that_shrank_since_it_was_read_is_an_error_that_names_it(tmp_path: Path, archive: Callable[..., Path]) -> None:
    shard = write(tmp_path, {"image": [b"1", b"2"], "caption": ["a", "b"]})
    table = pa.Table.from_batches(list(read(shard)))
    pq.write_table(pa.table({"image": [b"1"], "caption": ["a"]}), shard.url)
    with pytest.raises(InputError, match=r"a\.parquet changed since it was read"):
        list(fetch(shard, table))
    path = archive(("a.jpg", b"12345"), ("a.txt", b"t"))
    [tar] = discover([str(path)])
    table = pa.Table.from_batches(list(read(tar)))
    path.write_bytes(path.read_bytes()[:514])
    with pytest.raises(InputError, match=r"a\.tar changed since it was read \(2 bytes where 5 were\)"):
        list(fetch(tar, table))
