"""A shard is asked for the columns that it lacks, and for nothing else."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.columns import Columns
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import ConservationError
from pipeline.input.discovery import Shard, discover
from pipeline.input.samples import READING
from pipeline.passes import annotate
from pipeline.passes.annotate import Annotate, MissingColumns, Steps, steps
from pipeline.passes.shards import sources
from pipeline.passes.stages import forget
from pipeline.registry import SOURCE, producers
from pipeline.stage import Contract, Stage, Transform
from pipeline.stages.image import ImageStage
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_facts
from schemas.columns import UID, error, field
from tests.curations import curated

SIDES = pa.schema([UID, field("sides", pa.int64(), "pixels' sides, added up"), error("sides")])
WORDS = pa.schema([UID, field("words", pa.int32(), "words of the caption"), error("words")])
DOUBLE = pa.schema([UID, field("double", pa.int64(), "twice the words, and the width"), error("double")])


@dataclass(frozen=True)
class Sides(Stage):
    """Looks at pixels."""

    contract = Contract("sides", 1, ("pixels_rows", "pixels_columns"), SIDES)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield lambda batch: columns(SIDES, batch, [
            None if rows is None else rows + across
            for rows, across in zip(batch["pixels_rows"].to_pylist(), batch["pixels_columns"].to_pylist(), strict=True)
        ])


@dataclass(frozen=True)
class Words(Stage):
    """Looks at what the source has stored."""

    contract = Contract("words", 1, ("caption",), WORDS)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield lambda batch: columns(WORDS, batch, [
            None if text is None else len(text.split()) for text in batch["caption"].to_pylist()
        ])


@dataclass(frozen=True)
class Double(Stage):
    """Looks at what two other stages have stored."""

    contract = Contract("double", 1, ("words", "width"), DOUBLE)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield lambda batch: columns(DOUBLE, batch, [
            None if words is None or width is None else 2 * words + width
            for words, width in zip(batch["words"].to_pylist(), batch["width"].to_pylist(), strict=True)
        ])


def columns(schema: pa.Schema, batch: pa.RecordBatch, values: list[int | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [batch["uid"], pa.array(values, schema.field(1).type), pa.nulls(len(values), pa.string())], schema=schema)


STAGES = (ImageStage(), Words(), Sides(), Double())
WRITERS = producers() | {"words": "words", "sides": "sides", "double": "double"}


@pytest.mark.parametrize(("missing", "expected"), [
    ({"words"}, Steps((1,), {"samples": ("caption",)}, False)),
    ({"double"}, Steps((3,), {"words": ("words",), "image": ("width",)}, False)),
    ({"words", "double"}, Steps((1, 3), {"samples": ("caption",), "image": ("width",)}, False)),
    ({"sides"}, Steps((0, 2), {}, True)),
    ({"image", "double"}, Steps((0, 3), {"words": ("words",)}, True)),
    ({SOURCE}, Steps((), {}, True)),
    ({SOURCE, "image", "words", "sides", "double"}, Steps((0, 1, 2, 3), {}, True)),
])
def test_what_is_missing_says_which_stages_run_what_is_read_back_and_whether_the_input_is(
    missing: set[str], expected: annotate.Steps,
) -> None:
    assert steps(STAGES, missing, WRITERS) == expected


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path) -> tuple[Path, annotate.Annotate, Shard]:
    """A root with everything of one shard, and the work that made it."""
    folder = tmp_path_factory.mktemp("missing")
    shutil.copy2(sample_folder / "00000.tar", folder / "00000.tar")
    (shard,) = discover([str(folder / "00000.tar")])
    names = [SOURCE, *(stage.contract.name for stage in STAGES)]
    places = Columns(Store(str(folder / "root")), {name: f"columns/{name}@1" for name in names})
    work = Annotate(places, STAGES, READING, batch_rows=16, writers=WRITERS)
    (outcome,) = LocalExecutor().run(work, work.of([shard]))
    assert outcome.error is None
    return folder / "root", work, shard


@pytest.mark.parametrize("gone", [
    ["words"], ["double"], ["sides"], ["image"], ["samples"], ["words", "sides"], ["image", "double"],
])
def test_what_is_made_again_has_its_bytes_and_nothing_else_is_touched(
    finished: tuple[Path, annotate.Annotate, Shard], tmp_path: Path, gone: list[str],
) -> None:
    source, work, shard = finished
    root = Path(shutil.copytree(source, tmp_path / "root"))
    work = Annotate(Columns(Store(str(root)), work.columns.folders), STAGES, READING, batch_rows=16, writers=WRITERS)
    for name in gone:
        (root / f"columns/{name}@1/{shard.shard_id}.parquet").unlink()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*.parquet")}
    (outcome,) = LocalExecutor().run(work, [MissingColumns(shard, frozenset(gone))])
    assert outcome.error is None
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before} == before
    for path in source.rglob("*.parquet"):
        assert (root / path.relative_to(source)).read_bytes() == path.read_bytes(), path


def test_the_input_is_not_opened_where_stored_columns_are_enough(
    finished: tuple[Path, annotate.Annotate, Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, work, shard = finished
    root = Path(shutil.copytree(source, tmp_path / "root"))
    work = Annotate(Columns(Store(str(root)), work.columns.folders), STAGES, READING, batch_rows=16, writers=WRITERS)
    (root / f"columns/double@1/{shard.shard_id}.parquet").unlink()
    monkeypatch.setattr(sources, "read", lambda *_, **__: pytest.fail("the input was opened"))
    (outcome,) = LocalExecutor().run(work, [MissingColumns(shard, frozenset(["double"]))])
    assert (outcome.error, outcome.facts["bytes_read"], outcome.facts["rows"]) == (None, 0, 100)


def test_stored_columns_of_other_samples_are_not_put_beside_the_input_s(
    finished: tuple[Path, annotate.Annotate, Shard], tmp_path: Path,
) -> None:
    source, work, shard = finished
    root = Path(shutil.copytree(source, tmp_path / "root"))
    work = Annotate(Columns(Store(str(root)), work.columns.folders), STAGES, READING, batch_rows=16, writers=WRITERS)
    words = work.columns.folders["words"]
    path = root / words / f"{shard.shard_id}.parquet"
    table = read_columns(work.columns.store, words, shard.shard_id)
    facts = read_facts(work.columns.store, f"{words}/{shard.shard_id}.parquet")
    from pipeline.store.tables import write_table

    path.unlink()
    write_table(work.columns.store, f"{words}/{shard.shard_id}.parquet", table.take(list(range(99, -1, -1))), facts)
    with work.open() as run, pytest.raises(ConservationError, match="its stored columns are of other samples"):
        run(MissingColumns(shard, frozenset(["image", "double"])))


class Stopping(Store):
    """Stands for a process that is stopped after so many removals."""

    left = 2

    def remove(self, path: str) -> None:
        if path.startswith("columns/"):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        super().remove(path)


def test_of_a_changed_input_samples_go_last_so_that_a_stopped_run_knows_what_else_is_to_go(tmp_path: Path) -> None:
    root = Stopping(str(tmp_path))
    for stage in ("image@1", "samples@2", "words@3"):
        for name in ("a.parquet", "a.vectors.npy", "ab.parquet"):
            (tmp_path / "columns" / stage).mkdir(parents=True, exist_ok=True)
            (tmp_path / "columns" / stage / name).touch()
    with pytest.raises(KeyboardInterrupt):
        forget(root, ["a"])
    assert root.exists("columns/samples@2/a.parquet")
    root.left = 9
    forget(root, ["a"])
    assert sorted(path.name for path in (tmp_path / "columns").rglob("*.*")) == ["ab.parquet"] * 3


def test_a_changed_stage_of_a_finished_root_costs_that_stage_and_what_reads_it(
    tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`entities.ner` changes the mentions, which the entities read: the other columns keep inode, time and bytes, and what is made
    has the bytes of a run that began with it."""
    shard, root = sample_folder / "00008.tar", tmp_path / "root"
    curated(root, [shard])
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in (root / "columns").rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr(sources, "read", lambda *_, **__: pytest.fail("the input was read again"))
        changed = curated(root, [shard], ("entities.ner=true",))
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in (root / "columns").rglob("*.*")}
    assert {path: after[path] for path in before} == before
    folders = {path.parent.name.partition("@")[0] for path in set(after) - set(before)}
    assert folders == {"mentions", "entities"}
    folder, shard_id = changed.plan.columns.folders["entities"], changed.plan.shards[0].shard_id
    footer = read_facts(changed.plan.root, f"{folder}/{shard_id}.parquet")
    assert footer.keys() == {"shard_id", "stage", "failed", "rows", "files"}, "nothing of the input, which it did not read"
    fresh = curated(tmp_path / "fresh", [shard], ("entities.ner=true",))
    assert fresh.plan.describe() == changed.plan.describe()
    for path in [path for folder in ("columns", "tables") for path in (tmp_path / "fresh" / folder).rglob("*.*")]:
        assert (root / path.relative_to(tmp_path / "fresh")).read_bytes() == path.read_bytes(), path
    embedded = [sum('"pass": "entity texts"' in line for log in (root / "log").iterdir() for line in log.read_text().splitlines())
                for root in (root, tmp_path / "fresh")]
    assert embedded[0] == embedded[1] > 0, "the first run's entities were embedded again"
