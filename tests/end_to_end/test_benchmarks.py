"""The benchmark's pieces on tiny sizes: that they run and say what they measured. No time is judged here."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.distributed.local import LocalExecutor
from pipeline.input.discovery import discover
from pipeline.models.spec import ModelSpec
from pipeline.passes.annotate import Annotate
from tests.benchmarks import end_to_end, model_step, where_time_goes
from tests.benchmarks.__main__ import benchmarks
from tests.benchmarks.figures import Figure, ratio, table, write_json
from tests.benchmarks.replicas import readable, samples
from tests.scale.__main__ import missed
from tests.scale.content import Content
from tests.scale.sizes import Size
from tests.scale.watch import Taken


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, end_to_end.Size]:
    """Two shards of 24 rows, one to warm up on, and the inputs of the bare loop."""
    folder = tmp_path_factory.mktemp("bench")
    size = end_to_end.Size(shards=2, rows=24, warm=8)
    end_to_end.prepare(folder, (), size)
    return folder, size


def test_both_sides_of_the_end_to_end_ratio_embed_the_same_pairs(prepared: tuple[Path, end_to_end.Size], tmp_path: Path) -> None:
    folder, size = prepared
    shards = discover([str(folder / "shards")])
    plan = end_to_end.plan_of(str(tmp_path / "root"), (), shards)
    work = Annotate(plan.columns, plan.stages[:-1], plan.recipe.reading)   # mentions take seconds to open, and see no pixels
    warm = end_to_end.Warm(work, work.of(discover([str(folder / "warm")]))[0], str(tmp_path), workers=1)
    outcomes = list(LocalExecutor().run(warm, work.of(shards)))
    assert [outcome.facts["rows"] for outcome in outcomes] == [24, 24]
    stamp = json.loads((tmp_path / f"{os.getpid()}.json").read_text())
    assert stamp["opened"] < stamp["warm"]

    ready = np.load(folder / "pixels.npy"), np.load(folder / "tokens.npy")
    assert ready[0].shape == (48, 128, 128, 3)
    assert len(ready[1]) == 48
    bare = end_to_end.Towers(plan.clip, str(folder / "pixels.npy"), str(folder / "tokens.npy"))
    with bare.open() as run:
        assert run(size.rows) == {"rows": 24}


def test_the_model_step_and_the_decoding_are_compared_on_equal_results() -> None:
    towers = model_step.towers(ModelSpec(), 16, 1.6, rounds=1)
    decoding = model_step.decoding(model_step.photos(8), 2.0, rounds=1)
    for figures, accuracy in ((towers, "largest difference"), (decoding, "smallest")):
        assert figures[0].unit == "x"
        assert figures[0].value > 0
        assert all(figure.met for figure in figures if accuracy in figure.name)


def test_the_profile_names_every_part_of_the_pass() -> None:
    parts = {figure.name: figure.value for figure in where_time_goes.profile(rows=64, rounds=1)}
    assert {"read", "image", "caption", "language", "hashes", "clip", "mentions", "contracts", "commit"} < set(parts)
    assert parts.pop("sum") == pytest.approx(sum(parts.values()))


def test_the_matcher_is_timed_on_the_captions_of_the_sample() -> None:
    assert [figure.name for figure in where_time_goes.matcher(rounds=1)] == ["alias matcher", "caption stage"]


def test_replicas_keep_the_damaged_samples_and_the_bare_loop_gets_the_readable_ones() -> None:
    assert len(samples()) == 828
    assert 800 < len(readable()) < 828


def test_figures_say_which_bound_they_miss(tmp_path: Path) -> None:
    figures = [ratio("ours / theirs", [3, 4, 5], [2, 2, 2], bound=2.5), Figure("memory", 1.5, "GB", 2.0, at_most=True)]
    assert [figure.met for figure in figures] == [False, True]
    assert figures[0].rounds == (1.5, 2.0, 2.5)
    text = table({"Speed": figures}, {"date": "today"})
    assert "NOT MET" in text.splitlines()[4]
    assert "<= 2: met" in text
    write_json(tmp_path / "figures.json", {"Speed": figures}, {})
    assert [figure["met"] for figure in json.loads((tmp_path / "figures.json").read_text())["figures"]["Speed"]] == [False, True]


def test_a_bound_of_scale_that_is_missed_is_named_and_growth_counts_between_the_smallest_and_the_largest_size() -> None:
    small = [Taken("duplicates", processor=30.0), Taken("select", processor=40.0)]
    large = [Taken("duplicates", processor=36 * 45.0), Taken("select", processor=36 * 41.0, driver=2 << 30, open_files=501)]
    rows = {"1m": 1_000_000, "36m": 36_000_000}
    assert missed({"1m": small}, rows) == []
    assert missed({"36m": large, "1m": small}, rows) == [
        "36m: select held in the driver 2.15 GB, at most 1.5", "36m: select had open 501.00 files, at most 500",
        "duplicates: a row of 36m took 1.50 x that of 1m, at most 1.3"]
    alone = [Taken("select", before=1 << 30, driver=3 << 29)]
    assert missed({"ci": alone}, {"ci": 5_000}) == ["ci: select added in the process 0.54 GB, at most 0.4"]


def test_pictures_of_a_synthetic_run_are_copied_from_earlier_rows_in_the_shares_that_it_says() -> None:
    rows = Content.of(np.arange(200_000))
    copies, alike = rows.picture != rows.row, rows.looks_like != rows.picture
    assert np.mean(copies) == pytest.approx(0.02, rel=0.1)
    assert np.mean(alike) == pytest.approx(0.02, rel=0.1)
    assert np.mean(rows.blank) == pytest.approx(0.01, rel=0.1)
    assert np.all(rows.picture <= rows.row)
    original = Content.of(rows.looks_like[alike])
    plain = ~original.blank & (original.picture == original.row) & (original.looks_like == original.row)
    bits = np.bitwise_count(rows.phash[alike][plain] ^ original.phash[plain])
    assert bits.max() <= 4
    assert Size("x", 1_000, 7, 0).counts.sum() == 1_000


def test_every_benchmark_has_a_name_for_only() -> None:
    assert set(benchmarks(quick=True)) == set(benchmarks(quick=False))
