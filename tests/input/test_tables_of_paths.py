"""Tables of image paths and captions become shards."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.input.loose.columns import Columns
from pipeline.input.loose.items import Candidate, LeftOut
from pipeline.input.loose.separated import MAX_LINES
from pipeline.input.loose.tables import table_items
from pipeline.input.samples import uid_of
from pipeline.input.values import is_bytes
from pipeline.store.store import Store
from tests.loose import JPEG, files, packed, reasons, samples

CAPTIONS = {"imgs/a.jpg": "a, with \"quotes\"", "imgs/B.JPG": "zwei Bäume", "imgs/c.d.png": "雪"}
UIDS = {uid_of(JPEG + path.encode(), text.encode()) for path, text in CAPTIONS.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures; the tables of the tests lie beside their folder."""
    files(tmp_path / "in", **{path: JPEG + path.encode() for path in CAPTIONS})
    return tmp_path / "in"


def separated(delimiter: str, image: str = "image", caption: str = "caption", **options: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, **options)
    writer.writerow(["id", image, caption])
    writer.writerows([str(i), *pair] for i, pair in enumerate(CAPTIONS.items()))
    return text.getvalue()


def lines() -> bytes:
    return b"".join(json.dumps({"file_name": path, "text": text}).encode() + b"\n" for path, text in CAPTIONS.items())


def parquet(kind: pa.DataType) -> bytes:
    buffer = io.BytesIO()
    columns = {"filepath": pa.array(CAPTIONS.keys(), kind), "title": pa.array(CAPTIONS.values(), kind), "x": [b"\xff", None, b""]}
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


TABLES: dict[str, Callable[[], bytes]] = {
    "a.csv": lambda: separated(",").encode(),
    "windows.csv": lambda: b"\xef\xbb\xbf" + separated(";", "Image Path", "Text").encode(),
    "UPPER.CSV": lambda: separated("|", "image_name", " comment").encode(),
    "open_clip.tsv": lambda: separated("\t", "filepath", "title").encode(),
    "plain.tsv": lambda: ("path\tcaption\n" + "".join(f"{path}\t{text}\n" for path, text in CAPTIONS.items())).encode(),
    "excel.tsv": lambda: separated("\t").encode("utf-16"),
    "metadata.jsonl": lines,
    "a.ndjson.gz": lambda: gzip.compress(lines()),
    "a.csv.zst": lambda: pa.compress(separated(",").encode(), codec="zstd", asbytes=True),
    "text.parquet": lambda: parquet(pa.string()),
    "view.parquet": lambda: parquet(pa.string_view()),
    "large.parquet": lambda: parquet(pa.large_string()),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_paths_becomes_what_the_same_pairs_are_in_a_tar(folder: Path, tmp_path: Path, name: str) -> None:
    files(folder, **{name: TABLES[name]()})
    answer = packed(folder / name, output=tmp_path / "out")
    rows = samples(tmp_path / "out")
    assert {row["uid"] for row in rows.values()} == UIDS
    assert list(rows) == ["000000000", "000000001", "000000002"]
    assert (answer.left_out, answer.without_caption, answer.hint, answer.incomplete) == ({}, 0, "", False)


def test_the_row_is_the_metadata_and_several_captions_are_several_samples(folder: Path, tmp_path: Path) -> None:
    rows = [{"image": "imgs/a.jpg", "captions": ["one", "two"], "uid": "u1", "original_width": 40, "odd": float("nan")},
            {"image": "imgs/a.jpg", "captions": ["three"]}, {"image": "imgs/a.jpg", "captions": []},
            {"image": "imgs/a.jpg", "captions": "\ud83d half"}]
    files(folder, **{"t.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)})
    packed(folder / "t.jsonl", output=tmp_path / "out")
    found = samples(tmp_path / "out")
    assert {key: row["caption"] for key, row in found.items()} == {
        "000000000-0": "one", "000000000-1": "two", "000000001": "three", "000000002": None, "000000003": "\ufffd half"}
    assert (found["000000000-1"]["source_uid"], found["000000000-1"]["source_width"]) == ("u1", 40)
    assert {row["image"] for row in found.values()} == {JPEG + b"imgs/a.jpg"}


def test_a_table_in_another_encoding_is_packed_as_it_is_or_as_it_was_said_to_be(folder: Path, tmp_path: Path) -> None:
    files(folder, **{"imgs/é.jpg": JPEG, "t.csv": "path,caption\nimgs/a.jpg,café\n".encode("cp1252")})
    answer = packed(folder / "t.csv", output=tmp_path / "raw")
    assert [row["uid"] for row in samples(tmp_path / "raw").values()] == [uid_of(JPEG + b"imgs/a.jpg", b"caf\xe9")]
    assert (answer.not_utf8, answer.incomplete) == (1, False)
    assert "--encoding cp1252" in answer.hint
    files(folder, **{"t.csv": "path,caption\nimgs/é.jpg,café\n".encode("cp1252")})
    packed(folder / "t.csv", output=tmp_path / "said", encoding="cp1252")
    assert [row["uid"] for row in samples(tmp_path / "said").values()] == [uid_of(JPEG, "café".encode())]
    with pytest.raises(InputError, match="usual ones are utf-8, cp1252"):
        packed(folder / "t.csv", output=tmp_path / "other", encoding="windoof")


def test_rows_that_give_no_sample_are_counted_and_named(folder: Path, tmp_path: Path) -> None:
    files(folder, **{"imgs/noise": b"no image", "imgs/picture": JPEG, "t.csv": (
        b'image,caption\n'
        b'imgs/a.jpg,good\n'
        b'imgs/gone.jpg,gone\n'
        b'imgs/a.jpg,a cat, sitting\n'             # nobody knows where this caption ends
        b'imgs/a.jpg,"a stray quote\n'
        b'imgs/a.jpg,"another one\n'               # would end it, with something behind it
        b',nothing\n'
        b'\n'
        b'https://example.org/a.jpg,elsewhere\n'
        b'imgs/noise,no image\n'
        b'imgs/picture,an image by its first bytes\n'
        b'imgs,a folder\n'
        b'imgs\\a.jpg,as Windows writes it\n'
        b'imgs/a.jpg\n'
    )})
    answer = packed(folder / "t.csv", output=tmp_path / "out")
    captions = [row["caption"] for row in samples(tmp_path / "out").values()]
    assert captions == ["good", "an image by its first bytes", "as Windows writes it", None]
    assert {reason: left.examples for reason, left in answer.left_out.items()} == {
        "bad_row": ("t.csv line 4", "t.csv line 5", "t.csv line 6"), "no_path": ("t.csv line 7",),
        "no_such_file": ("t.csv line 3: imgs/gone.jpg",),
        "url": ("t.csv line 9: https://example.org/a.jpg",), "not_an_image": ("t.csv line 10: imgs/noise",),
        "not_a_file": ("t.csv line 12: imgs",)}
    assert answer.incomplete


@pytest.mark.parametrize(("record", "last"), [
    ('imgs/a.jpg,"an open quote\n', ""),
    ('imgs/a.jpg,"an open quote\n', 'imgs/a.jpg,"a quoted caption"\n'),
    ('imgs/a.jpg,"an open quote\n', 'imgs/a.jpg,a screen of 12"\n'),   # it would be a field of 60 lines
    ('"imgs/a.jpg,an open quote\n', '"imgs/a.jpg","one"\n'),
], ids=["never closed", "by a quoted caption", "by a quote at the end", "at the first column"])
def test_a_stray_quote_costs_its_line_and_no_row_behind_it(folder: Path, record: str, last: str) -> None:
    rows = [f"imgs/a.jpg,plain caption {i}\n" for i in range(130)]
    legal = 'imgs/a.jpg,"two\nlines, ""both"" good"\n'
    files(folder, **{"t.csv": "".join(["image,caption\n", *rows[:3], record, *rows[3:60], last, *rows[60:], legal]).encode()})
    items = list(table_items(str(folder / "t.csv"), Columns()))
    captions = [item.caption.decode() for item in items if isinstance(item, Candidate) and item.caption is not None]
    assert [caption for caption in captions if caption.startswith("plain")] == [f"plain caption {i}" for i in range(130)]
    assert captions[-1] == 'two\nlines, "both" good'
    assert [item.named for item in items if isinstance(item, LeftOut)] == ["t.csv line 5"]


def test_a_caption_may_come_first_and_have_lines_but_not_without_end(folder: Path) -> None:
    table = ['caption,image,more\n', '"one\ntwo",imgs/a.jpg,"x\ny"\n', '"one\n\n, three",imgs/a.jpg,1\n',
             '"short\nof a column",imgs/a.jpg\n', '"' + "line\n" * MAX_LINES + '",imgs/a.jpg,\n', "good,imgs/a.jpg,\n"]
    files(folder, **{"t.csv": "".join(table).encode()})
    items = list(table_items(str(folder / "t.csv"), Columns()))
    assert [item.caption for item in items if isinstance(item, Candidate)][:2] == [b"one\ntwo", b"one\n\n, three"]
    assert items[-1].named == f"t.csv line {11 + MAX_LINES}: imgs/a.jpg"
    assert LeftOut("bad_row", "t.csv line 8") in items
    assert LeftOut("bad_row", "t.csv line 10") in items


@pytest.mark.parametrize(("encoding", "message"), [
    *[(name, f"{name}' is no encoding of texts; usual ones are utf-8")
      for name in ("hex", "rot13", "undefined", "punycode", "idna", "none")],
    ("utf-16", r"no byte order mark, which --encoding 'utf-16' needs: say utf-16-le or utf-16-be"),
    ("UTF_32", r"no byte order mark, which --encoding 'UTF_32' needs: say utf-32-le or utf-32-be"),
])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_an_encoding_that_cannot_be_that_of_the_table_is_an_error_that_says_what_to_write(
    folder: Path, tmp_path: Path, name: str, encoding: str, message: str,
) -> None:
    files(folder, **{name: b"path,caption\nimgs/a.jpg,a caption\n"})
    with pytest.raises(InputError, match=message):
        packed(folder / name, output=tmp_path / "out", encoding=encoding)


@pytest.mark.parametrize("kind", [
    pa.string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.string()),
    pa.large_list(pa.large_string()), pa.binary(), pa.list_(pa.binary()),
], ids=str)
def test_a_caption_of_a_parquet_that_is_not_utf8_costs_no_other_one(folder: Path, tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([b"caf\xe9", "é".encode(), None])
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_bytes(kind.value_type if lists else kind):
        values = unchecked(values)
    if lists:
        column = type(pa.array([], kind)).from_arrays([0, 1, 2, 2], values.cast(kind.value_type))
    else:
        column = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    assert column.type == kind
    path = b"imgs/a.jpg" if is_bytes(kind) else "imgs/a.jpg"
    pq.write_table(pa.table({"path": [path] * 3, "caption": column}), folder / "t.parquet")
    answer = packed(folder / "t.parquet", output=tmp_path / "out")
    assert [row["uid"] for row in samples(tmp_path / "out").values()] == [
        uid_of(JPEG + b"imgs/a.jpg", caption) for caption in (b"caf\xe9", "é".encode(), None)]
    assert (answer.samples, answer.not_utf8, answer.without_caption) == (3, 1, 1)


def unchecked(values: pa.Array) -> pa.Array:
    """Bytes as texts, valid or not."""
    return pa.Array.from_buffers(pa.string(), len(values), values.buffers(), values.null_count)


def test_each_value_of_a_parquet_reaches_the_metadata_as_strict_json(folder: Path) -> None:
    table = pa.table({
        "path": ["imgs/a.jpg"] * 2, "when": pa.array([0, 1 << 62], pa.timestamp("us")), "raw": [b"\xff", None],
        "names": pa.ListArray.from_arrays([0, 1, 2], unchecked(pa.array([b"\xe9", b"e"]))), "far": [float("inf"), 1.5]})
    pq.write_table(table, folder / "t.parquet")
    items = table_items(str(folder / "t.parquet"), Columns())
    assert [json.loads(item.row or b"") for item in items if isinstance(item, Candidate)] == [
        {"path": "imgs/a.jpg", "when": "1970-01-01T00:00:00", "raw": "/w==", "names": ["\ufffd"], "far": None},
        {"path": "imgs/a.jpg", "when": 1 << 62, "names": ["e"], "far": 1.5}]


def test_whole_numbers_beyond_64_bits_are_text_in_the_metadata(folder: Path) -> None:
    files(folder, **{"t.jsonl": b'{"path": "imgs/a.jpg", "most": 18446744073709551615, "more": [18446744073709551616]}\n'})
    item, = table_items(str(folder / "t.jsonl"), Columns())
    assert isinstance(item, Candidate)
    assert item.row == b'{"path": "imgs/a.jpg", "most": 18446744073709551615, "more": ["18446744073709551616"]}'


def test_lines_that_are_no_json_and_lines_without_an_end_cost_themselves(folder: Path, tmp_path: Path) -> None:
    good = b'{"path": "imgs/a.jpg", "text": "t"}\n'
    deep = b'{"path": "imgs/a.jpg", "text": "t", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    endless = b'{"path": "' + b"x" * (9 << 20)
    files(folder, **{"t.jsonl": good + b"[1]\n\n{\n" + deep + b'{"path": ["imgs/a.jpg"]}\n' + good + endless})
    answer = packed(folder / "t.jsonl", output=tmp_path / "out")
    assert samples(tmp_path / "out").keys() == {"000000000", "000000005"}
    assert reasons(answer) == {"bad_row": 6, "no_path": 1}


@pytest.mark.parametrize(("name", "content", "message"), [
    ("t.csv", b"id,what\n1,2\n", r"t\.csv': no column of image paths among 'id', 'what'; name it by --image-column NAME"),
    ("t.csv", b"imgs/a.jpg,a caption\n", r"first line is data \('imgs/a\.jpg', 'a caption'\): put the names"),
    ("t.csv", b"path,path,caption\na,b,c\n", r"two columns are called 'path'"),
    ("t.csv", b"path,caption,x,y,x,,\na,b,1,2,3,,\n", r"two columns are called 'x': rename one"),
    ("t.csv", "path,caption\na,b\n".encode("utf-16-le"), r"--encoding utf-16-le is missing"),
    ("t.parquet", b"PAR1 and no more", r"no parquet file that can be read"),
    ("t.csv.gz", gzip.compress(b"path,caption\n" + bytes(range(256)).hex().encode())[:-40], r"compressed bytes are damaged"),
])
def test_a_table_that_cannot_be_packed_is_named_before_anything_is_written(
    folder: Path, tmp_path: Path, name: str, content: bytes, message: str,
) -> None:
    files(folder, **{name: content})
    with pytest.raises(InputError, match=message):
        packed(folder / name, output=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


def test_columns_are_found_by_the_names_that_were_given(folder: Path, tmp_path: Path) -> None:
    files(folder, **{"t.csv": b"\xef\xbb\xbfid,image,what\nimgs/a.jpg,imgs/B.JPG,w\n"})
    packed(folder / "t.csv", output=tmp_path / "out", image_column="id", caption_column="what")
    assert [row["uid"] for row in samples(tmp_path / "out").values()] == [uid_of(JPEG + b"imgs/a.jpg", b"w")]
    for options in ({"image_column": "no"}, {"caption_column": "no"}):
        with pytest.raises(InputError, match=r"no column 'no' among 'id', 'image', 'what'"):
            packed(folder / "t.csv", output=tmp_path / "other", **options)


def test_a_parquet_of_the_images_themselves_needs_no_packing(folder: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [JPEG], "caption": ["c"]}), folder / "t.parquet")
    with pytest.raises(InputError, match="`shardmill run` reads it as it is"):
        packed(folder / "t.parquet", output=tmp_path / "out")


def test_paths_begin_at_the_root_that_was_given(folder: Path, tmp_path: Path) -> None:
    files(tmp_path / "tables", **{"t.csv": f"path,caption\nimgs/a.jpg,1\n{folder}/imgs/B.JPG,2\nfile://{folder}/imgs/c.d.png,3\n".encode()})
    answer = packed(tmp_path / "tables" / "t.csv", output=tmp_path / "out", root=str(folder))
    assert len(samples(tmp_path / "out")) == answer.samples == 3
    answer = packed(tmp_path / "tables" / "t.csv", output=tmp_path / "none")
    assert reasons(answer) == {"no_such_file": 1, "outside_root": 2}
    assert "--root FOLDER allows" in answer.hint


def test_a_folder_with_a_table_and_no_captions_says_that_the_table_is_what_to_pack(folder: Path, tmp_path: Path) -> None:
    files(folder, **{"metadata.jsonl": lines()})
    answer = packed(folder, output=tmp_path / "out")
    assert (answer.samples, answer.without_caption) == (3, 3)
    assert "there is a table, metadata.jsonl: pack the table" in answer.hint


def test_a_table_behind_an_s3_api_names_files_beside_it(anywhere: str) -> None:
    store = Store(f"{anywhere}/in")
    for path in CAPTIONS:
        store.write(path, JPEG + path.encode())
    store.write("t.parquet", parquet(pa.string()))
    store.write("sub/t.csv", f"path,caption\n../imgs/a.jpg,1\n{store.url}/imgs/B.JPG,2\n./no.jpg,3\n".encode())
    packed(f"{store.url}/t.parquet", output=f"{anywhere}/out")
    assert {row["uid"] for row in samples(f"{anywhere}/out").values()} == UIDS
    answer = packed(f"{store.url}/sub/t.csv", output=f"{anywhere}/none")
    assert reasons(answer) == {"outside_root": 2, "no_such_file": 1}
