"""A folder of loose pairs becomes shards."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.api import shardmill
from pipeline.errors import InputError, RootError
from pipeline.input.loose.items import key_of
from pipeline.input.loose.pack import Packing, pack
from pipeline.input.samples import uid_of
from pipeline.store.store import Store
from tests.answers import checked
from tests.loose import JPEG, files, packed, reasons, samples
from tests.roots import asked, hashes


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder as people have them."""
    folder = tmp_path / "my pictures"
    files(folder, **{
        "a.jpg": JPEG + b"a", "a.txt": b"an a", "a.json": b'{"uid": "u1", "original_width": 7}',
        "B.JPEG": JPEG + b"b", "B.TXT": "zwei Bäume\n".encode(),
        "photo.v1.2.png": b"\x89PNG c", "photo.v1.2.txt": b"dots",
        "photo.v1.jpg": JPEG + b"d", "photo.v1.caption": b"other dots",
        "alone.webp": b"RIFF", "notes.txt": b"no image", "metadata.json": b"{}",
        "two.png": b"\x89PNG two", "two.jpg": JPEG + b"two", "two.txt": b"one", "two.caption": b"another",
        "old.jfif": JPEG + b"old", "old.txt": b"caf\xe9",
        "sub/a.jpg": JPEG + b"sub", "sub/a.txt": b"an a below", "__MACOSX__/a.jpg": JPEG + b"mac",
        "x.mp4": b"video", ".DS_Store": b"", "sub/.hidden/a.jpg": b"",
    })
    return folder


def test_a_folder_of_pairs_becomes_what_the_same_pairs_are_in_a_tar(
    pairs: Path, tmp_path: Path, archive: Callable[..., Path],
) -> None:
    answer = packed(pairs, output=tmp_path / "out")
    rows = samples(tmp_path / "out")
    contents = {
        "a": (b"a", b"an a"), "B": (b"b", "zwei Bäume\n".encode()), "photo%2Ev1": (b"d", b"other dots"), "two": (b"two", b"one"),
        "old": (b"old", b"caf\xe9"), "sub/a": (b"sub", b"an a below"),
    }
    members = [(f"{i}.{kind}", content) for i, (image, text) in enumerate(contents.values())
               for kind, content in (("jpg", JPEG + image), ("txt", text))]
    archive(*members, name="tar/0.tar")
    expected = {row["uid"] for row in samples(tmp_path / "tar").values()}
    assert {rows[key]["uid"] for key in contents} == expected
    assert rows.keys() == contents.keys() | {"photo%2Ev1%2E2", "alone", "%5F_MACOSX__/a"}
    assert rows["photo%2Ev1%2E2"]["uid"] == uid_of(b"\x89PNG c", b"dots")
    assert {key: row["image_extension"] for key, row in rows.items() if row["image_extension"] != "jpg"} == {
        "B": "jpeg", "alone": "webp", "photo%2Ev1%2E2": "png"}
    assert (rows["a"]["source_uid"], rows["a"]["source_width"]) == ("u1", 7)
    assert rows["alone"]["samples_error"] == rows["%5F_MACOSX__/a"]["samples_error"] == "missing_caption"
    assert (answer.samples, answer.shards, answer.without_caption, answer.not_utf8) == (9, 1, 2, 1)
    assert answer.bytes == sum(len(row["image"]) for row in rows.values()) + sum(
        (pairs / name).stat().st_size for name in ("a.txt", "a.json", "B.TXT", "photo.v1.2.txt", "photo.v1.caption", "two.txt",
                                                   "old.txt", "sub/a.txt"))


def test_what_is_no_sample_is_counted_and_named(pairs: Path, tmp_path: Path) -> None:
    answer = packed(pairs, output=tmp_path / "out")
    assert reasons(answer) == {"hidden": 2, "no_image": 2, "further_caption": 1, "further_image": 1, "other_file": 1}
    assert not answer.incomplete
    assert {reason: left.examples for reason, left in answer.left_out.items()} == {
        "hidden": (".DS_Store", "sub/.hidden"), "no_image": ("metadata.json", "notes.txt"), "further_caption": ("two.caption",),
        "further_image": ("two.png",), "other_file": ("x.mp4",)}


def test_names_of_any_kind_become_keys_that_differ(tmp_path: Path) -> None:
    names = [b"caf\xe9", "café".encode(), "cafe\u0301".encode(), b"caf%E9", b"a b", b"a\nb", "☃ 雪".encode(), b"[1]*?{}~'\"$\\",
             b"v1.0", b"v1%2E0"]
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    for number, name in enumerate(names):
        Path(os.fsdecode(folder + b"/" + name + b".jpg")).write_bytes(JPEG + b"%d" % number)
        Path(os.fsdecode(folder + b"/" + name + b".txt")).write_bytes(b"%d" % number)
    answer = packed(tmp_path / "in", output=tmp_path / "out")
    rows = samples(tmp_path / "out")
    assert answer.left_out == {}
    assert {row["uid"] for row in rows.values()} == {uid_of(JPEG + b"%d" % i, b"%d" % i) for i in range(len(names))}
    assert rows.keys() >= {"caf%E9", "caf%25E9", "a b", "a%0Ab", "☃ 雪", "v1%2E0", "v1%252E0"}
    assert key_of("a.b/c") == "a%2Eb/c"


def test_links_are_followed_inside_of_the_root_alone_and_what_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "in"
    files(outside, **{"o.jpg": JPEG + b"o", "o.txt": b"o", "deep/p.jpg": JPEG + b"p"})
    files(folder, **{"sub/a.jpg": JPEG + b"a", "sub/a.txt": b"a", "b.txt": b"b"})
    (folder / "b.jpg").symlink_to(folder / "sub" / "a.jpg")
    (folder / "o.jpg").symlink_to(outside / "o.jpg")
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    (folder / "all").symlink_to(outside)
    (folder / "sub" / "up").symlink_to(folder)
    os.mkfifo(folder / "pipe.jpg")
    answer = packed(folder, output=tmp_path / "out")
    assert {key: row["caption"] for key, row in samples(tmp_path / "out").items()} == {"b": "b", "sub/a": "a"}
    assert reasons(answer) == {"outside_root": 2, "no_such_file": 1, "not_a_file": 1}
    assert answer.incomplete
    assert "--root" in answer.hint
    wider = packed(folder, output=tmp_path / "wider", root=str(tmp_path))
    assert samples(tmp_path / "wider").keys() == {"b", "sub/a", "o", "all/o", "all/deep/p"}
    assert reasons(wider) == {"no_such_file": 1, "not_a_file": 1}
    with pytest.raises(InputError, match="does not lie below --root"):
        packed(folder, output=tmp_path / "other", root=str(outside))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Eleven pairs of about 1,000 bytes, and some files that are none."""
    folder = tmp_path / "many"
    for i in range(11):
        files(folder, **{f"{i:02d}.jpg": JPEG + bytes(1000), f"{i:02d}.txt": b"%d" % i, f"{i:02d}.log": b""})
    return folder


class Stopped(Exception):
    pass


def stopping_after(lines: int) -> Callable[[str], None]:
    """Raises after so many lines of progress."""
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if len(said) > lines:
            raise Stopped

    return tell


def test_a_pack_that_was_stopped_goes_on_to_the_same_bytes(many: Path, tmp_path: Path) -> None:
    whole = packed(many, output=tmp_path / "whole", shard_samples=3)
    assert (whole.shards, whole.written, whole.samples, reasons(whole)) == (4, 4, 11, {"other_file": 11})
    packing, again = Packing((str(many),), shard_samples=3), str(tmp_path / "again")
    with pytest.raises(Stopped):
        pack(packing, again, stopping_after(2))
    (tmp_path / "again" / ".partial" / "000002.tar.1.x").write_bytes(b"of a process that was killed")
    (tmp_path / "again" / "000002.tar").write_bytes(b"a tar without its stats")
    done = (tmp_path / "again" / "000000.tar").stat().st_mtime_ns
    rest = pack(packing, again)
    assert (rest.shards, rest.written, rest.samples, rest.left_out) == (4, 2, 11, whole.left_out)
    assert (tmp_path / "again" / "000000.tar").stat().st_mtime_ns == done
    assert list((tmp_path / "again" / ".partial").iterdir()) == []
    same = {name: digest for name, digest in hashes(tmp_path / "whole").items() if name != "pack.json"}
    assert {name: digest for name, digest in hashes(tmp_path / "again").items() if name != "pack.json"} == same
    assert pack(packing, again).written == 0


def test_a_shard_ends_by_size_too(many: Path, tmp_path: Path) -> None:
    assert packed(many, output=tmp_path / "out", shard_bytes=2000).shards == 6
    assert len(samples(tmp_path / "out")) == 11


def test_a_pack_goes_on_only_with_what_it_began_with(many: Path, tmp_path: Path) -> None:
    packed(many, output=tmp_path / "out", shard_samples=6)
    with pytest.raises(RootError, match="other inputs or with other options"):
        packed(many, output=tmp_path / "out")
    files(many, **{"03.txt": b"another caption"})
    with pytest.raises(InputError, match="packed from something else"):
        packed(many, output=tmp_path / "out", shard_samples=6)
    packed(many, output=tmp_path / "new", shard_samples=6)
    files(many, **{"99.jpg": JPEG})
    with pytest.raises(InputError, match="packed from something else"):
        packed(many, output=tmp_path / "new", shard_samples=6)
    assert not (tmp_path / "new" / "000002.tar").exists()
    files(tmp_path / "full", **{"mine.txt": b""})
    with pytest.raises(RootError, match="not empty"):
        packed(many, output=tmp_path / "full")
    (tmp_path / "link").symlink_to(many)
    for inside in (many / "out", tmp_path / "link" / "out", many.parent / "x" / ".." / "many"):
        with pytest.raises(InputError, match="inside the input"):
            packed(many, output=inside)
    assert packed(many, output=many / ".." / "beside").samples == 12
    with pytest.raises(InputError, match="no such file or folder"):
        packed(many / "nowhere", output=tmp_path / "none")
    with pytest.raises(InputError, match=r"neither a folder nor a table \(\.csv"):
        packed(many / "00.jpg", output=tmp_path / "none")


def test_a_folder_behind_an_s3_api_is_packed_into_another(anywhere: str) -> None:
    store = Store(f"{anywhere}/in")
    for name, content in {"a.jpg": JPEG, "a.txt": b"a", "x[1]/b #?.PNG": b"\x89PNG", "x[1]/b #?.txt": b"b", "x[1]/.c.jpg": b"",
                          "empty.jpg": b"", "empty.txt": b""}.items():
        store.write(name, content)
    answer = packed(store.url, output=f"{anywhere}/out")
    rows = samples(f"{anywhere}/out")
    assert {(row["image"], row["caption"]) for row in rows.values()} == {(JPEG, "a"), (b"\x89PNG", "b"), (b"", "")}
    assert rows.keys() == {"a", "x[1]/b #?", "empty"}
    assert reasons(answer).keys() == {"hidden"}   # on a disk the store's own folder for partial files too
    assert packed(store.url, output=f"{anywhere}/out").written == 0


def test_two_folders_become_one_set_of_shards(many: Path, pairs: Path, tmp_path: Path) -> None:
    packed(many, pairs, output=tmp_path / "out")
    assert {"00", "1/a", "1/sub/a"} < samples(tmp_path / "out").keys()


def test_the_command_says_what_was_packed_and_what_comes_next(pairs: Path, tmp_path: Path) -> None:
    said = asked("pack", str(pairs), "--output", str(tmp_path / "out"))
    assert "  samples" in said.stdout
    assert "left out:no_image" in said.stdout
    assert said.stdout.endswith(f"  1 shard: shardmill run RECIPE {tmp_path}/out --output ROOT\n")
    assert "000000.tar: 9 samples, 9 in all" in said.stderr
    again = checked("pack", asked("pack", str(pairs), "--output", str(tmp_path / "out"), "--json").stdout)
    assert (again["shards"], again["written"], again["left_out"]["hidden"]["count"]) == (1, 0, 2)
    files(tmp_path / "bare", **{"a.txt": b"a"})
    said = asked("pack", str(tmp_path / "bare"), "--output", str(tmp_path / "none"), check=3)
    assert said.stdout.endswith(f"  nothing was packed: {tmp_path}/none holds no shards\n")


def test_from_python_the_shards_are_those_of_the_command(pairs: Path, tmp_path: Path) -> None:
    answer = shardmill.pack(pairs, tmp_path / "a", shard_samples=4)
    asked("pack", str(pairs), "--output", str(tmp_path / "b"), "--shard-samples", "4", "--quiet")
    assert {name: content for name, content in hashes(tmp_path / "a").items() if name != "pack.json"} == {
        name: content for name, content in hashes(tmp_path / "b").items() if name != "pack.json"}
    assert (answer.samples, answer.shards, answer.incomplete) == (9, 3, False)
    assert shardmill.pack([pairs], tmp_path / "a", shard_samples=4).written == 0, "it goes on where it was"
    with pytest.raises(shardmill.RootError, match="with other options"):
        shardmill.pack(pairs, tmp_path / "a")
