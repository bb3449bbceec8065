"""Tars as the open web has them. Each kind of damage has a named outcome and harms nothing else."""

import gzip
import hashlib
import io
import json
import random
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.input.discovery import discover
from pipeline.input.members import pax_records, split_name
from pipeline.input.metadata import MAX_DEPTH, nesting_depth
from pipeline.input.reader import ShardReader, fetch, read, write_tar
from pipeline.input.samples import MAX_TEXT, WINDOW_SAMPLES, Reading
from pipeline.input.tar import MAX_EXTENSION


def rows_of(path: Path, **options: Any) -> tuple[list[dict[str, Any]], ShardReader]:
    [shard] = discover([str(path)])
    reader = read(shard, **options)
    rows = [row for batch in reader for row in batch.to_pylist()]
    assert reader.rows == len(rows)
    return rows, reader


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(row["key"], row["samples_error"]) for row in rows]


def kinds(reader: ShardReader) -> list[str]:
    return [gap.kind for gap in reader.gaps]


def samples(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    """Members of `count` samples of 3 members each: 512 + 1024, 512 + 512 and 512 + 512 bytes."""
    return [
        member
        for i in range(start, start + count)
        for member in ((f"{i:03d}.jpg", b"%03d" % i * 200), (f"{i:03d}.json", b"{}"), (f"{i:03d}.txt", b"caption %03d" % i))
    ]


SAMPLE_BYTES = 1536 + 1024 + 1024


def test_every_sample_of_a_whole_tar_is_read(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(*samples(5)))
    assert outcomes(rows) == [(f"{i:03d}", None) for i in range(5)]
    assert [row["image"] for row in rows] == [b"%03d" % i * 200 for i in range(5)]
    assert [row["caption"] for row in rows] == [f"caption {i:03d}" for i in range(5)]
    assert kinds(reader) == []
    assert reader.members == 15
    assert not reader.ignored


# Broken archives


def test_a_cut_at_a_member_boundary_is_reported(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(*samples(5), cut=2 * SAMPLE_BYTES))
    assert outcomes(rows) == [("000", None), ("001", None)]
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("truncated", 2 * SAMPLE_BYTES)]


def test_a_cut_between_the_members_of_a_sample_leaves_half_a_sample_with_its_reason(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(*samples(5), cut=2 * SAMPLE_BYTES + 1536))
    assert outcomes(rows) == [("000", None), ("001", None), ("002", "missing_caption")]
    assert kinds(reader) == ["truncated"]


def test_a_cut_in_a_header_keeps_what_came_before(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(*samples(5), cut=2 * SAMPLE_BYTES + 100))
    assert outcomes(rows) == [("000", None), ("001", None)]
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("truncated", 2 * SAMPLE_BYTES)]
    assert "a part of a header" in reader.gaps[0].detail


def test_a_cut_in_data_keeps_what_came_before_and_names_the_member(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(*samples(5), cut=2 * SAMPLE_BYTES + 512 + 599))
    assert outcomes(rows) == [("000", None), ("001", None), ("002", "unreadable_member")]
    assert rows[2]["image"] is None
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("truncated", 2 * SAMPLE_BYTES + 512)]
    assert "'002.jpg' claims 600 bytes, the file has 599 more" in reader.gaps[0].detail


def test_a_cut_in_the_padding_loses_nothing_but_is_reported(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(*samples(1), cut=SAMPLE_BYTES - 1))
    assert outcomes(rows) == [("000", None)]
    assert kinds(reader) == ["truncated"]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"<html>not found</html>", bytes(range(256)) * 40, b"PK\x03\x04" + b"\0" * 5000], ids=len
)
def test_a_file_that_is_no_tar_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    rows, reader = rows_of(tmp_path / "a.tar")
    assert rows == []
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("not_an_archive", 0)]


def test_a_tar_without_members_has_no_samples_and_no_gap(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive())
    assert (rows, reader.gaps) == ([], [])


@pytest.mark.parametrize("member", [0, 3, 5])
def test_a_corrupt_header_costs_its_own_member_only(archive: Callable[..., Path], member: int) -> None:
    path = archive(*samples(4))
    content = bytearray(path.read_bytes())
    offset = (member // 3) * SAMPLE_BYTES + [0, 1536, 2560][member % 3]
    content[offset : offset + 90] = b"\xff" * 90
    path.write_bytes(content)
    rows, reader = rows_of(path)
    reason = "missing_image" if member % 3 == 0 else "missing_caption"
    assert outcomes(rows) == [(f"{i:03d}", reason if i == member // 3 else None) for i in range(4)]
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("corrupt_header", offset)]


def test_a_size_that_claims_more_than_the_file_has_costs_its_own_member_only(archive: Callable[..., Path]) -> None:
    path = archive(*samples(4))
    content = bytearray(path.read_bytes())
    header = tarfile.TarInfo("001.jpg")
    header.size = 7 << 30
    content[SAMPLE_BYTES : SAMPLE_BYTES + 512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(content)
    rows, reader = rows_of(path)
    assert outcomes(rows) == [("000", None), ("001", "unreadable_member"), ("002", None), ("003", None)]
    assert kinds(reader) == ["corrupt_header"]
    assert "'001.jpg' claims 7516192768 bytes" in reader.gaps[0].detail


def test_a_size_that_claims_less_than_there_is_is_reported_where_the_next_header_should_be(archive: Callable[..., Path]) -> None:
    path = archive(("0.jpg", b"\1" * 2000), ("0.txt", b"a"), *samples(1))
    content = bytearray(path.read_bytes())
    header = tarfile.TarInfo("0.jpg")
    header.size = 600
    content[:512] = header.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(content)
    rows, reader = rows_of(path)
    assert outcomes(rows) == [("0", None), ("000", None)]
    assert len(rows[0]["image"]) == 600
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("corrupt_header", 512 + 1024)]


@pytest.mark.parametrize("lost", [1, 100, 512, 1000])
def test_bytes_missing_from_a_member_cost_it_alone(archive: Callable[..., Path], lost: int) -> None:
    """Its size then reaches into the next sample, whose header is off its block."""
    path = archive(("a.jpg", b"\1" * 5000), ("a.txt", b"a"), *samples(2))
    content = path.read_bytes()
    path.write_bytes(content[:1000] + content[1000 + lost :])
    rows, reader = rows_of(path)
    assert [key for key, _ in outcomes(rows)] == ["a", "000", "001"]
    assert [error for _, error in outcomes(rows)[1:]] == [None, None]
    assert set(kinds(reader)) == {"corrupt_header"}


def test_an_image_may_hold_a_tar_but_not_its_samples(archive: Callable[..., Path]) -> None:
    """A header inside a member whose size is right adds no sample; at a block's boundary it is named."""
    inner = archive(*samples(1), name="inner.tar").read_bytes()
    for lead, found in ((b"\xff" * 512, ["corrupt_header"]), (b"\xff" * 100, [])):
        rows, reader = rows_of(archive(("a.jpg", lead + inner + b"\xff"), ("a.txt", b"a"), *samples(1, start=5)))
        assert outcomes(rows) == [("a", None), ("005", None)]
        assert rows[0]["image"] == lead + inner + b"\xff"
        assert kinds(reader) == found


def test_an_archive_among_the_members_is_no_damage(archive: Callable[..., Path]) -> None:
    inner = archive(*samples(3), name="inner.tar").read_bytes()
    rows, reader = rows_of(archive(("a.tar", inner), *samples(1)))
    assert outcomes(rows) == [("000", None)]
    assert (reader.gaps, reader.ignored) == ([], {"other extension": 1})


def test_a_negative_size_is_no_header(archive: Callable[..., Path]) -> None:
    path = archive(*samples(2))
    content = bytearray(path.read_bytes())
    header = tarfile.TarInfo("000.jpg")
    header.size = -1
    content[:512] = header.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(content)
    rows, reader = rows_of(path)
    assert outcomes(rows) == [("000", "missing_image"), ("001", None)]
    assert kinds(reader) == ["corrupt_header"]


def test_archives_joined_in_one_file_are_both_read(archive: Callable[..., Path]) -> None:
    first, second = archive(*samples(2), name="1.tar"), archive(*samples(2, start=2), name="2.tar")
    first.write_bytes(first.read_bytes() + second.read_bytes())
    rows, reader = rows_of(first)
    assert outcomes(rows) == [(f"{i:03d}", None) for i in range(4)]
    assert reader.gaps == []


def test_a_hole_of_zeros_between_members_is_reported(archive: Callable[..., Path]) -> None:
    path = archive(*samples(12))
    content = bytearray(path.read_bytes())
    content[SAMPLE_BYTES : 11 * SAMPLE_BYTES] = bytes(10 * SAMPLE_BYTES)
    path.write_bytes(content)
    rows, reader = rows_of(path)
    assert outcomes(rows) == [("000", None), ("011", None)]
    assert [(gap.kind, gap.offset) for gap in reader.gaps] == [("corrupt_header", SAMPLE_BYTES)]


def test_bytes_after_the_end_mark_are_reported(archive: Callable[..., Path]) -> None:
    path = archive(*samples(1))
    path.write_bytes(path.read_bytes() + b"junk" * 1000)
    rows, reader = rows_of(path)
    assert outcomes(rows) == [("000", None)]
    assert "4000 bytes after the end" in reader.gaps[0].detail


def test_fewer_samples_than_the_side_file_promises_are_counted(archive: Callable[..., Path], tmp_path: Path) -> None:
    path = archive(*samples(5), cut=2 * SAMPLE_BYTES)
    (tmp_path / "a_stats.json").write_text('{"successes": 5}')
    rows, reader = rows_of(path)
    assert len(rows) == 2
    assert [(gap.kind, gap.samples) for gap in reader.gaps] == [("truncated", None), ("missing_vs_sidecar", 3)]


def test_any_mutation_of_a_real_shard_is_read_without_an_exception_and_loses_nothing_unnamed(sample: Path, tmp_path: Path) -> None:
    whole = (sample / "00008.tar").read_bytes()
    expected = {row["key"]: row["uid"] for row in rows_of(sample / "00008.tar")[0]}
    for seed in range(60):
        rng = random.Random(seed)
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at, length = rng.randrange(len(content)), rng.choice([1, 8, 512, 5000])
            damage = rng.choice(["noise", "zeros", "remove", "cut", "repeat"])
            if damage == "noise":
                content[at : at + length] = rng.randbytes(length)
            elif damage == "zeros":
                content[at : at + length] = bytes(length)
            elif damage == "remove":
                del content[at : at + length]
            elif damage == "cut":
                del content[at:]
            else:
                content[at:at] = content[at - length : at]
            if not content:
                break
        path = tmp_path / f"{seed}.tar"
        path.write_bytes(content)
        rows, reader = rows_of(path)
        lost = expected.keys() - {row["key"] for row in rows}
        assert not lost or reader.gaps, f"seed {seed} lost {lost} and says nothing"


# Names and kinds of members


def test_the_key_ends_at_the_first_dot_of_the_base_name() -> None:
    assert split_name("img.v2.JPG") == ("img", "v2.jpg")
    assert split_name("a.b/c.d/e.Txt") == ("a.b/c.d/e", "txt")
    assert split_name("./a.jpg") == ("./a", "jpg")
    assert split_name("no extension")[1] == ""
    assert split_name("folder/.hidden.jpg")[1] == ""
    assert split_name("__meta__/a.jpg")[1] == ""
    assert split_name("__info__")[1] == ""
    assert split_name("__a.jpg") == ("__a", "jpg")


def test_keys_are_grouped_as_webdataset_groups_them(archive: Callable[..., Path]) -> None:
    names = ["d/x.jpg", "d/x.txt", "d.e/x.jpg", "d.e/x.txt", "y.v2.jpg", "y.txt", "Z.JPG", "Z.TXT", ".h.jpg", "n"]
    path = archive(*((name, name.encode()) for name in names))
    rows, reader = rows_of(path)
    import webdataset

    theirs = [sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False)]
    assert [row["key"] for row in rows] == theirs == ["d/x", "d.e/x", "y", "Z"]
    assert [row["samples_error"] for row in rows] == [None, None, "missing_image", None]
    assert reader.ignored == {"dots in the name": 1, "no extension": 2}
    assert reader.ignored.examples == {"dots in the name": ["y.v2.jpg"], "no extension": [".h.jpg", "n"]}


def test_what_is_ignored_is_counted_with_three_examples_of_each_reason(archive: Callable[..., Path]) -> None:
    names = [*(f"IMG 2023.11.0{i} at 10.02.jpg" for i in range(5)), *(f"{i}.heic" for i in range(4)), "a.jpg", "a.png", "a.txt"]
    rows, reader = rows_of(archive(*((name, name.encode()) for name in names)))
    assert [row["key"] for row in rows] == ["a"]
    assert reader.ignored == {"dots in the name": 5, "other extension": 4, "further image": 1}
    assert reader.ignored.examples == {"dots in the name": names[:3], "other extension": names[5:8], "further image": ["a.png"]}


def test_names_are_keys_and_never_paths(archive: Callable[..., Path]) -> None:
    names = ["../../etc/passwd", "/etc/shadow", "a/../../b", "C:\\x"]
    rows, reader = rows_of(archive(*((f"{name}.{end}", b"{}") for name in names for end in ("jpg", "txt"))))
    assert outcomes(rows) == [(name, None) for name in names]
    assert reader.gaps == []


def test_links_devices_and_folders_are_counted_and_passed_over(archive: Callable[..., Path]) -> None:
    members = []
    for name, kind in (("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE), ("c.jpg", tarfile.CHRTYPE),
                       ("b.jpg", tarfile.BLKTYPE), ("f.jpg", tarfile.FIFOTYPE), ("d.jpg", tarfile.DIRTYPE)):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        members.append(info)
    rows, reader = rows_of(archive(*members, *samples(1)))
    assert outcomes(rows) == [("000", None)]
    assert reader.ignored == {"symbolic link": 1, "hard link": 1, "device": 2, "fifo": 1, "folder": 1}
    assert reader.members == 9
    assert reader.gaps == []


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_come_back_whole_in_every_dialect(archive: Callable[..., Path], form: int) -> None:
    folder = "f" * 90 + "/" + "g" * 40 if form == tarfile.USTAR_FORMAT else "f" * 300
    name = f"{folder}/{'n' * 80}é"
    rows, reader = rows_of(archive((f"{name}.jpg", b"1"), (f"{name}.txt", b"2"), *samples(1), form=form))
    assert outcomes(rows) == [(name, None), ("000", None)]
    assert (reader.gaps, reader.members) == ([], 5)


def test_names_that_are_not_utf8_stay_apart(archive: Callable[..., Path]) -> None:
    members = []
    for name in (b"\xff", b"\xfe"):
        for end in (b".jpg", b".txt"):
            info = tarfile.TarInfo((name + end).decode("utf-8", "surrogateescape"))
            members.append(info)
    rows, _ = rows_of(archive(*members, form=tarfile.GNU_FORMAT))
    assert outcomes(rows) == [("\\xff", None), ("\\xfe", None)]


def test_pax_headers_may_say_more_and_a_size_in_them_counts(archive: Callable[..., Path]) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"comment": "x" * 2000, "mtime": "1.5"}
    rows, reader = rows_of(archive(info, ("a.txt", b"t"), form=tarfile.PAX_FORMAT))
    assert outcomes(rows) == [("a", None)]
    assert reader.gaps == []
    assert pax_records(b"12 size=600\n16 path=a\nb.jpg\n") == {"size": "600", "path": "a\nb.jpg"}
    assert pax_records(b"99 size=600\n") is None
    assert pax_records(b"0 a=b\n") is None


def test_a_giant_extended_header_is_passed_over_and_named(archive: Callable[..., Path]) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"comment": "x" * (MAX_EXTENSION + 1)}
    rows, reader = rows_of(archive(info, ("a.txt", b"t"), form=tarfile.PAX_FORMAT))
    assert outcomes(rows) == [("a", None)]
    assert kinds(reader) == ["corrupt_header"]


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_member_is_named_and_costs_only_its_sample(tmp_path: Path, form: str) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        for i in range(12):
            file.seek(i * 1_000_000)
            file.write(b"data")
        file.truncate(20_000_000)
    for name in ("a.txt", "b.jpg", "b.txt"):
        (tmp_path / name).write_bytes(b"x")
    command = ["tar", "--sparse", f"--format={form}", "-cf", "s.tar", "a.jpg", "a.txt", "b.jpg", "b.txt"]
    subprocess.run(command, cwd=tmp_path, check=True)
    rows, reader = rows_of(tmp_path / "s.tar")
    assert outcomes(rows) == [("a", "unreadable_member"), ("b", None)]
    assert reader.gaps == []
    assert reader.members == 4


# Samples


def test_interleaved_members_are_grouped_within_the_window(archive: Callable[..., Path]) -> None:
    keys = [f"{i:02d}" for i in range(WINDOW_SAMPLES)]
    members = [(f"{key}.{end}", f"{key} {end}".encode()) for end in ("jpg", "txt") for key in keys]
    rows, reader = rows_of(archive(*members))
    assert outcomes(rows) == [(key, None) for key in keys]
    assert [row["caption"] for row in rows] == [f"{key} txt" for key in keys]
    assert reader.gaps == []


def test_members_too_far_apart_are_named_on_both_sides(archive: Callable[..., Path]) -> None:
    keys = [f"{i:03d}" for i in range(WINDOW_SAMPLES + 6)]
    rows, _ = rows_of(archive(*((f"{key}.{end}", b"1") for end in ("jpg", "txt") for key in keys)))
    found = outcomes(rows)
    assert len([key for key, error in found if error == "missing_caption"]) >= 6
    assert all(key in {k for k, e in found if e == "missing_caption"} for key, error in found if error == "duplicate_key")
    assert {key for key, _ in found} == set(keys)


def test_a_repeated_key_keeps_the_first_sample_and_names_the_others(archive: Callable[..., Path]) -> None:
    members = [("a.jpg", b"1"), ("a.txt", b"one"), ("a.jpg", b"2"), ("a.txt", b"two"), *samples(100), ("a.jpg", b"3")]
    rows, _ = rows_of(archive(*members))
    assert outcomes([rows[0], rows[1], rows[-1]]) == [("a", None), ("a", "duplicate_key"), ("a", "duplicate_key")]
    assert (rows[0]["caption"], rows[1]["caption"]) == ("one", "two")
    assert len(rows) == 103


def test_of_several_images_the_first_that_open_clip_would_take_counts(archive: Callable[..., Path]) -> None:
    names = ("a.webp", "a.jpeg", "a.JPEG", "a.png", "a.txt", "b.jpeg", "b.webp", "b.txt")
    rows, reader = rows_of(archive(*((name, name.encode()) for name in names)))
    assert [(row["image_name"], row["image"], row["image_extension"]) for row in rows] == [
        ("a.png", b"a.png", "png"), ("b.jpeg", b"b.jpeg", "jpeg")
    ]
    assert reader.ignored == {"further image": 4}


def test_the_caption_is_the_text_or_else_a_field_of_the_metadata(archive: Callable[..., Path]) -> None:
    def one(key: str, *, txt: bytes | None = None, meta: bytes | None = None) -> Iterator[tuple[str, bytes]]:
        yield f"{key}.jpg", b"1"
        if txt is not None:
            yield f"{key}.txt", txt
        if meta is not None:
            yield f"{key}.json", meta

    members = [
        *one("both", txt=b"text", meta=b'{"caption": "field"}'), *one("field", meta=b'{"TEXT": "field", "caption": null}'),
        *one("neither", meta=b'{"title": "t"}'), *one("empty", txt=b"", meta=b'{"caption": "field"}'),
        *one("list", txt=b"text", meta=b"[1]"), *one("broken", txt=b"text", meta=b'{"a": '),
        *one("deep", txt=b"text", meta=b"[" * 100_000), *one("latin", txt=b"text", meta=b'{"a": "\xff"}'),
        *one("half", meta=b'{"caption": "a\\ud800b", "uid": "\\udfff"}'), *one("lost", meta=b'{"caption": "a'),
    ]
    path = archive(*members)
    rows, reader = rows_of(path)
    assert outcomes(rows) == [
        ("both", None), ("field", None), ("neither", "missing_caption"), ("empty", None), ("list", None),
        ("broken", None), ("deep", None), ("latin", None), ("half", None), ("lost", "bad_json"),
    ]
    assert [row["json_problem"] for row in rows[4:]] == ["not_an_object", "not_json", "too_deep", "not_utf8", None, "not_json"]
    assert reader.ignored == {
        f"metadata that is no JSON object: {why}": 1 for why in ("not_an_object", "not_json", "too_deep", "not_utf8")}
    failing, reader = rows_of(path, reading=Reading(keeps_bad_json=False))
    assert [row["key"] for row in failing if row["samples_error"] == "bad_json"] == ["list", "broken", "deep", "latin", "lost"]
    assert not reader.ignored
    assert [row["caption"] for row in rows[:4]] == ["text", "field", None, ""]
    assert (rows[8]["caption"], rows[8]["caption_raw"]) == ("a�b", b"a\xed\xa0\x80b")
    assert rows[8]["source_uid"] == "�"
    titled, _ = rows_of(path, reading=Reading(("title",)))
    assert titled[2]["caption"] == "t"


@pytest.mark.parametrize(("keys", "captions"), [
    (("txt", "caption"), ["text", "text", "field"]), (("caption", "txt"), ["field", "text", "field"]),
    (("caption",), ["field", None, "field"]), (("txt",), ["text", "text", None]), (("title", "caption"), ["field", None, "field"]),
])
def test_the_caption_is_the_first_of_the_keys_that_a_sample_has(
    archive: Callable[..., Path], keys: tuple[str, ...], captions: list[str | None],
) -> None:
    meta = b'{"caption": "field", "title": null}'
    path = archive(("a.jpg", b"1"), ("a.txt", b"text"), ("a.json", meta), ("b.jpg", b"1"), ("b.txt", b"text"), ("c.jpg", b"1"),
                   ("c.json", meta))
    rows, _ = rows_of(path, reading=Reading(keys))
    assert [row["caption"] for row in rows] == captions
    assert [row["samples_error"] for row in rows] == [None if caption else "missing_caption" for caption in captions]


def test_a_text_that_is_not_the_caption_may_be_too_long(archive: Callable[..., Path]) -> None:
    path = archive(("a.jpg", b"1"), ("a.txt", b"x" * (MAX_TEXT + 1)), ("a.json", b'{"caption": "field"}'))
    assert outcomes(rows_of(path)[0]) == [("a", "unreadable_member")]
    assert outcomes(rows_of(path, reading=Reading(("caption", "txt")))[0]) == [("a", None)]


def test_pictures_of_formats_that_a_recipe_may_allow_are_members_of_samples(archive: Callable[..., Path]) -> None:
    names = ("a.gif", "b.BMP", "c.tiff", "d.tif", "e.avif", "f.jfif", "g.gif", "g.jpg", "h.mp4")
    rows, reader = rows_of(archive(*((name, name.encode()) for name in names), *((f"{key}.txt", b"t") for key in "abcdefgh")))
    assert [row["image_name"] for row in rows] == ["a.gif", "b.BMP", "c.tiff", "d.tif", "e.avif", "f.jfif", "g.jpg", None]
    assert [row["image_extension"] for row in rows[:3]] == ["gif", "bmp", "tiff"]
    assert reader.ignored == {"further image": 1, "other extension": 1}


def test_members_that_are_not_adjacent_are_told_of_with_what_to_do(archive: Callable[..., Path]) -> None:
    keys = [f"{i:03d}" for i in range(WINDOW_SAMPLES + 6)]
    apart = [*((f"{key}.jpg", b"1") for key in keys), *((f"{key}.txt", b"t") for key in keys)]
    rows, reader = rows_of(archive(*apart, ("000.txt", b"u")))
    assert [row["samples_error"] for row in rows] == [
        *["missing_caption"] * len(keys), *["members_not_adjacent"] * len(keys), "duplicate_key"]
    [gap] = reader.gaps
    assert gap.kind == "members_not_adjacent"
    assert gap.detail.startswith(f"members of a sample are not adjacent: of {len(keys)} samples, first '000', some come more than")
    assert gap.detail.endswith("pack the tar with the members of each sample side by side, e.g. by tar --sort=name")


def test_captions_keep_their_bytes(archive: Callable[..., Path]) -> None:
    captions = [b"caf\xe9 \xff", b"a\0b", "\u202eé😀".encode(), b"x" * (2 << 20)]
    rows, reader = rows_of(archive(*(m for i, c in enumerate(captions) for m in ((f"{i}.jpg", b"1"), (f"{i}.txt", c)))))
    assert [row["samples_error"] for row in rows] == [None] * 4
    assert (rows[0]["caption"], rows[0]["caption_raw"], rows[0]["caption_encoding"]) == ("café ÿ", captions[0], "windows-1252")
    assert [(row["caption"].encode(), row["caption_raw"]) for row in rows[1:]] == [(c, None) for c in captions[1:]]
    assert reader.gaps == []


def test_a_text_above_the_limit_is_named_and_not_kept(archive: Callable[..., Path]) -> None:
    rows, reader = rows_of(archive(("a.jpg", b"1"), ("a.txt", b"x" * (MAX_TEXT + 1)), *samples(1)))
    assert outcomes(rows) == [("a", "unreadable_member"), ("000", None)]
    assert rows[0]["caption"] is None
    assert reader.gaps == []


def test_what_the_metadata_says_is_taken_over_only_if_it_makes_sense(archive: Callable[..., Path]) -> None:
    facts = [
        {"uid": "u", "original_width": 640, "original_height": 480.0}, {"uid": 7, "original_width": "640", "original_height": -1},
        {"original_width": True, "original_height": 10**12}, {"original_width": 1.5, "original_height": float("inf")},
    ]
    objects = [json.dumps(fact).encode() for fact in facts]
    members = ((f"{i}.{end}", content) for i, o in enumerate(objects) for end, content in (("jpg", b""), ("txt", b""), ("json", o)))
    rows, _ = rows_of(archive(*members))
    found = [(row["source_uid"], row["source_width"], row["source_height"]) for row in rows]
    assert found == [("u", 640, 480), (None, None, None), (None, None, None), (None, None, None)]


def test_the_uid_is_the_documented_hash_and_a_missing_part_counts_as_empty(archive: Callable[..., Path]) -> None:
    rows, _ = rows_of(archive(("a.jpg", b"image"), ("a.txt", b"caf\xe9"), ("b.txt", b"only"), ("c.jpg", b"only")))

    def uid(image: bytes, caption: bytes) -> str:
        return hashlib.sha256(len(image).to_bytes(8, "big") + image + caption).hexdigest()[:32]

    assert [row["uid"] for row in rows] == [uid(b"image", b"caf\xe9"), uid(b"", b"only"), uid(b"only", b"")]


# Compressed archives


@pytest.mark.parametrize(("name", "pack"), [
    ("a.tar.gz", gzip.compress), ("a.tgz", gzip.compress), ("a.tar", gzip.compress),
    ("a.tar.zst", lambda raw: pa.compress(raw, "zstd", asbytes=True)),
    ("b.tar.gz", lambda raw: gzip.compress(raw[:3000]) + gzip.compress(raw[3000:])),
])
def test_gzip_and_zstd_are_read_as_streams(
    archive: Callable[..., Path], tmp_path: Path, name: str, pack: Callable[[bytes], bytes],
) -> None:
    plain, _ = rows_of(archive(*samples(5), name="plain/p.tar"))
    (tmp_path / name).write_bytes(pack((tmp_path / "plain/p.tar").read_bytes()))
    rows, reader = rows_of(tmp_path / name)
    assert reader.gaps == []
    assert [row["location"] for row in rows] == ["stream_only"] * 5
    assert [row["image_offset"] for row in rows] == list(range(5))
    for column in ("uid", "key", "caption", "image", "json_length"):
        assert [row[column] for row in rows] == [row[column] for row in plain]


@pytest.mark.parametrize("pack", [gzip.compress, lambda raw: pa.compress(raw, "zstd", asbytes=True)], ids=["gzip", "zstd"])
def test_a_cut_or_damaged_stream_keeps_its_readable_prefix(tmp_path: Path, sample: Path, pack: Callable[[bytes], bytes]) -> None:
    raw = (sample / "00000.tar").read_bytes()
    packed = pack(raw)
    (tmp_path / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    rows, reader = rows_of(tmp_path / "cut.tar.gz")
    assert 35 <= len(rows) <= 65
    assert all(row["samples_error"] is None for row in rows[:-1])
    assert kinds(reader) == ["truncated"]
    assert "damaged" in reader.gaps[0].detail


def test_a_size_that_lies_in_a_compressed_tar_ends_it_by_name(archive: Callable[..., Path], tmp_path: Path) -> None:
    content = bytearray(archive(*samples(3)).read_bytes())
    header = tarfile.TarInfo("001.txt")
    header.size = 1 << 40
    content[SAMPLE_BYTES : SAMPLE_BYTES + 512] = header.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "lie.tgz").write_bytes(gzip.compress(content))
    rows, reader = rows_of(tmp_path / "lie.tgz")
    assert outcomes(rows) == [("000", None), ("001", "unreadable_member")]
    assert kinds(reader) == ["truncated"]


# Fetching and writing


def test_bytes_are_fetched_again_in_any_order(archive: Callable[..., Path], tmp_path: Path) -> None:
    path = archive(*samples(9), ("x.png", b"png"), ("x.txt", b"t"), ("y.jpg", b""), ("y.txt", b""), ("z.txt", b""))
    (tmp_path / "b.tgz").write_bytes(gzip.compress(path.read_bytes()))
    for shard in discover([str(path), str(tmp_path / "b.tgz")]):
        table = pa.Table.from_batches(list(read(shard)))
        order = [8, 0, 11, 9, 10, 3, 3, 4]
        rows = table.take(pa.array(order))
        expected = [(row["image"] or b"", b"{}" if row["key"] < "100" else None) for row in rows.to_pylist()]
        assert list(fetch(shard, rows.drop_columns(["image", "samples_error"]))) == expected
        assert list(fetch(shard, table.slice(0, 9))) == [(row["image"], b"{}") for row in table.slice(0, 9).to_pylist()]
        assert list(fetch(shard, table.slice(0, 0))) == []


def test_written_tars_are_the_same_bytes_each_time_and_webdataset_reads_them(tmp_path: Path) -> None:
    extensions = enumerate(["jpg", "png", "webp"])
    made = [(f"{i:010d}", ext, b"image %d" % i, b"caf\xe9 %d" % i, b'{"i": %d}' % i) for i, ext in extensions]
    buffers = io.BytesIO(), io.BytesIO()
    assert [write_tar(buffer, iter(made)) for buffer in buffers] == [[0, 3072, 6144]] * 2
    assert buffers[0].getvalue() == buffers[1].getvalue()
    path = tmp_path / "000000.tar"
    path.write_bytes(buffers[0].getvalue())
    with tarfile.open(path) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos[:3]] == ["0000000000.jpg", "0000000000.json", "0000000000.txt"]
    owners = {(info.mtime, info.mode, info.uid, info.uname, info.gname) for info in infos}
    assert owners == {(0, 0o444, 0, "shardmill", "shardmill")}
    import webdataset

    read_back = [
        (s["__key__"], ext, s[ext], s["txt"], s["json"])
        for s, (_, ext, *_) in zip(webdataset.WebDataset(str(path), shardshuffle=False), made, strict=True)
    ]
    assert read_back == made
    rows, reader = rows_of(path)
    assert [(row["key"], row["image"]) for row in rows] == [(key, image) for key, _, image, _, _ in made]
    assert reader.gaps == []


def test_how_deep_json_nests_is_a_bound_of_ours_not_of_the_stack() -> None:
    assert nesting_depth(b'{"a": [' * (MAX_DEPTH // 2) + b"1" + b"]}" * (MAX_DEPTH // 2)) == MAX_DEPTH
    assert nesting_depth(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)) == MAX_DEPTH + 1
    flat = json.dumps({"boxes": [[1, 2]] * 1000, "text": '[[[" \\' * 1000}).encode()
    assert nesting_depth(flat) == 3
