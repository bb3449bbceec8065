import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.input.discovery import discover, expected_samples
from pipeline.input.patterns import MAX_EXPANSION
from pipeline.input.reader import read
from pipeline.store.store import Store


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    """Two of the sample's shards with their side files, and files that are none."""
    for stem in ("00000", "00001"):
        for suffix in (".tar", ".parquet", "_stats.json"):
            shutil.copy(sample / f"{stem}{suffix}", tmp_path)
    (tmp_path / "sizes.json").write_text('{"00000.tar": 100}')
    (tmp_path / "meta.json").write_text("{}")
    return tmp_path


def ids(*patterns: str | Path) -> list[str]:
    return [shard.shard_id for shard in discover([str(pattern) for pattern in patterns])]


def test_a_folder_gives_its_tars_and_takes_side_files_for_what_they_are(folder: Path) -> None:
    shards = discover([str(folder)])
    assert [shard.relative for shard in shards] == ["00000.tar", "00001.tar"]
    assert [shard.kind for shard in shards] == ["tar", "tar"]
    assert shards[0].sidecar == f"{folder}/00000.parquet"
    assert shards[0].stats == f"{folder}/00000_stats.json"
    assert shards[0].size == (folder / "00000.tar").stat().st_size
    assert pickle.loads(pickle.dumps(shards)) == shards


def test_the_name_of_a_shard_does_not_depend_on_how_its_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ids(folder)
    assert len(set(whole)) == 2
    assert whole == ids(folder / "*.tar") == ids(folder / "{00000..00001}.tar") == ids(f"file://{folder}")
    assert whole == ids(f"{folder}/00000.tar::{folder}/00001.tar") == ids(folder / "00001.tar", folder / "00000.tar")
    monkeypatch.chdir(folder.parent)
    assert whole == ids(folder.name) == ids(f"./{folder.name}/")
    assert whole[0].startswith("00000-")
    assert len(whole[0]) == len("00000-") + 8


def test_a_file_named_twice_is_read_once(folder: Path) -> None:
    assert ids(folder, folder / "00000.tar", folder / "*.tar") == ids(folder)


def test_files_of_one_name_in_different_folders_stay_apart(archive: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("x/0.tar", "y/0.tar", "y/z/0.tar"):
        archive(("a.jpg", name.encode()), name=name)
    one_root = discover([str(tmp_path)])
    assert [shard.relative for shard in one_root] == ["x/0.tar", "y/0.tar", "y/z/0.tar"]
    assert len({shard.shard_id for shard in one_root}) == 3
    two_roots = discover([str(tmp_path / "x"), str(tmp_path / "y")])
    assert [shard.relative for shard in two_roots] == ["0.tar", "2:y/0.tar", "2:y/z/0.tar"]
    assert len({shard.shard_id for shard in two_roots}) == 3
    assert two_roots[0] == discover([str(tmp_path / "x")])[0], "a further root renames what was there before"
    braces = discover([str(tmp_path / "{x,y}" / "0.tar")])
    assert [shard.relative for shard in braces] == ["x/0.tar", "y/0.tar"]
    assert [shard.shard_id for shard in braces] == [shard.shard_id for shard in one_root[:2]]


def test_hidden_files_are_left_aside(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(name="a.tar")
    archive(name="._a.tar")
    archive(name=".partial/b.tar")
    assert [shard.relative for shard in discover([str(tmp_path)])] == ["a.tar"]
    assert [shard.relative for shard in discover([str(tmp_path / "*.tar")])] == ["a.tar"]


def test_folder_names_may_look_like_patterns_or_shards(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(name="set[1]/a.tar")
    archive(name="b.tar/c.tar")
    assert [shard.relative for shard in discover([str(tmp_path / "set[1]")])] == ["a.tar"]
    assert [shard.relative for shard in discover([str(tmp_path / "b.tar")])] == ["c.tar"]


NAMES = ("set[1]", "set*", "{0..3}", "[x]{y}::*", "memory::b", " ~%41#ä?☃ ", "~x")


@pytest.mark.parametrize("name", NAMES)
def test_an_input_is_found_by_whatever_name_it_has(anywhere: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    store = Store(anywhere)
    for other in ("set1/0.tar", "set/0.tar", "a/0.tar", "a/a.tar", "b.tar/b.tar", "0/0.tar", "A/0.tar"):
        store.write(other, b"another's")
    store.write(f"{name}/{name}.tar", bytes(10240))
    store.write(f"{name}/b.tar", bytes(10240))
    folder, file = f"{anywhere}/{name}", f"{anywhere}/{name}/{name}.tar"
    both = sorted([f"{name}.tar", "b.tar"])
    ways = [folder, f"{folder}/", f"{folder}/*.tar", f"{folder}/**", f"{folder}/?*.tar"]
    assert [[shard.relative for shard in discover([way])] for way in ways] == [both] * len(ways)
    assert [shard.relative for shard in discover([f"{folder}/{{b,b}}.tar"])] == ["b.tar"]
    (shard,) = discover([file])
    assert (shard.relative, shard.url) == (f"{name}.tar", file)
    assert "::" in name or ids(f"{file}::{folder}/b.tar") == ids(folder)
    assert list(read(shard)) == []
    if store.local is not None:
        monkeypatch.chdir(anywhere)
        assert ids(f"./{name}") == ids(folder)
        monkeypatch.chdir(folder)
        assert ids(f"./{name}.tar") == ids(file)


def test_a_pattern_still_names_many_where_nothing_has_its_name(archive: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("set1/0.tar", "set2/0.tar", "set2/deep/1.tar", "set[12]/0.tgz"):
        archive(name=name)
    found = discover([f"{tmp_path}/set[12]/0.tgz", f"{tmp_path}/set?/*.tar", f"{tmp_path}/set{{1,2}}/*.tar"])
    second = f"2:{tmp_path.name}"
    assert [shard.relative for shard in found] == ["0.tgz", f"{second}/set1/0.tar", f"{second}/set2/0.tar"]
    with pytest.raises(InputError, match=r"no such file: .*set\[12\]/0\.tar"):
        discover([f"{tmp_path}/set[12]/0.tar"])   # there is a folder of this name
    assert [shard.relative for shard in discover([f"{tmp_path}/set[2]/*.tar"])] == ["set2/0.tar"]


def test_parquet_is_a_shard_only_with_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"], "caption": ["a"]}), tmp_path / "images.parquet")
    pq.write_table(pa.table({"url": ["u"], "caption": ["a"]}), tmp_path / "urls.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "images.parquet").read_bytes()[:100])
    shards = discover([str(tmp_path)])
    assert [(shard.relative, shard.kind) for shard in shards] == [("cut.parquet", "parquet"), ("images.parquet", "parquet")]
    with pytest.raises(InputError, match=r"urls\.parquet.*no column of image bytes.*url, caption"):
        discover([str(tmp_path / "urls.parquet")])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("missing.tar", r"missing\.tar.*no such file"),
        ("{00000..00004}.tar", r"no such file.*00002\.tar"),
        ("nowhere", r"no such file or folder.*supported are \.tar"),
        ("*.tgz", r"\*\.tgz.*no shard there; supported are"),
        ("empty", r"empty.*no shard there"),
        ("sizes.json", r"not a shard.*sizes\.json.*supported are"),
        ("a.tar.bz2", r"compression is not supported; supported are .*\.tar\.gz"),
        ("*.tar.xz", r"compression is not supported"),
        ("{0..1.tar", "braces do not match"),
        ("{00000..99999999999}.tar", r"more than 1,000,000 files"),
        ("{0..9999}/{0..9999}.tar", r"more than 1,000,000 files"),
        ("00000.parquet", r"no shard there"),
    ],
)
def test_a_pattern_that_names_nothing_usable_is_named(folder: Path, pattern: str, message: str) -> None:
    assert MAX_EXPANSION == 1_000_000
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        discover([f"{folder}/{pattern}"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("pipe:cat a.tar", "never does"),
        ("nosuch://bucket/a.tar", "unknown protocol nosuch://; known are"),
        ("", "empty pattern"),
        ("a.tar::b.tar", "no such file.*a.tar"),
    ],
)
def test_a_protocol_that_is_not_read_is_named(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        discover([pattern])


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"no such file.*a\.tar"):
        discover([str(tmp_path)])


def test_an_unsupported_compression_in_a_folder_is_a_shard_whose_gap_says_so(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(name="a.tar")
    (tmp_path / "b.tar.bz2").write_bytes(b"BZh9...")
    shards = discover([str(tmp_path)])
    assert [shard.relative for shard in shards] == ["a.tar", "b.tar.bz2"]
    reader = read(shards[1])
    assert list(reader) == []
    assert [gap.kind for gap in reader.gaps] == ["unsupported_compression"]
    assert "bzip2" in reader.gaps[0].detail


@pytest.mark.parametrize(
    ("stats", "sidecar", "expected"),
    [
        ('{"count": 9, "successes": 7}', None, 7),
        ('{"count": 9, "succ', {"status": ["success", "failed_to_download", "success"]}, 2),
        ("[]", {"status": [None, "success"]}, 1),
        ("{}", {"key": ["0", "1", "2"]}, 3),
        (None, {"key": ["0"]}, 1),
        (None, None, None),
    ],
)
def test_side_files_say_how_many_samples_there_should_be(
    archive: Callable[..., Path], tmp_path: Path, stats: str | None,
    sidecar: dict[str, list[str | None]] | dict[str, list[str]] | None, expected: int | None,
) -> None:
    archive(name="0.tar")
    if stats is not None:
        (tmp_path / "0_stats.json").write_text(stats)
    if sidecar is not None:
        pq.write_table(pa.table(sidecar), tmp_path / "0.parquet")
    [shard] = discover([str(tmp_path)])
    assert expected_samples(shard) == expected


def test_damaged_side_files_promise_nothing(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(name="0.tar")
    (tmp_path / "0_stats.json").write_text("not json")
    (tmp_path / "0.parquet").write_bytes(b"PAR1 no parquet")
    [shard] = discover([str(tmp_path)])
    assert shard.sidecar
    assert expected_samples(shard) is None


def test_shards_behind_s3_have_the_names_they_have_on_disk(s3_server: str, folder: Path) -> None:
    store = Store("s3://bucket/inputs/set")
    for path in folder.iterdir():
        store.write(path.name, path.read_bytes())
    shards = discover(["s3://bucket/inputs/set"])
    assert [shard.shard_id for shard in shards] == ids(folder)
    assert shards == discover(["s3://bucket/inputs/set/{00000..00001}.tar"]) == discover(["s3://bucket/inputs/set/*.tar"])
    assert shards[0].sidecar == "s3://bucket/inputs/set/00000.parquet"
    assert expected_samples(shards[0]) == 100
    reader = read(shards[0])
    assert sum(batch.num_rows for batch in reader) == 100
    assert reader.bytes_read <= 1.05 * shards[0].size
    with pytest.raises(InputError, match="no such file"):
        discover(["s3://bucket/inputs/set/00007.tar"])
    with pytest.raises(InputError, match="no such file or folder"):
        discover(["s3://bucket/nowhere"])


def test_shards_behind_http_are_read_by_their_urls(folder: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            shards = discover([f"{url}/{{00000..00001}}.tar"])
            assert [shard.shard_id for shard in shards] == ids(folder)
            assert sum(batch.num_rows for batch in read(shards[1])) == 100
            with pytest.raises(InputError, match=r"no such file.*00009\.tar"):
                discover([f"{url}/00009.tar"])
        finally:
            server.shutdown()


LATIN = os.fsdecode(b"caf\xe9")
"""A name in Latin-1, as it comes out of an old archive."""


@pytest.mark.parametrize("name", [f"{LATIN}.tar", f"{LATIN}/a.tar", f"a/{LATIN}/{LATIN}.tar", f"{LATIN}.parquet"])
def test_a_name_that_is_not_utf_8_is_refused_at_once_and_named(archive: Callable[..., Path], tmp_path: Path, name: str) -> None:
    archive(name="plain.tar")
    archive(name=name)
    (tmp_path / f"{LATIN}.txt").write_bytes(b"no shard")
    for pattern in (str(tmp_path), f"{tmp_path}/**/*", f"{tmp_path}/{name}"):
        with pytest.raises(InputError, match=r"caf\\xe9.* is not UTF-8") as refused:
            discover([pattern])
        str(refused.value).encode()   # can be printed
    (tmp_path / name).unlink()
    assert ids(tmp_path) == ids(tmp_path / "plain.tar")
