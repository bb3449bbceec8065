"""Many tiny shards: together on their way through a pass, and in blocks when it is over."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.columns import Columns, Rows
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.input.discovery import Shard, discover
from pipeline.input.samples import READING
from pipeline.passes.annotate import Annotate, MissingColumns
from pipeline.passes.shards import compaction
from pipeline.passes.shards.compaction import compact, take_out, tidy
from pipeline.passes.stages import forget
from pipeline.root.log import EventLog, read_events
from pipeline.stage import Contract, Stage, Transform
from pipeline.store.blocks import groups
from pipeline.store.blocks.either import forget_blocks
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_facts, read_many_facts, read_vector_rows, read_vectors, stored_shards
from pipeline.work import Outcome
from tests.roots import hashes

COUNT = 24
EMPTY = 7
FEW = 16
VECTOR = pa.list_(pa.float16(), 4)
SHOUT = pa.schema([("uid", pa.string()), ("shout", pa.string()), ("vector", VECTOR), ("shout_error", pa.string())])
FOLDERS = {"samples": "columns/samples@1", "shout": "columns/shout@1"}


@dataclass(frozen=True)
class Shout(Stage):
    """Upper-cases captions; cannot do those of `fails`."""

    contract = Contract("shout", version=1, reads=("caption",), writes=SHOUT)
    fails: str = ""

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield self._shout

    def _shout(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch["caption"].to_pylist()
        if self.fails in texts:
            raise ValueError(f"cannot shout {self.fails}")
        vectors = [[float(len(text)), float(text.split()[-1]), 0.0, 1.0] if text != "caption 3" else None for text in texts]
        return pa.RecordBatch.from_arrays([
            batch["uid"], pa.array([text.upper() for text in texts], pa.string()), pa.array(vectors, VECTOR),
            pa.nulls(len(texts), pa.string()),
        ], schema=SHOUT)


def write_input(path: Path, number: int, caption: str | None = None) -> None:
    with tarfile.open(path, "w") as tar:
        members = {"jpg": bytes([number]), "txt": (caption or f"caption {number}").encode()}
        for suffix, content in members.items() if number != EMPTY else ():
            info = tarfile.TarInfo(f"{number:04d}.{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer shards than in earnest are many."""
    monkeypatch.setattr(compaction, "LEAST_SHARDS", FEW)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 shards of one sample, but for one that has none."""
    folder = tmp_path_factory.mktemp("tiny")
    for number in range(COUNT):
        write_input(folder / f"{number:04d}.tar", number)
    return folder


def annotated(
    root: Path, inputs: Path, *, together: int, shards: slice = slice(None), stage: Shout | None = None, gives_up: bool = False,
) -> list[Outcome[MissingColumns]]:
    """The columns of these shards, so many at a time; what was given up."""
    store = Store(str(root))
    work = Annotate(Columns(store, FOLDERS), (stage or Shout("nothing"),), READING, batch_rows=8)
    items = work.of(discover([str(inputs)])[shards])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "SHARES", max(1, len(items) // together))
        return driver(store, gives_up=gives_up).run("annotate", work, items)


def driver(store: Store, *, gives_up: bool = False) -> Driver:
    return Driver(store, LocalExecutor(gives_up=gives_up), Silent(), EventLog(store))


def rows_of(root: Path, inputs: Path) -> Rows:
    shards = discover([str(inputs)])
    facts = read_many_facts(Store(str(root)), [f"{FOLDERS['samples']}/{shard.shard_id}.parquet" for shard in shards])
    return Rows(tuple(shard.shard_id for shard in shards), tuple(int(fact["rows"]) for fact in facts))


def compacted(root: Path, inputs: Path) -> None:
    store = Store(str(root))
    compact(store, driver(store), rows_of(root, inputs), [*FOLDERS.values(), None])


def content(root: Path, shards: list[Shard]) -> list[Any]:
    """All that can be asked of the columns of these shards."""
    store, found = Store(str(root)), list[Any]()
    for folder in FOLDERS.values():
        for shard in shards:
            path = f"{folder}/{shard.shard_id}.parquet"
            found.append((read_facts(store, path), read_columns(store, folder, shard.shard_id).to_pylist()))
    for shard in shards:
        vectors = read_vectors(store, FOLDERS["shout"], shard.shard_id, "vector")
        rows = np.arange(len(vectors))
        assert np.array_equal(read_vector_rows(store, FOLDERS["shout"], shard.shard_id, "vector", rows), vectors)
        found.append((vectors.shape, vectors.tolist()))
    return found


@pytest.fixture(scope="module")
def alone(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A root whose shards each went by themselves, and what it says."""
    root = tmp_path_factory.mktemp("alone") / "root"
    annotated(root, inputs, together=1)
    return root, content(root, discover([str(inputs)]))


@pytest.fixture(scope="module")
def together(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose shards went by fours."""
    root = tmp_path_factory.mktemp("together") / "root"
    annotated(root, inputs, together=4)
    return root


def test_shards_that_travel_together_say_what_they_say_alone_in_one_line_of_the_log(
    inputs: Path, alone: tuple[Path, list[Any]], together: Path,
) -> None:
    assert content(together, discover([str(inputs)])) == alone[1]
    assert len(list((alone[0] / "columns").rglob("*.*"))) == 3 * COUNT
    assert len(list((together / "columns").rglob("*.*"))) == 3 * COUNT / 4
    [log] = (together / "log").iterdir()
    lines = [event for event in read_events(Store(str(together)), f"log/{log.name}") if "item" in event]
    assert [line["shards"] for line in lines] == [4] * (COUNT // 4)
    assert sum(line["rows"] for line in lines) == COUNT - 1
    assert lines[0]["item"].endswith(" and 3 more")


def test_of_a_group_that_fails_only_the_shard_that_fails_is_given_up(inputs: Path, tmp_path: Path) -> None:
    given_up = annotated(tmp_path, inputs, together=4, stage=Shout("caption 10"), gives_up=True)
    shards = discover([str(inputs)])
    assert [outcome.item.shard for outcome in given_up] == [shards[10]]
    assert given_up[0].error == "ValueError: cannot shout caption 10"
    assert stored_shards(Store(str(tmp_path)), list(FOLDERS.values())) == {s.shard_id for s in shards} - {shards[10].shard_id}


def test_the_blocks_of_a_pass_are_the_same_however_its_shards_went(
    inputs: Path, alone: tuple[Path, list[Any]], together: Path, tmp_path: Path,
) -> None:
    """Alone; by fours; some alone, some together, some twice: two files a folder and one of vectors, of the same bytes."""
    shutil.copytree(alone[0], tmp_path / "alone")
    shutil.copytree(together, tmp_path / "together")
    annotated(tmp_path / "mixed", inputs, together=4, shards=slice(0, 10))
    annotated(tmp_path / "mixed", inputs, together=1, shards=slice(10, 20))
    annotated(tmp_path / "mixed", inputs, together=3, shards=slice(18, COUNT))
    found = []
    for name in ("alone", "together", "mixed"):
        compacted(tmp_path / name, inputs)
        assert content(tmp_path / name, discover([str(inputs)])) == alone[1]
        found.append(hashes(tmp_path / name))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5
    compacted(tmp_path / "alone", inputs)
    assert hashes(tmp_path / "alone") == found[0]


def test_a_run_of_few_shards_or_of_large_ones_keeps_a_file_a_shard(inputs: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    annotated(tmp_path, inputs, together=1, shards=slice(0, FEW))
    before = hashes(tmp_path)
    rows = Rows(tuple(shard.shard_id for shard in discover([str(inputs)])[:FEW]), (1,) * FEW)
    compact(store, driver(store), rows, list(FOLDERS.values()))
    compact(store, driver(store), Rows((*rows.shard_ids, "one-more"), (20_000,) * (FEW + 1)), list(FOLDERS.values()))
    assert hashes(tmp_path) == before


class StoppedError(Exception):
    """The end of the process, as far as a test in it can tell."""


def stopped_at(number: int, patch: pytest.MonkeyPatch) -> None:
    """The store does so many changes, then none."""
    done = iter(range(number))
    for name in ("create", "write", "remove"):
        patch.setattr(Store, name, partialmethod(counted, getattr(Store, name), done))


def counted(store: Store, action: Callable[..., Any], done: Iterator[int], *arguments: Any) -> Any:
    if next(done, None) is None:
        raise StoppedError
    return action(store, *arguments)


def test_a_compaction_that_is_stopped_before_any_change_loses_nothing_and_ends_with_the_same_bytes(
    inputs: Path, alone: tuple[Path, list[Any]], together: Path, tmp_path: Path,
) -> None:
    shards = discover([str(inputs)])
    shutil.copytree(together, tmp_path / "whole")
    compacted(tmp_path / "whole", inputs)
    number, over = 0, False
    while not over:
        root = Path(shutil.copytree(together, tmp_path / f"stopped{number}"))
        with pytest.MonkeyPatch.context() as patch:
            stopped_at(number, patch)
            try:
                compacted(root, inputs)
                over = True
            except StoppedError:
                pass
        if number % 4 == 0:   # all of it takes a while
            forget_blocks(Store(str(root)))
            assert content(root, shards) == alone[1]
        compacted(root, inputs)
        assert hashes(root) == hashes(tmp_path / "whole"), number
        number += 1
    assert number > 10


def test_what_changed_or_came_in_the_night_has_files_until_it_is_in_blocks_too(
    inputs: Path, together: Path, tmp_path: Path,
) -> None:
    """A shard that changed leaves its block, whose other shards stay; a new one is made beside it."""
    root, new = Path(shutil.copytree(together, tmp_path / "root")), Path(shutil.copytree(inputs, tmp_path / "in"))
    compacted(root, inputs)
    store, shards = Store(str(root)), discover([str(inputs)])
    before = content(root, shards[:11] + shards[12:])
    changed = shards[11].shard_id
    forget(store, [changed])
    assert stored_shards(store, list(FOLDERS.values())) == {shard.shard_id for shard in shards} - {changed}
    with pytest.raises(FileNotFoundError):
        read_facts(store, f"{FOLDERS['shout']}/{changed}.parquet")
    assert content(root, shards[:11] + shards[12:]) == before
    write_input(new / "0011.tar", 11, "another 11")
    write_input(new / "0024.tar", 24)
    annotated(root, new, together=1, shards=slice(11, 12))
    annotated(root, new, together=1, shards=slice(24, 25))
    assert len(list((root / FOLDERS["samples"]).glob("*.parquet"))) == 3
    assert read_columns(store, FOLDERS["shout"], changed, ["shout"]).to_pylist() == [{"shout": "ANOTHER 11"}]
    compacted(root, new)
    assert len(list((root / FOLDERS["samples"]).iterdir())) == 2
    assert read_columns(store, FOLDERS["shout"], changed, ["shout"]).to_pylist() == [{"shout": "ANOTHER 11"}]
    assert content(root, shards[:11] + shards[12:]) == before


def test_shards_that_are_taken_out_by_a_run_that_is_stopped_are_gone_after_the_next(
    inputs: Path, together: Path, tmp_path: Path,
) -> None:
    shards = discover([str(inputs)])
    for number in range(5):
        root = Path(shutil.copytree(together, tmp_path / f"stopped{number}"))
        compacted(root, inputs)
        store, folder = Store(str(root)), FOLDERS["shout"]
        with pytest.MonkeyPatch.context() as patch:
            stopped_at(number, patch)
            with pytest.raises(StoppedError):
                take_out(store, folder, {shards[3].shard_id})
        forget_blocks(store)
        assert stored_shards(store, [folder]) >= {shard.shard_id for shard in shards if shard != shards[3]}
        take_out(store, folder, {shards[3].shard_id})
        assert stored_shards(store, [folder]) == {shard.shard_id for shard in shards if shard != shards[3]}
        tidy(store, folder, set())
        assert len(list((root / folder).iterdir())) == 3


def test_the_vectors_of_all_shards_of_a_block_are_one_map_and_no_open_file(inputs: Path, together: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(together, tmp_path / "root"))
    compacted(root, inputs)
    store, before = Store(str(root)), len(os.listdir("/proc/self/fd"))
    held = [read_vectors(store, FOLDERS["shout"], shard.shard_id, "vector") for shard in discover([str(inputs)])]
    assert sum(str(root) in line for line in Path("/proc/self/maps").read_text().splitlines()) == 1
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert sum(map(len, held)) == COUNT - 1
    del held
    assert str(root) not in Path("/proc/self/maps").read_text()
