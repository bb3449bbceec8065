import pytest

from pipeline.quantities import a_second, counted, duration, flops_a_second, size


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 Bytes"), (1, "1 Byte"), (999, "999 Bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (1_540_000, "1.5 MB"),
    (102.4e9, "102.4 GB"), (3e15, "3.0 PB"),
])
def test_sizes_have_the_unit_that_leaves_few_digits(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 seconds"), (0.2, "0 seconds"), (1, "1 second"), (119.4, "119 seconds"), (119.9, "120 seconds"), (120, "2 minutes"),
    (890, "15 minutes"), (3599, "1 hour"), (9000, "2 hours and 30 minutes"), (90_000, "1 day and 1 hour"),
])
def test_durations_are_as_exact_as_a_plan_needs(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "words"), [(0, "0 classes"), (1, "1 class"), (1000, "1,000 classes")])
def test_one_of_a_thing_is_one(count: int, words: str) -> None:
    assert counted(count, "class", "classes") == words
    assert counted(count, "shard") == words.replace("classes", "shards").replace("class", "shard")


@pytest.mark.parametrize(("rate", "words"), [(1234.4, "1,234"), (10.0, "10"), (1.0, "1.0"), (0.0421, "0.042")])
def test_how_many_a_second_is_never_rounded_to_nothing(rate: float, words: str) -> None:
    assert a_second(rate) == words


@pytest.mark.parametrize(("rate", "words"), [
    (2.77e11, "277 GFLOP/s"), (4.21e9, "4.2 GFLOP/s"), (3e8, "300 MFLOP/s"), (5e5, "0.5 MFLOP/s"),
])
def test_a_rate_is_never_rounded_to_nothing(rate: float, words: str) -> None:
    assert flops_a_second(rate) == words
