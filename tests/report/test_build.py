"""The report of a real run: a whole shard, a shard that ends early, and one that no worker could process."""

import gzip
import io
import json
import re
import shutil
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.api.progress import Silent
from pipeline.cli import printing
from pipeline.curation import curate
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.errors import RootError
from pipeline.input.discovery import discover
from pipeline.input.reader import read
from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish
from pipeline.plan import Plan
from pipeline.queries.status import status
from pipeline.recipe.recipe import load
from pipeline.recipe.rules import Bound, Rule, Threshold
from pipeline.recipe.settled import Settled
from pipeline.report.build import entity_note, report_data, rule_words, write_report
from pipeline.report.charts import histogram
from pipeline.report.clocks import REST, read_clock
from pipeline.report.data import LIMITS, ReportData, Timing
from pipeline.report.distributions import FINE, bounds_on, charted_columns, empty_chart, limits
from pipeline.report.pairs import find_pairs, highest
from pipeline.report.pictures import evenly_spread, thumbnails
from pipeline.report.survey import Example, Examples, values_in_words
from pipeline.root.lifecycle import claim
from pipeline.root.lock import held
from pipeline.root.log import EventLog
from pipeline.select.stored import stored_ledger
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_table
from pipeline.work import Item, Outcome, Work
from schemas.columns import ENTITY
from tests.answers import checked
from tests.archives import member_bytes
from tests.report.test_page import Page
from tests.roots import hashes


@dataclass(frozen=True)
class GivesUp(LocalExecutor):
    """Gives up one input shard, as Ray does after three deaths of its worker."""

    stem: str = ""

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        for item in items:
            if work.name(item).startswith(self.stem):
                yield Outcome(item, error="its worker process died: <b>killed</b>", attempts=3)
        yield from super().run(work, [item for item in items if not work.name(item).startswith(self.stem)])


@pytest.fixture(scope="module")
def plan(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A finished run over 00003 (whole), 00004 (without its end) and 00002 (quarantined)."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copy(sample_folder / "00002.tar", folder)
    shutil.copy(sample_folder / "00003.tar", folder)
    content = (sample_folder / "00004.tar").read_bytes()
    (folder / "00004.tar").write_bytes(content[:-40_000])
    root = Store(str(tmp_path_factory.mktemp("run")))
    recipe = load("sample", ["classes.k=6", "classes.labels=3", "export.shard_size=50"])
    whole = Plan.of(root, recipe, discover([str(folder)]), Settled(local_route(RouteWish())))
    claim(whole)
    return curate(whole, Driver(root, GivesUp(stem="00002"), Silent(), EventLog(root))).plan


@pytest.fixture(scope="module")
def data(plan: Plan) -> ReportData:
    return report_data(plan)


@pytest.fixture(scope="module")
def verdicts(plan: Plan) -> dict[tuple[str, str], str]:
    """verdict by (input file, key)."""
    found: dict[tuple[str, str], str] = {}
    for shard in plan.shards:
        keys = read_columns(plan.root, plan.columns.folders["samples"], shard.shard_id, ["key"]).column("key").to_pylist()
        given = read_columns(plan.root, plan.verdicts, shard.shard_id, ["verdict"]).column("verdict").to_pylist()
        found |= {(shard.relative, key): verdict for key, verdict in zip(keys, given, strict=True)}
    return found


def test_the_page_is_written_and_says_what_the_ledger_says(plan: Plan, data: ReportData) -> None:
    write_report(plan)
    page = Page(plan.root.read("report.html").decode())
    ledger = stored_ledger(plan.root, plan.verdicts)
    assert (data.read, data.kept, data.unaccounted) == (ledger.read, ledger.kept, 0)
    assert {step.reason: step.count for step in data.steps if step.count} == {
        verdict: count for verdict, count in ledger.verdicts.items() if verdict != "kept"}
    assert f"{ledger.kept} of {ledger.read} samples kept" in page.text
    assert len(page.all("img")) > 60


def test_the_same_files_give_the_same_page_whatever_was_asked_before(plan: Plan) -> None:
    write_report(plan)
    first = plan.root.read("report.html")
    write_report(plan)
    assert plan.root.read("report.html") == first


def test_failures_come_first_and_then_every_rule_in_the_order_of_the_recipe(plan: Plan, data: ReportData) -> None:
    outcomes = [step.outcome for step in data.steps]
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == "failed"
    assert [step.name for step in data.steps if step.outcome == "rejected"] == list(plan.recipe.filters)
    assert all(step.explanation for step in data.steps)
    threshold = json.loads(plan.root.read(f"{plan.verdicts}/thresholds.json"))["thresholds"]["clip_similarity"]["value"]
    assert f"{threshold:.4g}" in next(step for step in data.steps if step.name == "clip_similarity").explanation


def test_every_picture_stands_under_its_own_verdict_with_its_own_pixels(
    plan: Plan, data: ReportData, verdicts: dict[tuple[str, str], str], sample_folder: Path,
) -> None:
    groups = {step.reason: step for step in data.steps}
    for reason, pictures in [("kept", data.kept_pictures), *((r, step.pictures) for r, step in groups.items())]:
        total = data.kept if reason == "kept" else groups[reason].count
        assert len(pictures) == min(total, LIMITS["pictures"]), reason
        assert len({(p.shard, p.key) for p in pictures}) == len(pictures)
        for picture in pictures:
            assert verdicts[picture.shard, picture.key] == reason
            assert (picture.thumbnail is None) == reason.startswith("failed:image_")
    picture = next(p for p in data.kept_pictures if p.shard == "00003.tar")
    original = Image.open(io.BytesIO(member(sample_folder / "00003.tar", f"{picture.key}.jpg"))).convert("RGB")
    assert picture.thumbnail is not None
    small = np.asarray(Image.open(io.BytesIO(picture.thumbnail)), np.float32)
    wanted = np.asarray(original.resize(small.shape[1::-1], Image.Resampling.LANCZOS), np.float32)
    assert np.abs(small - wanted).mean() < 10
    assert picture.caption == member(sample_folder / "00003.tar", f"{picture.key}.txt").decode()


def member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as tar:
        return member_bytes(tar, name)


def test_a_step_shows_what_is_nearest_to_its_bound_and_the_value_that_decided(plan: Plan, data: ReportData) -> None:
    step = next(step for step in data.steps if step.name == "clip_similarity")
    threshold = json.loads(plan.root.read(f"{plan.verdicts}/thresholds.json"))["thresholds"]["clip_similarity"]["value"]
    values = [float(picture.value.removeprefix("clip_similarity ")) for picture in step.pictures]
    rejected = []
    for shard in plan.shards:
        given = read_columns(plan.root, plan.verdicts, shard.shard_id, ["verdict"]).column("verdict")
        scores = read_columns(plan.root, plan.columns.folders["clip"], shard.shard_id, ["clip_similarity"]).column(0)
        rejected += scores.filter(pc.equal(given, "rejected:clip_similarity")).to_pylist()
    nearest = sorted((round(value, 3) for value in rejected), reverse=True)[:6]
    assert values[:6] == nearest
    assert max(values) <= threshold + 1e-3
    assert values == sorted(values, reverse=True)
    assert min(values) < nearest[-1], "the rest is spread over all that the rule rejects"


def test_similarity_is_drawn_first_with_its_bound_and_the_shuffled_pairs(plan: Plan, data: ReportData) -> None:
    first = data.histograms[0]
    stored = json.loads(plan.root.read(f"{plan.verdicts}/thresholds.json"))
    assert first.column == "clip_similarity"
    assert [at for at, _ in first.bounds] == [stored["thresholds"]["clip_similarity"]["value"]]
    assert sum(first.null) == pytest.approx(1, abs=0.01)
    middles = (np.array(first.edges[:-1]) + first.edges[1:]) / 2
    fine = np.array(stored["null"]["edges"])
    mean = np.average((fine[:-1] + fine[1:]) / 2, weights=stored["null"]["counts"])
    assert np.average(middles, weights=first.null) == pytest.approx(mean, abs=0.02)
    assert {"caption_words", "longest_side", "aspect_ratio"} < {chart.column for chart in data.histograms}


def test_histograms_count_every_sample_once(data: ReportData) -> None:
    for chart in data.histograms:
        assert sum(chart.kept) == data.kept, chart.column
        assert sum(chart.kept) + sum(chart.removed) + chart.without == data.read, chart.column


def test_no_bar_of_an_absolute_rule_has_kept_samples_on_the_wrong_side(data: ReportData) -> None:
    chart = next(chart for chart in data.histograms if chart.column == "longest_side")
    (at, words), = chart.bounds
    assert (at, words) == (32, "tiny: above 31")
    left = [kept for edge, kept in zip(chart.edges[1:], chart.kept, strict=True) if edge <= at]
    assert sum(left) == 0


def test_what_nobody_could_read_is_named_with_its_error(plan: Plan, data: ReportData) -> None:
    assert [(gap.shard, gap.kind) for gap in data.gaps] == [("00004.tar", "truncated")]
    (lost,) = data.quarantined
    assert lost.shard.endswith("00002.tar")
    assert (lost.attempts, lost.error) == (3, "its worker process died: <b>killed</b>")
    page = Page(plan.root.read("report.html").decode())
    assert "Finished with 1 quarantined shard and 1 unreadable part" in page.text
    assert "its worker process died: <b>killed</b>" in page.text


def test_duplicate_pairs_are_all_listed_and_their_numbers_are_the_tables(plan: Plan, data: ReportData) -> None:
    table = read_table(plan.root, f"{plan.duplicates}/duplicates.parquet")
    assert data.duplicates.total == table.num_rows == len(data.duplicates.items) >= 3
    assert Counter(pair.kind for pair in data.duplicates.items) == Counter(
        "near" if kind == "near" else "exact" for kind in table.column("kind").to_pylist())
    for pair in data.duplicates.items:
        assert pair.duplicate.thumbnail
        assert pair.preferred.thumbnail
    asked = [(row["shard_id"], row["row"]) for row in table.filter(table.column("removed")).to_pylist()]
    assert set(find_pairs(plan, asked).measures) == set(asked)


def test_classes_come_by_size_with_the_labels_that_samples_carry(plan: Plan, data: ReportData) -> None:
    cards = data.classes.items
    assert data.classes.total == len(cards) == 6
    assert [card.size for card in cards] == sorted((card.size for card in cards), reverse=True)
    assert sum(card.size for card in cards) == data.kept
    counts: Counter[int] = Counter()
    weights: defaultdict[int, float] = defaultdict(float)
    assert plan.labels is not None
    for shard in plan.shards:
        for row in read_columns(plan.root, plan.labels, shard.shard_id).to_pylist():
            for label, weight in zip(row["labels"] or [], row["label_weights"] or [], strict=True):
                counts[label] += 1
                weights[label] += float(weight)
    for card in cards:
        assert card.labelled == counts[card.class_id]
        assert card.mean_weight == pytest.approx(weights[card.class_id] / counts[card.class_id])
        assert len(card.exemplars) == min(card.size, LIMITS["exemplars"])
        assert all(picture.thumbnail for picture in card.exemplars)


def test_entities_come_by_count_with_the_picture_that_confirms_them_best(plan: Plan, data: ReportData) -> None:
    rows = data.entities.items
    assert [row.confirmed for row in rows] == sorted((row.confirmed for row in rows), reverse=True)
    found: Counter[str] = Counter()
    for shard in plan.shards:
        for entities in read_columns(plan.root, plan.columns.folders["entities"], shard.shard_id).column("entities").to_pylist():
            found.update({entity["id"] for entity in entities or [] if entity["confirmed"]})
    largest = sorted(found.items(), key=lambda item: (-item[1], item[0]))[: LIMITS["entities"]]
    assert [(row.entity_id, row.confirmed) for row in rows] == largest
    assert data.entities.total == len(found)
    assert all(row.example and row.example.thumbnail for row in rows)


def test_the_best_picture_of_an_entity_is_confirmed_and_has_its_highest_z() -> None:
    def entity(id: str, z: float, confirmed: bool = True) -> dict[str, Any]:
        return {"id": id, "name": id, "start": 0, "end": 1, "link_score": 0.0, "z": z, "confirmed": confirmed}

    rows = [None, [entity("a", 2.0)], [entity("a", 9.0, False), entity("b", 3.0)], [], [entity("a", 4.0), entity("c", 5.0)]]
    assert sorted(highest(pa.array(rows, pa.list_(ENTITY)), pa.array(["a", "b"]))) == [("a", 4.0, 4), ("b", 3.0, 2)]


def test_a_shard_that_is_gone_costs_its_pictures_and_nothing_else(plan: Plan, data: ReportData) -> None:
    gone = next(shard for shard in plan.shards if shard.relative == "00003.tar")
    moved = replace(gone, url=gone.url + ".gone")
    found = report_data(replace(plan, shards=tuple(moved if shard is gone else shard for shard in plan.shards)))
    assert (found.read, found.kept, found.histograms) == (data.read, data.kept, data.histograms)
    shots = [picture for picture in found.kept_pictures if picture.shard == "00003.tar"]
    assert shots
    assert not any(picture.thumbnail for picture in shots)
    assert [picture.caption for picture in found.kept_pictures] == [picture.caption for picture in data.kept_pictures]
    assert any("1 input shards were not read again" in note for note in found.notes)


def test_compressed_archives_and_parquet_give_the_same_pictures_as_plain_tars(sample_folder: Path, tmp_path: Path) -> None:
    content = (sample_folder / "00008.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(content, 1))
    plain, packed = discover([str(tmp_path)])
    table = pa.Table.from_batches(list(read(plain))).append_column("row", pa.array(range(28)))
    pq.write_table(table.select(["key", "caption", "image"]), tmp_path / "c.parquet")
    columnar, = discover([str(tmp_path / "c.parquet")])
    found = {}
    for shard in (plain, packed, columnar):
        rows = pa.Table.from_batches(list(read(shard))).append_column("row", pa.array(range(28))).take(pa.array([20, 3, 7, 9]))
        rows = rows.append_column("readable", pa.array([True, True, True, False]))   # what failed once is not decoded again
        found[shard.relative] = thumbnails(shard, rows, load("sample"))
    assert list(found["a.tar"] or ()) == [20, 3, 7]
    assert found["a.tar"] == found["b.tar.gz"] == found["c.parquet"]


def test_a_run_without_verdicts_says_what_to_do(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(RootError, match="run its command again"):
        write_report(replace(plan, root=Store(str(tmp_path))))


def test_the_clock_adds_up_drivers_and_survives_a_killed_one(tmp_path: Path) -> None:
    root = Store(str(tmp_path))
    first = [
        {"time": 110.0, "pass": "annotate", "item": "a", "attempts": 1, "error": None, "rows": 100, "seconds": 8.0},
        {"time": 116.0, "pass": "annotate", "item": "b", "attempts": 3, "error": "died"},
    ]
    second = [
        {"time": 205.0, "pass": "annotate", "item": "b", "attempts": 1, "error": None, "rows": 50, "seconds": 4.0},
        {"time": 206.0, "pass": "annotate", "done": True, "seconds": 5.0, "samples": 50},
        {"time": 209.0, "pass": "select", "done": True, "seconds": 2.0, "samples": 150},
        {"time": 212.0, "run": "finished", "seconds": 15.0},
    ]
    root.write("log/1.jsonl", "\n".join(map(json.dumps, first)).encode() + b'\n{"time": 117.0, "pa')
    root.write("log/2.jsonl", "\n".join(map(json.dumps, second)).encode())
    found = read_clock(root)
    assert found.started is not None
    assert found.started.timestamp() == 102
    assert found.seconds == 14 + 15
    assert found.passes == (Timing("annotate", 14 + 5, 150), Timing("select", 2.0, 0), Timing(REST, 8.0, 0))
    assert found.shards.items == (Timing("b", 0.0, 0, 3), Timing("a", 8.0, 100), Timing("b", 4.0, 50))
    assert found.retried == 1


def test_a_root_without_a_log_has_no_times(tmp_path: Path) -> None:
    assert (read_clock(Store(str(tmp_path))).started, read_clock(Store(str(tmp_path))).passes) == (None, ())


def test_a_rule_is_put_in_words_with_its_number_of_this_run() -> None:
    rule = Rule(column="language", any_of=("en",), unless={"caption_words": Bound(below=2), "near_duplicate": Bound(equals=False)})
    assert rule_words(rule, None) == "passes if language is one of en, or caption_words is below 2, or near_duplicate is false"
    calibrated = Rule(column="clip_similarity", null_quantile=0.5)
    assert rule_words(calibrated, Threshold(0.01234)).endswith("the 0.5 quantile of shuffled pairs (here 0.01234)")


def test_bounds_stand_where_whole_values_part() -> None:
    sides = [Rule.model_validate({"column": "longest_side", name: 31}) for name in ("min", "max", "above", "below")]
    assert [limit[:2] for side in sides for limit in limits("longest_side", side)] == [(31, 31), (31, 32), (31, 32), (31, 31)]
    wide = Rule(column="aspect_ratio", max=3, unless={"caption_words": Bound(min=5)})
    rules = {"wide": wide, "caption_words": Rule(column="caption_words", max=9)}
    assert bounds_on("aspect_ratio", rules, {}) == [(3, "wide: at most 3")]
    assert bounds_on("caption_words", rules, {}) == [(5, "wide: unless at least 5"), (10, "at most 9")]


def test_columns_that_rules_read_are_drawn_before_the_usual_ones_and_text_never() -> None:
    language = Rule(column="language", any_of=("en",), unless={"known_words": Bound(min=0.5)})
    assert charted_columns({"a": Rule(column="image_bytes", min=5000), "b": language}) == [
        "clip_similarity", "image_bytes", "caption_words", "longest_side", "aspect_ratio", "known_words"]


def test_the_edges_of_similarity_are_those_of_the_stored_null_distribution(plan: Plan) -> None:
    stored = json.loads(plan.root.read(f"{plan.verdicts}/thresholds.json"))["null"]["edges"]
    assert list(FINE) == stored
    assert empty_chart("clip_similarity", {}, {}).edges == FINE
    assert histogram("x", FINE, np.array(FINE[:-1]), np.zeros(0)).kept == (1,) * 200


def test_values_are_worded_by_their_type_and_truths_are_left_to_the_rule_s_name() -> None:
    values = {"clip_similarity": 0.12345, "caption_words": 1200, "language": "de", "near_duplicate": True, "width": None}
    assert values_in_words(values) == (
        "clip_similarity 0.123, caption_words 1,200, language de, width none")
    assert values_in_words({"image_length": 1234}) == "1,234 bytes"
    assert values_in_words({"image_length": 0}) == values_in_words({"image_length": None}) == "no image bytes"


def test_examples_are_half_nearest_half_drawn_and_no_content_twice() -> None:
    found = [Example(float(i), ("s", i), f"{(i * 7919) % 1000:032d}", "") for i in range(500)]
    examples = Examples()
    for part in (found[250:], found[:250]):
        examples.add([*part, *part])
    chosen = examples.chosen()
    assert [one.row[1] for one in chosen[:6]] == [0, 1, 2, 3, 4, 5]
    assert len({one.uid for one in chosen}) == len(chosen) == LIMITS["pictures"]
    assert max(one.distance for one in chosen) > 100
    again = Examples()
    again.add(found)
    assert again.chosen() == chosen, "however the samples are cut into shards"


def test_a_run_of_many_shards_is_looked_at_in_evenly_spread_ones(plan: Plan) -> None:
    shards = [replace(plan.shards[0], shard_id=str(i)) for i in range(5000)]
    some = [int(shard.shard_id) for shard in evenly_spread(shards, 1024)]
    assert (len(some), some[0], some[-1]) == (1024, 0, 4999)
    assert max(np.diff(some)) <= 5
    assert evenly_spread(shards[:3], 1024) == shards[:3]
    assert evenly_spread([], 1024) == []


def test_the_note_on_entities_says_which_null_was_used() -> None:
    facts = {"false_positive_rate": 0.05, "null": "shuffled pairs", "null_mentions": 6120, "confirmed_share": 0.379}
    assert entity_note({"threshold": 1.7, "facts": facts}, 1) == (
        "Entities are confirmed from z = 1.70: 5 % of the 6,120 mentions of shuffled pairs reach it. "
        "37.9 % of the run's own mentions do.")
    few = entity_note({"threshold": 1.64, "facts": {**facts, "null": "normal", "confirmed_share": None}}, 3)
    assert "too few mentions" in few
    assert few.endswith("Entities of fewer than 3 samples are dropped.")


def test_the_page_and_status_say_where_the_time_went_and_no_promised_file_does(
    plan: Plan, data: ReportData, capsys: pytest.CaptureFixture[str],
) -> None:
    annotate = next(one for one in data.spendings if one.name == "annotate")
    assert "decode" in dict(annotate.shares)
    assert 0.5 < sum(share for _, share in annotate.shares) < 1.0001
    write_report(plan)
    page = Page(plan.root.read("report.html").decode())
    assert "Where the time went" in page.text
    assert annotate.advice[1:] in page.text
    found = status(plan.root.url)
    shares = {one.name: one.shares for one in found.time}
    assert {"image", "clip"} <= shares["annotate"].keys()
    assert {"read", "write"} <= shares["export"].keys()
    assert not any(one.at_work for one in found.time)
    printing.status(found)
    printed = capsys.readouterr().out
    assert re.search(r"time annotate: decode +\d+\.\d %\n", printed)
    assert annotate.advice in printed
    assert "time export" not in printed
    assert plan.root.local is not None
    promised = hashes(plan.root.local)
    assert len(promised) > 20
    assert not [name for name in promised if b'"spent"' in (plan.root.local / name).read_bytes()]


def test_status_of_a_run_at_work_shows_its_pass(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Store(str(tmp_path / "root"))
    shutil.copytree(str(plan.root.local), str(root.local), symlinks=True)
    with held(root):
        begun = {"time": 1e10, "pass": "export", "begun": True, "means": {}}
        root.write("log/99999999T000000-1.jsonl", json.dumps(begun).encode())
        found = status(root.url)
        assert {one.name for one in found.time if one.at_work} == {"export"}
        printing.status(found)
        printed = capsys.readouterr().out
        assert "time export: read" in printed
        assert "time annotate" not in printed
        assert checked("status", printing.as_json(found))["time"]
        root.write("log/99999999T000000-1.jsonl", json.dumps({**begun, "pass": "<b>\x1b[31m"}).encode())
        printing.status(status(root.url))
        assert re.search(r"time <b> \[31m +at work; no shard is done yet\n", capsys.readouterr().out)
    assert not any(one.at_work for one in status(root.url).time)
