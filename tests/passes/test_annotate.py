import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.columns import Columns, stored_batch
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.errors import ConservationError, ContractViolation
from pipeline.input.discovery import Shard, discover
from pipeline.input.samples import READING
from pipeline.passes import annotate as runner
from pipeline.passes.annotate import Annotate, MissingColumns
from pipeline.process.ahead import ahead
from pipeline.root.log import EventLog
from pipeline.stage import Contract, Stage, Transform
from pipeline.stages.clip import ClipStage
from pipeline.stages.image import ImageStage
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_facts, read_vectors
from pipeline.work import Item, Outcome, Work, beats

VECTOR = pa.list_(pa.float16(), 4)
SHOUT = pa.schema([("uid", pa.string()), ("shout", pa.string()), ("vector", VECTOR), ("shout_error", pa.string())])
LONG = pa.schema([("uid", pa.string()), ("long", pa.bool_()), ("sum", pa.float32()), ("long_error", pa.string())])


@dataclass(frozen=True)
class Shout(Stage):
    """Upper-cases captions; every third sample of a batch fails; the vector is the caption's length four times."""

    contract = Contract("shout", version=1, reads=("caption",), writes=SHOUT)
    drops: bool = False

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield self._shout

    def _shout(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        texts = batch["caption"].to_pylist()
        good = [i % 3 != 2 for i in range(len(texts))]
        vectors = [[float(len(t))] * 4 if ok else None for t, ok in zip(texts, good, strict=True)]
        found = pa.RecordBatch.from_arrays([
            batch["uid"], pa.array([t.upper() if ok else None for t, ok in zip(texts, good, strict=True)], pa.string()),
            pa.array(vectors, VECTOR), pa.array([None if ok else "third" for ok in good], pa.string()),
        ], schema=SHOUT)
        return found.slice(1) if self.drops else found


@dataclass(frozen=True)
class Long(Stage):
    contract = Contract("long", version=1, reads=("shout", "vector"), writes=LONG)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield self._long

    def _long(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        lengths = [None if v is None else sum(v) for v in batch["vector"].to_pylist()]
        return pa.RecordBatch.from_arrays([
            batch["uid"], pa.array([None if n is None else n > 80 for n in lengths], pa.bool_()), pa.array(lengths, pa.float32()),
            pa.nulls(len(lengths), pa.string()),
        ], schema=LONG)


def annotated(
    root: Path, folder: Path, threads: int = 1, batch_rows: int = 64, stage: Shout | None = None,
) -> tuple[Columns, list[Shard], list[Outcome[runner.MissingColumns]]]:
    columns = Columns(Store(str(root)), {"samples": "columns/samples@1", "shout": "columns/shout@1", "long": "columns/long@1"})
    work = Annotate(columns, (stage or Shout(),), READING, threads, batch_rows)
    shards = discover([str(folder)])
    return columns, shards, list(LocalExecutor().run(work, work.of(shards)))


def test_every_readable_member_becomes_a_row_and_failures_keep_their_place(tmp_path: Path, sample_folder: Path) -> None:
    columns, shards, outcomes = annotated(tmp_path, sample_folder)
    assert sum(outcome.facts["rows"] for outcome in outcomes) == 828
    samples = read_columns(columns.store, columns.folders["samples"], shards[0].shard_id)
    shout = read_columns(columns.store, columns.folders["shout"], shards[0].shard_id)
    assert samples.column("uid").equals(shout.column("uid"))
    assert "pixels_rgb" not in samples.column_names
    assert "image" not in samples.column_names
    vectors = read_vectors(columns.store, columns.folders["shout"], shards[0].shard_id, "vector")
    valid = np.asarray(shout.column("vector_valid"))
    assert vectors.shape == (100, 4)
    assert vectors.dtype == np.float16
    assert not vectors[~valid].any()
    assert vectors[valid].any(axis=1).all()
    facts = read_facts(columns.store, f"{columns.folders['shout']}/{shards[0].shard_id}.parquet")
    assert facts["failed"] == {"third": int((~valid).sum())}
    assert outcomes[0].facts["verdicts"] == {"failed": int((~valid).sum())}


def test_threads_change_no_byte(tmp_path: Path, sample_folder: Path) -> None:
    found = []
    for name, threads in (("one", 1), ("four", 4)):
        annotated(tmp_path / name, sample_folder, threads)
        files = [path for path in sorted((tmp_path / name).rglob("*.*")) if path.is_file()]
        found.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert found[0] == found[1]
    assert len(found[0]) == 27


def test_a_stage_that_loses_a_sample_leaves_no_file(tmp_path: Path, sample_folder: Path) -> None:
    with pytest.raises(ContractViolation, match="dropped, added or reordered"):
        annotated(tmp_path, sample_folder, stage=Shout(drops=True))
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_batch_that_gets_lost_between_reading_and_writing_leaves_no_file(
    tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "ahead", lambda *arguments: list(ahead(*arguments))[:-1])
    with pytest.raises(ConservationError, match="100 samples were read, 64 came through"):
        annotated(tmp_path, sample_folder)
    assert not list(tmp_path.rglob("*.parquet"))


def test_every_batch_is_a_sign_of_progress(tmp_path: Path, sample_folder: Path) -> None:
    before = beats()
    annotated(tmp_path, sample_folder, batch_rows=10)
    assert beats() - before >= 828 // 10


class Unlucky(LocalExecutor):
    """Gives up every third item."""

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        for number, outcome in enumerate(super().run(work, items)):
            yield Outcome(outcome.item, error="bad luck", attempts=3) if number % 3 == 0 else outcome


def test_a_pass_returns_what_was_given_up_and_logs_the_rest(tmp_path: Path, sample_folder: Path) -> None:
    columns, shards, _ = annotated(tmp_path, sample_folder)
    store = columns.store
    driver = Driver(store, Unlucky(), Silent(), EventLog(store))
    work = Annotate(columns, (Shout(),), READING)
    given_up = driver.run("annotate", work, work.of(shards))
    assert [outcome.item.shard for outcome in given_up] == shards[::3]
    events = [json.loads(line) for path in (tmp_path / "log").iterdir() for line in path.read_text().splitlines()]
    assert [event["attempts"] for event in events if "item" in event] == [3, 1, 1] * 3
    assert events[-1]["samples"] == sum(event.get("rows", 0) for event in events[:-1]) > 0


def test_stages_over_stored_columns_see_what_was_stored(tmp_path: Path, sample_folder: Path) -> None:
    columns, shards, _ = annotated(tmp_path, sample_folder)
    writers = {"shout": "shout", "vector": "shout"}
    work = Annotate(columns, (Long(),), READING, writers=writers)
    list(LocalExecutor().run(work, [MissingColumns(shard, frozenset(["long"])) for shard in shards]))
    shout = read_columns(columns.store, columns.folders["shout"], shards[0].shard_id).to_pylist()
    found = read_columns(columns.store, columns.folders["long"], shards[0].shard_id).to_pylist()
    assert [row["sum"] for row in found] == [None if row["shout"] is None else 4.0 * len(row["shout"]) for row in shout]


def test_columns_of_one_shard_that_are_of_other_samples_are_not_put_together(tmp_path: Path, sample_folder: Path) -> None:
    columns, shards, _ = annotated(tmp_path, sample_folder)
    first, second = (tmp_path / columns.folders["samples"] / f"{shard.shard_id}.parquet" for shard in shards[:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(ConservationError, match=rf"shard {shards[0].shard_id}: the rows of columns/shout@1 are not those of the o"):
        stored_batch(columns, [shards[0].shard_id], {"samples": ("caption",), "shout": ("shout",)})
    assert stored_batch(columns, [shards[1].shard_id], {"samples": ("caption",), "shout": ("shout",)}).num_rows == 100


def test_the_last_try_of_a_shard_takes_every_stage_s_precautions() -> None:
    work = Annotate(Columns(Store("memory://unused"), {}), (ImageStage(), Shout()), READING)
    assert work.careful().stages == (ImageStage().careful(), Shout()) != work.stages


def test_work_ahead_is_bounded_and_in_order() -> None:
    started = []

    def start(i: int) -> int:
        started.append(i)
        return i

    with ThreadPoolExecutor(4) as pool:
        found = ahead(pool, start, iter(range(100)), depth=5)
        assert next(found) == 0
        assert max(started) <= 5
        assert list(found) == list(range(1, 100))


@pytest.mark.parametrize(("micro_batch", "rows"), [(16, 64), (64, 64), (48, 96), (256, 256)])
def test_a_batch_is_a_multiple_of_what_the_model_pads_to(micro_batch: int, rows: int) -> None:
    """A micro-batch of 256 with batches of 64 rows would compute four rows for each one."""
    clip = ClipStage("bundled", None, "fp32", "cpu-avx2-fp32-packed", micro_batch)
    assert Annotate(Columns(Store("memory://unused"), {}), (clip,), READING).rows == rows


def test_with_a_gpu_three_batches_are_in_work_and_their_size_is_the_readers() -> None:
    clip = ClipStage("bundled", None, "bf16", "cuda-sm90.card.torch2-bf16-eager", 256)
    work = Annotate(Columns(Store("memory://unused"), {}), (clip,), READING)
    assert (work.rows, work.overlap) == (64, 3)
    assert Annotate(work.columns, (clip,), READING, threads=5).overlap == 5
