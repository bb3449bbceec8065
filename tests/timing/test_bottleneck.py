"""Shares to one sentence of advice."""

import pytest

from pipeline.timing.bottleneck import Means, Measures, Usage, advice, in_words

CPU, GPU = Means(threads=1), Means("cuda", "fp32", 4, 2)
NOTHING = "nothing stands out: nothing to change"


@pytest.mark.parametrize(("shares", "means", "measures", "says"), [
    ({}, CPU, Measures(), ""),
    ({"read": 0.3, "image": 0.4, "model": 0.3}, CPU, Measures(),
     "reading is the bottleneck: nearer or faster storage, or more workers, each with its own reader, or --threads 2"),
    ({"read": 0.3, "image": 0.4, "model": 0.3}, CPU, Measures(reading_cpu=0.9),
     "reading is the bottleneck, and it computes: more workers, or shards that are not compressed, or --threads 2"),
    ({"read": 0.3, "image": 0.4, "model": 0.3}, GPU, Measures(reading_cpu=0.1), "nearer or faster storage, or --actors-per-gpu 3"),
    ({"read": 0.19, "write": 0.19, "wait": 0.19, "image": 0.23, "model": 0.2}, CPU, Measures(), NOTHING),
    ({"image": 0.49, "model": 0.49, "other": 0.0, "read": 0.02}, CPU, Measures(), NOTHING),
    ({"image": 0.3, "hashes": 0.1, "preprocess": 0.15, "model": 0.45}, GPU, Measures(),
     "decoding keeps the GPU waiting: --actors-per-gpu 3, --threads 8, or nodes with more CPUs per GPU"),
    ({"image": 0.3, "hashes": 0.1, "preprocess": 0.15, "model": 0.45}, CPU, Measures(),
     "decoding is the bottleneck: more workers, on more CPUs"),
    ({"mentions": 0.5, "image": 0.2, "model": 0.3}, CPU, Measures(), "mentions is the bottleneck: more workers"),
    ({"image": 0.8, "model": 0.2}, CPU, Measures(computing_cpu=0.3),
     "decoding is the bottleneck, but on a CPU for 30 % of its time only: fewer workers or --threads for each CPU"),
    ({"model": 0.7, "image": 0.3}, CPU, Measures(), "the model is the bottleneck: a GPU (model.device cuda), or more workers"),
    ({"clip": 0.7, "image": 0.3}, CPU, Measures(), "the model is the bottleneck: a GPU"),
    ({"model": 0.7, "image": 0.3}, GPU, Measures(),
     "the model is the bottleneck: model.precision bf16 or a larger model.micro_batch (which makes new columns), or more GPUs"),
    ({"model": 0.7, "image": 0.3}, GPU, Measures(device=0.95), "the model is the bottleneck: model.precision bf16"),
    ({"model": 0.7, "image": 0.3}, Means("cuda", "bf16", 4), Measures(device=0.95),
     "the model is the bottleneck: a larger model.micro_batch (which makes new columns), or more GPUs"),
    ({"model": 0.7, "image": 0.3}, GPU, Measures(device=0.2),
     "threads wait for a GPU that is busy 20 % of the time: --actors-per-gpu 3, or a larger model.micro_batch"),
    ({"write": 0.4, "model": 0.6}, CPU, Measures(), "writing is the bottleneck: an output store that is nearer"),
    ({"wait": 0.4, "model": 0.6}, Means(threads=8), Measures(), "threads wait for each other at the ends of shards"),
    ({"read": 0.25, "model": 0.75}, CPU, Measures(), "the model is the bottleneck"),
    ({"read": 0.45, "model": 0.55}, CPU, Measures(), "reading is the bottleneck"),
])
def test_the_advice_names_what_is_furthest_above_its_bound(
    shares: dict[str, float], means: Means, measures: Measures, says: str,
) -> None:
    found = advice(shares, means, measures)
    assert found.startswith(says) or says in found
    assert bool(found) == bool(says)


def test_passes_without_threads_are_not_advised_to_have_two() -> None:
    assert "--threads" not in advice({"read": 1.0}, Means())


def test_a_pass_is_one_line_with_the_largest_shares_first() -> None:
    usage = Usage()
    usage.add({"threads": 2, "spent": {"read": 0.6, "other": 0.01, "image": 1.8, "model": 6.0}})
    usage.add({"threads": 2, "spent": {"model": 1.1, "write": 0.2}})
    assert usage.seconds == pytest.approx(9.71 / 2)
    assert in_words(usage, CPU).startswith("model 73 %, decode 19 %, read 6 %, write 2 %; the model is the bottleneck: a GPU")


def test_actors_that_share_a_gpu_add_up_to_what_it_was_busy() -> None:
    usage = Usage()
    for _ in range(2):
        usage.add({"threads": 1, "spent": {"model": 8.0, "image": 2.0}, "beside": {"device": 4.5}})
    assert usage.device(GPU) == pytest.approx(0.9)
    assert ", GPU busy 90 %; the model" in in_words(usage, GPU)
    assert usage.device(Means("cuda")) == pytest.approx(0.45)
    assert Usage().device(GPU) is None


def test_a_thread_that_reads_for_itself_and_is_on_a_cpu_does_not_wait_for_storage() -> None:
    busy, waiting = Usage(), Usage()
    busy.add({"threads": 1, "spent": {"read": 6.0, "other": 4.0}, "beside": {"computing cpu": 9.4}})
    waiting.add({"threads": 1, "spent": {"read": 6.0, "other": 4.0}, "beside": {"computing cpu": 4.3}})
    assert busy.reading_cpu == pytest.approx(0.9)
    assert waiting.reading_cpu == pytest.approx(0.05)
    assert "it computes" in in_words(busy, Means())
    assert "nearer" in in_words(waiting, Means())


@pytest.mark.parametrize("spent", [
    None, 3, [1], {"read": "1"}, {"read": -1.0}, {"read": float("nan")}, {"read": float("inf")}, {"read": 1e300}, {},
])
def test_lines_that_nobody_measured_count_nothing(spent: dict[str, float]) -> None:
    usage = Usage()
    usage.add({"threads": "x", "spent": spent, "beside": {"device": 1.0}})
    assert (usage.total, usage.shares, usage.seconds) == (0, {}, 0)
