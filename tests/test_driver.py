"""A pass hands out what is missing, shows all of it, and names what could not be done."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.errors import ShardmillError
from pipeline.root.log import EventLog
from pipeline.store.store import Store
from pipeline.timing.progress import Scope, Step
from pipeline.work import Facts, Work, beat


@dataclass(frozen=True)
class Counting(Work[int]):
    """Counts its items in a file; odd ones cannot be done."""

    trace: Path

    def name(self, item: int) -> str:
        return f"shard {item}"

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        yield self._run

    def rows_of(self, item: int) -> int:
        return 10 * item

    def _run(self, item: int) -> Facts:
        beat(4)
        beat(6)
        with self.trace.open("a") as file:
            file.write(f"{item} ")
        if item % 2:
            raise ValueError("odd")
        return {"rows": 10 * item, "verdicts": {"kept": 1, "rejected:tiny": 2, "rejected:language": 3, "failed:image": 4}}


@dataclass
class Recorded:
    """What a reporter was told."""

    told: list[object] = field(default_factory=list)
    moving: list[int] = field(default_factory=list)
    rows: int | None = None
    last: Step = Step()   # noqa: RUF009 (frozen)

    def start(self, title: str, scope: Scope) -> None:
        self.told.append((title, scope.items, scope.done))
        self.rows = scope.rows

    def moved(self, rows: int) -> None:
        self.moving.append(rows)

    def advance(self, step: Step) -> None:
        self.told.append(step.rows)
        self.last = step

    def finish(self) -> None:
        self.told.append("finished")

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def tell() -> Recorded:
    return Recorded()


@pytest.fixture
def driver(tmp_path: Path, tell: Recorded) -> Driver:
    root = Store(str(tmp_path / "root"))
    return Driver(root, LocalExecutor(gives_up=True), tell, EventLog(root))


def test_what_an_earlier_run_has_done_is_counted_and_not_done_again(tmp_path: Path, driver: Driver, tell: Recorded) -> None:
    driver.complete("select", Counting(tmp_path / "trace"), [2, 4, 6, 8], {"shard 2", "shard 6", "another"})
    assert (tmp_path / "trace").read_text() == "4 8 "
    assert tell.told == [("select", 4, 2), 40, 80, "finished"]
    assert tell.rows == 40 + 80, "of those that are left"
    assert tell.moving == [4, 10, 4, 10], "rows of the item in hand, while it is"
    assert tell.last.verdicts == {"kept": 1, "rejected": 5, "failed": 4}
    assert 0 < tell.last.seconds < 10


def test_a_pass_of_which_all_is_done_says_and_logs_nothing(tmp_path: Path, driver: Driver, tell: Recorded) -> None:
    driver.complete("select", Counting(tmp_path / "trace"), [2], {"shard 2"})
    assert not (tmp_path / "trace").exists()
    assert tell.told == []
    assert not list((tmp_path / "root").rglob("*.jsonl"))


def test_what_cannot_be_done_stops_a_pass_over_what_was_read_before_and_is_named(tmp_path: Path, driver: Driver) -> None:
    with pytest.raises(ShardmillError, match=r"select: shard 3 failed 1 times: ValueError: odd\. What is done is kept"):
        driver.must("select", Counting(tmp_path / "trace"), [2, 3, 4])


def test_what_is_given_up_comes_back_and_the_log_has_every_item(tmp_path: Path, driver: Driver) -> None:
    (outcome,) = driver.run("annotate", Counting(tmp_path / "trace"), [2, 3, 4])
    assert (outcome.item, outcome.error) == (3, "ValueError: odd")
    lines = [json.loads(line) for path in (tmp_path / "root").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert [(line["item"], line["error"]) for line in lines if "item" in line] == [
        ("shard 2", None), ("shard 3", "ValueError: odd"), ("shard 4", None)]
    (end,) = [line for line in lines if line.get("done")]
    assert (end["pass"], end["shards"], end["samples"]) == ("annotate", 3, 60)
