"""Thread-seconds of an item. Sleeps stand for waiting; what is compared with them leaves room for a busy machine."""

import json
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.api.progress import Silent
from pipeline.columns import Columns
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.input.discovery import discover
from pipeline.input.reader import read
from pipeline.input.samples import READING
from pipeline.passes import annotate as runner
from pipeline.passes.annotate import Annotate
from pipeline.passes.shards import sources
from pipeline.report.clocks import spendings
from pipeline.root import log
from pipeline.root.log import EventLog, pass_usages
from pipeline.stage import Contract, Stage, Transform
from pipeline.store.store import Store
from pipeline.store.tables import read_facts
from pipeline.timing.bottleneck import Means
from pipeline.timing.clock import Account, accounted, add_seconds, spent, timed
from pipeline.work import Accounted, Facts, Work

SLOW = pa.schema([("uid", pa.string()), ("slow_error", pa.string())])
FOLDERS = {"samples": "columns/samples@1", "slow": "columns/slow@1"}


@dataclass(frozen=True)
class Slow(Stage):
    """Sleeps for every batch, a part of it as `model`."""

    contract = Contract("slow", version=1, reads=("caption",), writes=SLOW)
    seconds: float = 0.0
    route: str = "cuda-sm90-bf16-eager"

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield self._slow

    def _slow(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        time.sleep(self.seconds)
        with spent("model"):
            time.sleep(self.seconds)
        return pa.RecordBatch.from_arrays([batch["uid"], pa.nulls(batch.num_rows, pa.string())], schema=SLOW)


def one_shard(root: Path, sample_folder: Path, stage: Slow, threads: int = 1) -> dict[str, Any]:
    work = Annotate(Columns(Store(str(root)), FOLDERS), (stage,), READING, threads, batch_rows=10)
    (outcome,) = LocalExecutor().run(Accounted(work), work.of(discover([str(sample_folder / "00000.tar")])))
    return outcome.facts


def adds_up(facts: Facts) -> bool:
    total = sum(facts["spent"].values())
    return 0.9 * facts["threads"] * facts["seconds"] < total <= 1.001 * facts["threads"] * facts["seconds"] + 0.001


@pytest.mark.parametrize("threads", [1, 3])
def test_a_slow_stage_is_where_the_time_went(tmp_path: Path, sample_folder: Path, threads: int) -> None:
    one_shard(tmp_path / "warm", sample_folder, Slow())
    facts = one_shard(tmp_path / "root", sample_folder, Slow(0.03), threads)
    assert facts["threads"] == threads
    assert facts["spent"]["slow"] >= 0.3
    assert facts["spent"]["model"] >= 0.3
    assert facts["spent"]["slow"] + facts["spent"]["model"] > 0.5 * sum(facts["spent"].values())
    assert adds_up(facts)
    assert facts["beside"]["computing cpu"] < 0.3


def test_a_slow_reader_is_where_the_time_went_and_a_hidden_one_costs_nothing(
    tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trickling(*arguments: Any, **options: Any) -> Any:
        reader = read(*arguments, **options)

        class Trickling:
            def __iter__(self) -> Iterator[pa.RecordBatch]:
                for batch in reader:
                    time.sleep(0.05)
                    yield batch

            def __getattr__(self, name: str) -> Any:
                return getattr(reader, name)

        return Trickling()

    one_shard(tmp_path / "warm", sample_folder, Slow())
    monkeypatch.setattr(sources, "read", trickling)
    facts = one_shard(tmp_path / "root", sample_folder, Slow())
    assert facts["spent"]["read"] > 0.5 * sum(facts["spent"].values())
    assert facts["beside"]["reading"] >= 0.5
    assert facts["beside"]["reading cpu"] < 0.5 * facts["beside"]["reading"]
    assert adds_up(facts)
    hidden = one_shard(tmp_path / "other", sample_folder, Slow(0.06))
    assert hidden["beside"]["reading"] >= 0.5
    assert hidden["spent"]["read"] < 0.5 * hidden["beside"]["reading"]


def test_a_slow_store_is_where_the_time_went(tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = runner.commit

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.5)
        return commit(*arguments)

    monkeypatch.setattr(runner, "commit", slowly)
    facts = one_shard(tmp_path, sample_folder, Slow(), threads=2)
    assert facts["spent"]["write"] >= 1.0
    assert adds_up(facts)


def test_no_file_of_columns_says_where_the_time_went(tmp_path: Path, sample_folder: Path) -> None:
    facts = one_shard(tmp_path, sample_folder, Slow())
    assert facts["spent"]
    for folder in FOLDERS.values():
        footer = read_facts(Store(str(tmp_path)), f"{folder}/{facts['shard_id']}.parquet")
        assert not footer.keys() & {"spent", "beside", "threads", "seconds"}


def test_what_is_named_inside_is_not_counted_twice_and_errors_end_it() -> None:
    def fail() -> None:
        with spent("inner"), spent("outer"):
            time.sleep(0.03)
            raise KeyError

    def run(_: object) -> Facts:
        with spent("outer"):
            time.sleep(0.02)
            with pytest.raises(KeyError):
                fail()
        list(timed("read", map(time.sleep, [0.01] * 3)))
        add_seconds("device", 7.0)
        return {"rows": 1}

    began = time.perf_counter()
    facts = accounted(run, None)
    took = time.perf_counter() - began
    assert facts["rows"] == 1
    assert facts["beside"]["device"] == 7.0
    assert facts["spent"]["outer"] >= 0.05
    assert facts["spent"]["read"] >= 0.03
    assert facts["spent"]["inner"] < 0.02
    assert sum(facts["spent"].values()) <= took + 0.001


def test_a_work_with_threads_of_its_own_keeps_its_own_account() -> None:
    own = {"threads": 4, "spent": {"model": 8.0}, "beside": {"reading": 1.0}, "rows": 3}
    assert accounted(lambda _: dict(own), None).items() >= own.items()


def test_what_idle_threads_wait_for_is_what_it_was_before_once_the_feeding_is_over() -> None:
    account = Account(1)
    with account.feeding("write"), account.feeding("read"):
        pass
    time.sleep(0.05)
    found = account.facts()["spent"]
    assert found["wait"] >= 0.05
    assert found.get("write", 0) + found.get("read", 0) < 0.05


def test_what_follows_something_inside_an_activity_is_counted_once() -> None:
    def run(_: object) -> Facts:
        with spent("outer"):
            for _ in range(3):
                with spent("inner"):
                    time.sleep(0.02)
        return {}

    found = accounted(run, None)["spent"]
    assert found["inner"] >= 0.06
    assert found.get("outer", 0) < 0.03


def test_threads_do_not_name_what_others_do_and_nobody_needs_an_account() -> None:
    with spent("nobody"):
        add_seconds("device", 1.0)
    account, barrier = Account(4), threading.Barrier(4)

    def compute(number: int) -> None:
        with account.computing():
            barrier.wait()
            for _ in range(200):
                with spent(f"thread {number}"):
                    time.sleep(0.0001)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compute, range(4)))
    facts = account.facts()
    assert {f"thread {i}" for i in range(4)} <= facts["spent"].keys()
    assert "nobody" not in facts["spent"]
    assert "device" not in facts["beside"]
    assert all(facts["spent"][f"thread {i}"] >= 0.02 for i in range(4))


def test_naming_costs_little() -> None:
    """A microsecond on a machine that does nothing else; ten are allowed here."""
    seconds = min(timeit.repeat("with spent('model'): pass", globals={"spent": spent}, number=2000, repeat=20)) / 2000
    assert seconds < 10e-6


@dataclass(frozen=True)
class Naps(Work[str]):
    """Sleeps as it is told, and asks something after the first."""

    ask: Callable[[], object] | str = ""

    def name(self, item: str) -> str:
        return item

    def careful(self) -> "Naps":
        return Naps("careful")

    @contextmanager
    def open(self) -> Iterator[Callable[[str], dict[str, Any]]]:
        yield self._run

    def _run(self, item: str) -> Facts:
        with spent("read"):
            time.sleep(0.6)
        if item == "second" and not isinstance(self.ask, str):
            self.ask()
        return {"rows": 5}


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def test_the_log_of_a_pass_says_where_its_time_goes_while_it_is_at_work_and_after(tmp_path: Path) -> None:
    store, notes, seen = Store(str(tmp_path)), Notes(), []
    driver = Driver(store, LocalExecutor(), notes, EventLog(store))
    driver.run("nap", Naps(lambda: seen.append(pass_usages(store)["nap"])), ["first", "second"])
    assert (seen[0].at_work, 0.6 <= seen[0].usage.total < 1.2) == (True, True)
    found = pass_usages(store)["nap"]
    assert (found.at_work, found.usage.total >= 1.2) == (False, True)
    assert found.usage.shares["read"] > 0.9
    assert found.advice.startswith("reading is the bottleneck: nearer")
    (told,) = notes.told
    assert told.startswith("nap: read ")
    assert told.endswith("; " + found.advice)
    (spending,) = spendings(store)
    assert (spending.name, spending.shares[0][0], spending.advice) == ("nap", "read", found.advice)
    events = [json.loads(line) for path in (tmp_path / "log").iterdir() for line in path.read_text().splitlines()]
    assert events[-1]["done"]
    assert all(0.6 <= event["seconds"] < 1.2 for event in events if "item" in event)
    assert events[-1]["spent"]["read"] == pytest.approx(sum(e["spent"]["read"] for e in events if "item" in e), abs=0.01)


def test_a_pass_says_what_it_computes_with(tmp_path: Path, sample_folder: Path) -> None:
    store = Store(str(tmp_path))
    driver = Driver(store, LocalExecutor(), Silent(), EventLog(store))
    work = Annotate(Columns(store, FOLDERS), (Slow(),), READING, threads=2)
    driver.run("annotate", work, work.of(discover([str(sample_folder / "00000.tar")])))
    assert pass_usages(store)["annotate"].means == Means("cuda", "bf16", 2, 1)
    assert Accounted(work).means() == work.means()
    assert Accounted(Naps()).careful() == Accounted(Naps("careful"))


def test_a_log_that_somebody_else_wrote_gives_no_figures_and_no_error(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    lines = [b"\xff\xfe", b"[]", b"{}", b'{"time": "x", "pass": "p", "begun": true}', b'{"time": 1, "pass": ["p"], "item": 1}',
             b'{"time": 1, "pass": "p", "item": "a", "spent": {"a": "b"}}', b'{"time": 1, "pass": "q", "begun": 1, "means": 3}',
             b'{"time": 1, "pass": "q", "begun": true, "means": {"threads": "2", "device": "cuda", "x": 1}}', b'{"time": 1, "pa']
    store.write("log/1.jsonl", b"\n".join(lines))
    store.write("log/2.json", b'{"time": 1, "pass": "r", "begun": true}')
    found = pass_usages(store)
    assert list(found) == ["q"]
    assert (found["q"].means, found["q"].usage.total, found["q"].advice) == (Means("cuda"), 0, "")
    assert spendings(store) == ()


def test_the_log_on_an_object_store_is_there_while_a_pass_is_at_work_and_in_pieces_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store("memory://clock-test")
    monkeypatch.setattr(log, "FLUSHED", 0.0)
    monkeypatch.setattr(log, "SEGMENT", 400)
    events, written = EventLog(store), []
    events.add({"pass": "p", "begun": True})
    for number in range(12):
        events.add({"pass": "p", "item": f"{number}", "attempts": 1, "error": None, "threads": 1, "spent": {"read": 1.0}})
        written.append(pass_usages(store)["p"].usage.total)
    assert written == list(range(1, 13))
    assert pass_usages(store)["p"].at_work
    sizes = store.sizes("log")
    assert len(sizes) > 2
    assert max(sizes.values()) < 600
    monkeypatch.setattr(log, "FLUSHED", 60.0)
    events.add({"pass": "p", "done": True, "seconds": 1.0})
    assert pass_usages(store)["p"].at_work
    events.flush()
    assert not pass_usages(store)["p"].at_work
    before = store.sizes("log")
    events.flush()
    assert store.sizes("log") == before
