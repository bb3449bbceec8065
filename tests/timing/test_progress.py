"""What is said of what is under way: counts in their own units, a rate without the start, and the time left as it is known."""

from collections import Counter
from dataclasses import dataclass

import pytest

from pipeline.timing.progress import Meter, Scope, Step
from pipeline.work import SHARDS, Units


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_rate_leaves_out_the_start_and_the_time_left_goes_by_it(clock: Clock) -> None:
    meter = Meter("annotate", Scope(9, units=SHARDS), clock)
    clock.now += 30
    assert meter.line() == "annotate: 0 of 9 shards, starting, 30 s"
    meter.moved(0)
    clock.now += 5
    meter.moved(64)
    assert meter.line() == "annotate: 0 of 9 shards, 64 samples, 13 samples/s, 35 s", "how many a shard has, nobody knows yet"
    clock.now += 5
    meter.advance(Step(100, 10.0))
    assert meter.line() == "annotate: 1 of 9 shards, 100 samples, 10 samples/s, about 80 seconds left"
    meter.moved(50)
    assert meter.line() == "annotate: 1 of 9 shards, 150 samples, 15 samples/s, about 50 seconds left"
    for _ in range(8):
        clock.now += 10
        meter.advance(Step(100, 10.0))
    assert meter.line(over=True) == "annotate: 9 of 9 shards, 900 samples, 10 samples/s, 120.0 s (30.0 s of them to start)"


def test_an_item_says_when_its_work_began_where_nobody_told_of_it_before(clock: Clock) -> None:
    meter = Meter("label", Scope(4, units=SHARDS), clock)
    clock.now += 20
    meter.advance(Step(100, 4.0))
    assert meter.worked == 4.0
    assert "25 samples/s, about 12 seconds left" in meter.line()


def test_what_an_earlier_run_has_done_counts_as_done_and_not_for_the_rate(clock: Clock) -> None:
    meter = Meter("annotate", Scope(10, done=6, units=SHARDS), clock)
    clock.now += 10
    meter.advance(Step(100, 10.0))
    assert meter.line() == "annotate: 7 of 10 shards, 100 samples, 10 samples/s, about 30 seconds left"
    assert meter.share == pytest.approx(0.7)


def test_rows_that_are_known_before_give_the_time_left_before_an_item_is_done(clock: Clock) -> None:
    meter = Meter("export", Scope(2, rows=1000, units=SHARDS), clock)
    meter.moved(0)
    clock.now += 10
    meter.moved(250)
    assert meter.share == pytest.approx(0.25)
    assert meter.line() == "export: 0 of 2 shards, 250 of 1,000 samples, 25 samples/s, about 30 seconds left"


@pytest.mark.parametrize(("scope", "step", "says"), [
    (Scope(3, rows=3092, units=Units(row="text")), Step(1024, 1.0), "1,024 of 3,092 texts, 1,024 texts/s, 1 s"),
    (Scope(1), Step(0, 1.0), "1 s"),
    (Scope(26, units=Units("pass"), at_most=True), Step(0, 1.0), "1 pass, 1 s"),
    (Scope(1, units=SHARDS), Step(1, 1.0), "1 of 1 shard, 1 sample, 1.0 samples/s, 1 s"),
])
def test_what_is_counted_is_called_by_its_name(clock: Clock, scope: Scope, step: Step, says: str) -> None:
    meter = Meter("this", scope, clock)
    clock.now += 1
    meter.advance(step)
    assert meter.line() == f"this: {says}"


def test_passes_that_may_end_sooner_take_so_long_at_most(clock: Clock) -> None:
    meter = Meter("clustering", Scope(26, units=Units("pass"), at_most=True), clock)
    for _ in range(4):
        clock.now += 2
        meter.advance(Step(seconds=2.0))
    assert meter.line() == "clustering: 4 passes, at most 44 seconds left"
    assert meter.line(over=True) == "clustering: 4 passes, 8.0 s"


def test_what_became_of_the_samples_is_told_as_far_as_it_is_known(clock: Clock) -> None:
    meter = Meter("select", Scope(3, units=SHARDS), clock)
    for verdicts in ({"kept": 60, "rejected": 38, "failed": 2}, {"kept": 50, "rejected": 50, "failed": 0}):
        clock.now += 10
        meter.advance(Step(100, 10.0, verdicts))
    assert meter.verdicts == Counter(kept=110, rejected=88, failed=2)
    assert meter.line() == (
        "select: 2 of 3 shards, 200 samples, 110 kept, 88 rejected, 2 failed, 10 samples/s, about 10 seconds left")


def test_nothing_is_promised_of_the_time_left_where_it_cannot_be_known(clock: Clock) -> None:
    meter = Meter("annotate", Scope(9, units=SHARDS), clock)
    clock.now += 1
    meter.advance(Step(100, 0.5))
    assert meter.left() is None, "half a second of work says nothing"
    clock.now += 60
    assert meter.left() is not None
    meter.moved(2000)
    assert meter.left() is None, "more rows are there than the first shard promised"
    meter = Meter("rank", Scope(3, units=SHARDS), clock)
    clock.now += 60
    meter.advance(Step(0, 60.0))
    assert meter.line() == "rank: 1 of 3 shards, about 2 minutes left", "empty shards count as shards"
