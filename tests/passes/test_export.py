"""An input shard that can no longer be read when its samples are written costs its own samples, as it would have before."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.api import shardmill
from pipeline.api.engines import Execution
from pipeline.api.progress import Silent
from pipeline.api.run import Wanted, run, shards_of
from pipeline.audit.verify import verify
from pipeline.errors import ShardmillError, SourceError
from pipeline.export.shards import Export
from pipeline.input.tar import write_tar
from pipeline.queries.status import status
from pipeline.recipe.recipe import load
from pipeline.root.lifecycle import Result
from pipeline.store.store import Store
from pipeline.timing.progress import Scope
from tests.damage import clean_pairs

RULES_OFF = [f"filters.{name}=null" for name in load("sample").filters]
RECIPE = load("sample", [*RULES_OFF, "model.compile=false", "export.shard_size=7"])


class Meddler(Silent):
    """Does something when a pass begins."""

    def __init__(self, title: str, call: Callable[[], None]) -> None:
        self._title, self._call = title, call

    def start(self, title: str, scope: Scope) -> None:
        if title == self._title:
            self._call()


def ran(root: Path, inputs: Path, tell: Silent, *, retry: bool = False) -> Result:
    execution = Execution(local=True, retry_quarantined=retry)
    return run(Store(str(root)), Wanted(RECIPE, shards_of(RECIPE, [str(inputs)])), tell, execution)[0]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> Path:
    """Three shards of six clean pairs."""
    folder, pairs = tmp_path_factory.mktemp("inputs"), list(clean_pairs(sample_folder).items())
    for number in range(3):
        with (folder / f"{number}.tar").open("wb") as file:
            write_tar(file, ((key, "jpg", image, text, b"{}") for key, (image, text) in pairs[6 * number : 6 * number + 6]))
    return folder


def test_a_shard_that_cannot_be_read_again_is_quarantined_and_the_others_are_exported(tmp_path: Path, inputs: Path) -> None:
    root, bad = tmp_path / "root", inputs / "1.tar"
    content, before = bad.read_bytes(), bad.stat()

    def written(what: bytes) -> None:
        bad.write_bytes(what)
        os.utime(bad, ns=(before.st_atime_ns, before.st_mtime_ns))

    result = ran(root, inputs, Meddler("export", lambda: written(content[:2000] + bytes(len(content) - 2000))))
    [name] = result.ledger.quarantined
    assert (name.startswith("1-"), result.ledger.read, result.ledger.kept) == (True, 12, 12)
    [entry] = status(str(root)).quarantined
    assert "has other bytes now" in str(entry)
    assert verify(str(root)).faults == ()
    assert {path.name for path in (root / "shards").glob("*.tar")} == {"000000.tar", "000001.tar"}
    assert shardmill.open(root).samples(["key"]).to_table().num_rows == 12
    # The same command again leaves it alone; asked to, it tries again, and everything is there.
    assert ran(root, inputs, Silent()).finished_before
    written(content)
    healed = ran(root, inputs, Silent(), retry=True)
    assert (healed.ledger.quarantined, healed.ledger.kept) == ((), 18)
    assert verify(str(root), deep=True).faults == ()


def test_a_store_that_is_gone_when_the_samples_are_written_stops_the_run_and_no_shard_is_to_blame(
    tmp_path: Path, inputs: Path,
) -> None:
    root, there, gone = tmp_path / "root", tmp_path / "in", tmp_path / "gone"
    shutil.copytree(inputs, there)

    def goes() -> None:
        there.rename(gone)

    with pytest.raises(SourceError, match=rf"0\.tar.*; nor can .*1\.tar and 1 other that were asked be read: see to {there}"):
        ran(root, there, Meddler("export", goes))
    assert not list(root.glob("quarantine/*"))
    gone.rename(there)
    assert ran(root, there, Silent()).ledger.kept == 18


def test_an_output_shard_that_fails_though_its_inputs_can_be_read_stops_the_run(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: Any) -> Any:
        raise ValueError("a defect")

    monkeypatch.setattr(Export, "_run", failing)
    with pytest.raises(ShardmillError, match=r"export: 000000 failed 1 times: ValueError: a defect\. What is done is kept"):
        ran(tmp_path / "root", inputs, Silent())
    assert not list((tmp_path / "root").glob("quarantine/*"))
