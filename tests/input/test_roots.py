"""Output roots are never input, unless what they export is named itself."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.input.discovery import discover
from pipeline.input.roots import refuse_nested, refuse_overlap
from pipeline.store.store import Store
from tests.roots import asked

RECORD = json.dumps({"recipe": {}, "outputs": {}, "inputs": [], "versions": {}}).encode()


@pytest.fixture
def place(anywhere: str) -> Store:
    """Two shards, and between them a root with an export and a folder of somebody else who has a run.json, too."""
    store = Store(anywhere)
    for name in ("a.tar", "b/c/d.tar", "b/out/exports/1/000000.tar", "b/out/columns/x.tar", "theirs/log/e.tar"):
        store.write(name, bytes(10240))
    store.write("b/out/run.json", RECORD)
    store.write("theirs/run.json", b'{"wandb": 1}')
    return store


def relative(*patterns: str) -> list[str]:
    return [shard.relative for shard in discover(patterns)]


def test_what_lies_in_a_root_is_no_input_and_is_counted(place: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert relative(place.url) == ["a.tar", "b/c/d.tar", "theirs/log/e.tar"]
    assert caplog.messages == [f"{place.url}/b/out is an output root of shardmill: 2 files in it are no input"]
    assert relative(f"{place.url}/b") == relative(f"{place.url}/b/**/*.tar") == relative(f"{place.url}/b/*/*.tar") == ["c/d.tar"]


def test_what_a_root_exports_is_input_where_it_is_named(place: Store) -> None:
    root = f"{place.url}/b/out"
    store = place / "b/out"
    export = f"{root}/exports/1"
    store.write("exports/former/000000.tar", bytes(10240))
    store.write("exports/former/a.jpg", b"")
    store.link("shards", "exports/1")
    named = [export, f"{export}/*.tar", f"{export}/000000.tar", f"{export}/{{000000..000000}}.tar", f"{root}/exports/{{1,1}}"]
    if store.local:
        named += [f"{root}/shards", f"{root}/shards/*.tar", f"{root}/columns/../../../b/out/shards"]
    for one in named:
        assert [url.rpartition("/")[2] for url in relative(one)] == ["000000.tar"]
    itself = "name that itself" + (f": {root}/shards;" if store.local else f", which `shardmill path {root} shards` prints;")
    for whole in (root, f"{root}/", f"{root}/**", f"{root}/*/*/*.tar", f"{place.url}/b/o*/**/*.tar"):
        with pytest.raises(InputError, match=f"{root} is an output root of shardmill.*{itself}"):
            discover([whole])
    for part in ("exports", "exports/**", "exports/*/*.tar", "{columns,exports}"):
        with pytest.raises(InputError, match=f"lies in {root}, an output root of shardmill.*{itself}") as refused:
            discover([f"{root}/{part}"])
        assert "\n" not in str(refused.value)
        assert "shardmill pack" not in str(refused.value)


def test_links_into_a_root_are_followed_and_names_beside_it_are_not_in_it(
    archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("root/exports/1/0.tar", "in/a.tar"):
        archive(name=name)
    (tmp_path / "root" / "run.json").write_bytes(RECORD)
    (tmp_path / "link").symlink_to(tmp_path / "root" / "exports")
    (tmp_path / "one").symlink_to(tmp_path / "root" / "exports" / "1")
    monkeypatch.chdir(tmp_path / "root")
    assert relative("../in") == ["a.tar"]
    assert relative("../one") == relative("exports/1") == ["0.tar"]
    for named in ("exports", "../link"):
        with pytest.raises(InputError, match=f"lies in {tmp_path}/root, an output root"):
            discover([named])


def test_a_root_whose_record_is_damaged_is_one_still(place: Store) -> None:
    place.write("b/out/run.json", b'{"rec')
    assert relative(f"{place.url}/b") == ["c/d.tar"]


@pytest.mark.parametrize(("pattern", "output", "refused"), [
    ("in", "in/out", "lies in the input folder .*/in,"), ("in", "in", "lies in the input folder"),
    ("in/**/*.tar", "in/sub/out", "lies in the input folder"), ("in/{sub,sub}", "in/sub/out", "input folder .*/in/sub,"),
    ("in/*.tar", "in/out", ""), ("in/a.tar", "in/out", ""), ("in", "in2/out", ""), ("in/sub", "in/out", ""),
    ("in", "link/out", "lies in the input folder"), ("link", "in/out", "lies in the input folder"),
    ("done/exports/1", "done", "lies in the output root"),
])
def test_an_output_in_a_folder_that_is_searched_is_refused(
    archive: Callable[..., Path], tmp_path: Path, pattern: str, output: str, refused: str,
) -> None:
    for name in ("in/a.tar", "in/sub/b.tar", "done/exports/1/0.tar"):
        archive(name=name)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    patterns = [f"{tmp_path}/{pattern}"]
    urls = [shard.url for shard in discover(patterns)]
    if not refused:
        refuse_overlap(f"{tmp_path}/{output}", patterns, urls)
        return
    with pytest.raises(InputError, match=refused):
        refuse_overlap(f"{tmp_path}/{output}", patterns, urls)


def test_a_run_into_its_input_folder_is_refused_before_anything_starts(
    archive: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    archive(name="a.tar")
    monkeypatch.chdir(tmp_path)
    said = asked("run", "sample", ".", "--output", "out", "--local", check=2)
    assert f"--output {tmp_path}/out lies in the input folder {tmp_path}" in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_an_output_in_another_root_is_refused(place: Store) -> None:
    for inner in ("x", "exports/1/x"):
        with pytest.raises(InputError, match=f"lies in {place.url}/b/out, another output root of shardmill: choose an output"):
            refuse_nested(f"{place.url}/b/out/{inner}")
    for beside in ("b/out", "b/out2", "theirs/x"):
        refuse_nested(f"{place.url}/{beside}")


def test_a_run_into_another_root_is_refused_before_anything_starts(archive: Callable[..., Path], tmp_path: Path) -> None:
    archive(name="in/a.tar")
    archive(name="root/exports/1/0.tar")
    (tmp_path / "root" / "run.json").write_bytes(RECORD)
    said = asked("run", "sample", f"{tmp_path}/in", "--output", f"{tmp_path}/root/x", "--local", check=2)
    assert f"--output {tmp_path}/root/x lies in {tmp_path}/root, another output root" in said.stderr
    assert not (tmp_path / "root" / "x").exists()


def test_a_remote_output_and_a_local_input_do_not_overlap(tmp_path: Path) -> None:
    refuse_overlap("s3://bucket/in/out", [str(tmp_path)], [f"{tmp_path}/a.tar"])
    refuse_overlap("s3://bucket/input2", [], ["s3://bucket/input/a.tar"])
    with pytest.raises(InputError, match="lies in the output root"):
        refuse_overlap("s3://bucket/out", [], ["s3://bucket/out/exports/1/a.tar"])
