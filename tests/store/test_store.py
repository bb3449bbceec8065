import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.store.source import merged_ranges
from pipeline.store.store import (
    Store,
    absolute,
    exists,
    files_in,
    find,
    is_folder,
    known_protocols,
    matching,
    open_url,
    read_ranges,
    stat,
)


@pytest.fixture
def store(anywhere: str) -> Store:
    return Store(f"{anywhere}/root")


@pytest.fixture
def requests(s3_server: str) -> Iterator[list[str]]:
    """The byte ranges that are asked of the server from now on."""
    asked = []
    events = Store("s3://bucket")._target[0].s3.meta.events

    def record(params: dict[str, Any], **_: Any) -> None:
        asked.append(params["headers"].get("Range"))

    events.register("before-call.s3.GetObject", record)
    yield asked
    events.unregister("before-call.s3.GetObject", record)


def test_a_file_is_not_there_until_its_block_ends(store: Store) -> None:
    with store.create("columns/a.parquet") as file:
        file.write(b"x" * 100)
        assert not store.exists("columns/a.parquet")
        assert store.names("columns") == []
    assert store.read("columns/a.parquet") == b"x" * 100
    assert store.names("columns") == ["a.parquet"]


def write_and_fail(store: Store, name: str, size: int) -> None:
    with store.create(name) as file:
        file.write(b"x" * size)
        raise InterruptedError


@pytest.mark.parametrize("size", [0, 1000, 60 << 20])
def test_a_block_that_fails_leaves_nothing_and_keeps_the_file_of_before(store: Store, size: int) -> None:
    store.write("done", b"before")
    for name in ("done", "new"):
        with pytest.raises(InterruptedError):
            write_and_fail(store, name, size)
    assert store.read("done") == b"before"
    assert store.names() == ["done"]
    assert find(store.url, ("",))[0].url == f"{store.url}/done"
    assert len(find(store.url, ("",))) == 1, "a partial file is left over"
    if store.local is None:
        assert fsspec.filesystem("s3").list_multipart_uploads("bucket") == [], "parts of an upload are left over"


@pytest.mark.parametrize("size", [0, 1, 60 << 20])
def test_files_of_any_size_come_back_whole(store: Store, size: int) -> None:
    content = os.urandom(1000) * (size // 1000) + b"y" * (size % 1000)
    store.write("file", content)
    assert store.size("file") == size
    assert store.read("file") == content


def test_a_parquet_writer_can_write_into_a_store(store: Store) -> None:
    table = pa.table({"a": list(range(1000))})
    with store.create("t.parquet") as file:
        pq.write_table(table, file)
    with store.open("t.parquet") as file:
        assert pq.read_table(file).equals(table)


def test_a_file_that_another_process_writes_is_seen_at_once(store: Store) -> None:
    store.write("a", b"1")
    assert store.names() == ["a"]
    assert not store.exists("b")
    path = f"{store.url}/b"
    other = fsspec.filesystem("s3", skip_instance_cache=True) if "://" in path else fsspec.filesystem("file")
    other.pipe_file(path, b"2")
    assert store.exists("b")
    assert stat(path).size == 1
    assert store.names() == ["a", "b"]
    other.rm(path)
    assert not store.exists("b")
    assert store.names() == ["a"]


def test_folders_and_names_tell_files_from_folders_and_hide_what_is_in_the_making(store: Store) -> None:
    store.write("b/x", b"")
    store.write("a/deep/x", b"")
    store.write("file", b"")
    assert store.folders() == ["a", "b"]
    assert store.names() == ["file"]
    assert store.names("no such folder") == []
    assert store.folders("no such folder") == []
    assert store.names("b/x") == []


def test_an_object_that_marks_a_folder_is_no_file_of_it(s3_server: str) -> None:
    s3 = fsspec.filesystem("s3")
    s3.touch("bucket/marked/")
    s3.pipe_file("bucket/marked/a.tar", b"1")
    assert Store("s3://bucket/marked").names() == ["a.tar"]
    assert [info.url for info in files_in("s3://bucket/marked")] == ["s3://bucket/marked/a.tar"]


def test_json_lines_and_removal(store: Store) -> None:
    store.write_json("run.json", {"b": 1, "a": [2]})
    assert store.read("run.json") == b'{\n  "b": 1,\n  "a": [\n    2\n  ]\n}\n'   # in the order given: rules have one
    assert store.read_json("run.json") == {"a": [2], "b": 1}
    store.append_line("log/events", "one")
    store.append_line("log/events", "two")
    if store.local is None:
        lines = sorted(store.read(f"log/events.d/{name}").decode() for name in store.names("log/events.d"))
    else:
        lines = store.read("log/events").decode().splitlines()
    assert lines == ["one", "two"]
    store.remove("log")
    store.remove("never there")
    assert store.folders() == []


def test_a_store_means_the_same_folder_in_a_process_with_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("out")
    store.write("a", b"1")
    sent = pickle.dumps(store)
    monkeypatch.chdir("/")
    received = pickle.loads(sent)
    assert received == store
    assert received.read("a") == b"1"
    assert (received / "sub").url == str(tmp_path / "out" / "sub")
    assert absolute("file:///x/a.tar") == "/x/a.tar"


def test_ranges_come_back_in_the_order_asked(store: Store) -> None:
    content = os.urandom(300_000)
    store.write("a", content)
    ranges = [(200_000, 200_010), (0, 5), (5, 5), (3, 8), (100_000, 250_000), (299_990, 300_010)]
    assert read_ranges(f"{store.url}/a", ranges) == [content[start:end] for start, end in ranges]
    assert read_ranges(f"{store.url}/a", []) == []


def test_ranges_are_joined_only_when_they_are_close() -> None:
    assert merged_ranges([(0, 10), (20, 30), (1000, 1010)], gap=10, limit=100) == [(0, 30), (1000, 1010)]
    assert merged_ranges([(20, 30), (0, 25), (5, 6), (7, 7)], gap=0) == [(0, 30)]
    assert merged_ranges([(0, 60), (60, 120)], gap=10, limit=100) == [(0, 60), (60, 120)]


def test_a_remote_file_is_read_from_first_to_last_without_reading_anything_twice(s3_server: str) -> None:
    content = os.urandom(20 << 20)
    Store("s3://bucket/once").write("a.tar", content)
    with open_url("s3://bucket/once/a.tar") as file:
        pieces = list(iter(lambda: file.read(1 << 20), b""))
        opened: Any = file._file   # fsspec's
        fetched = opened.cache.total_requested_bytes
    assert b"".join(pieces) == content
    assert file.bytes_read == len(content)
    assert fetched <= 1.05 * len(content)


def test_a_remote_file_that_is_read_here_and_there_brings_no_more_than_was_asked(requests: list[str]) -> None:
    content = os.urandom(1 << 20)
    Store("s3://bucket/scattered").write("a.parquet", content)
    with open_url("s3://bucket/scattered/a.parquet", scattered=True) as file:
        file.seek(-8, os.SEEK_END)
        assert file.read(8) == content[-8:]
        file.seek(1000)
        assert file.read(500) == content[1000:1500]
    assert requests == [f"bytes={len(content) - 8}-{len(content) - 1}", "bytes=1000-1499"]


def test_members_that_lie_together_are_one_request(requests: list[str]) -> None:
    Store("s3://bucket/together").write("a.tar", bytes(1 << 20))
    read_ranges("s3://bucket/together/a.tar", [(900_000, 900_100), (512, 9_000), (10_240, 10_300)])
    assert sorted(requests) == ["bytes=512-10299", "bytes=900000-900099"]


def test_listing_stat_and_find_agree_on_size_and_version_and_a_changed_file_changes_version(store: Store) -> None:
    store.write("x/b.tar", b"12")
    store.write("x/a.tar", b"1")
    store.write("x/note.txt", b"1")
    listed = files_in(f"{store.url}/x")
    assert [info.url.rsplit("/", 1)[1] for info in listed] == ["a.tar", "b.tar", "note.txt"]
    assert find(store.url, (".tar",)) == listed[:2]
    assert matching(store.url, "*/*.tar", (".tar",)) == matching(store.url, "**/?.tar", (".tar",)) == listed[:2]
    assert [stat(info.url) for info in listed] == listed
    store.write("x/b.tar", b"34")
    assert stat(f"{store.url}/x/b.tar").version != listed[1].version
    assert exists(f"{store.url}/x/b.tar")
    assert is_folder(f"{store.url}/x")
    assert not is_folder(f"{store.url}/x/b.tar")
    with pytest.raises(FileNotFoundError):
        stat(f"{store.url}/missing")


def test_symbolic_links_are_files_and_folders_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_bytes(b"tar")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "a.tar").symlink_to(tmp_path / "blobs" / "1")
    (snapshot / "loop").symlink_to(snapshot)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.tar").write_bytes(b"tar")
    (snapshot / "sub").symlink_to(elsewhere)
    assert Store(str(snapshot)).names() == ["a.tar"]
    assert Store(str(snapshot)).folders() == ["loop", "sub"]
    found = find(str(snapshot), (".tar",))
    assert [info.url for info in found] == [f"{snapshot}/a.tar", f"{snapshot}/sub/b.tar"]
    assert found[0].size == 3
    assert found[0] == stat(f"{snapshot}/a.tar") == matching(str(snapshot), "*.tar", (".tar",))[0]


NAMES = ("run[12]", "run*", "[{a,b}::*]", " ~%41#ä?☃ ", "~x")
"""What both a disk and S3 allow in a name."""


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_looks_like_something_else_is_only_a_name(anywhere: str, name: str) -> None:
    place = Store(anywhere)
    for other in ("run1/x", "run/x", "runs/x", "a/x", "b/x", "A/x", "x"):
        place.write(other, b"another's")
    store = Store(f"{anywhere}/{name}")
    assert store.url == f"{anywhere}/{name}"
    store.write("x", b"1")
    store.write(f"{name}/{name}.tar", b"22")
    assert store.create_new(f"{name}/new", b"3")
    assert not store.create_new(f"{name}/new", b"4")
    with store.create(f"{name}/made") as file:
        file.write(b"5")
    assert store.names(name) == sorted([f"{name}.tar", "new", "made"])
    assert store.folders() == [name]
    assert store.read(f"{name}/{name}.tar") == store.open(f"{name}/{name}.tar").read() == b"22"
    url = f"{store.url}/{name}/{name}.tar"
    assert exists(url)
    assert [info.url for info in find(store.url, (".tar",))] == [url]
    assert stat(url) == files_in(f"{store.url}/{name}")[0 if name < "made" else 2]
    assert read_ranges(url, [(1, 2)]) == [open_url(url, scattered=True).read(1)] == [b"2"]
    store.remove(f"{name}/new")
    assert store.names(name) == sorted([f"{name}.tar", "made"])
    store.remove(name)
    assert (store.folders(), store.names()) == ([], ["x"])
    place.remove(name)
    assert not place.exists(name)
    others = ("A/x", "a/x", "b/x", "run/x", "run1/x", "runs/x", "x")
    assert find(anywhere, ("x",)) == [stat(f"{anywhere}/{other}") for other in others]


def test_removal_is_by_name_in_a_store_of_another_kind() -> None:
    store = Store("memory://by-name")
    for name in ("run[12]/a/b", "run[12]/c", "run1/d", "*/e"):
        store.write(name, b"1")
    store.remove("run[12]")
    store.remove("*")
    assert [info.url for info in find("memory://by-name", ("",))] == ["memory:///by-name/run1/d"]


def test_a_removed_link_leaves_what_it_leads_to(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("exports/a/0.tar", b"1")
    store.link("shards", "exports/a")
    store.remove("shards")
    assert (store.folders(), store.names("exports/a")) == (["exports"], ["0.tar"])


def test_a_home_is_meant_by_a_tilde_alone_or_before_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of")
    assert absolute("~/x") == "/home/of/x"
    assert absolute("~") == "/home/of"
    for name in ("~x", "~root", "~root/x", "~~"):
        assert absolute(name) == absolute(f"./{name}") == f"{tmp_path}/{name}"
    monkeypatch.setenv("HOME", "")
    assert absolute("~/x").startswith("/")


def test_a_name_that_s3fs_would_take_for_a_version_of_another_object_is_refused(s3_server: str) -> None:
    Store("s3://bucket/versions").write("a.tar", b"1")
    for way_in in (open_url, stat, Store):
        with pytest.raises(InputError, match=r"a\.tar\?versionId=1.*another name"):
            way_in("s3://bucket/versions/a.tar?versionId=1")


def test_s3_and_https_are_known() -> None:
    assert {"s3", "https", "gs"} <= set(known_protocols())


@pytest.mark.parametrize("url", ["simplecache::/etc/hostname", "pipe:cat /etc/hostname", "filecache::pipe:cat x", "nosuch://bucket/x"])
def test_chains_commands_and_unknown_protocols_are_refused_whoever_names_them(url: str) -> None:
    """A run.json of somebody else names inputs, too."""
    for way_in in (open_url, exists, stat, files_in, absolute, Store):
        with pytest.raises(InputError, match=r"never followed|nosuch"):
            way_in(url)
