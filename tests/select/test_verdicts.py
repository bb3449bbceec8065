import dataclasses
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.columns import Columns, RunShard
from pipeline.errors import ConservationError, ContractViolation
from pipeline.passes.verdicts import select as selection
from pipeline.passes.verdicts.select import Select
from pipeline.recipe.derived import raw_caption_characters, raw_caption_words
from pipeline.recipe.recipe import load
from pipeline.recipe.rule_columns import COLUMNS
from pipeline.recipe.rules import Rule, Threshold
from pipeline.select import thresholds as thresholds_room
from pipeline.select.explain import explain
from pipeline.select.thresholds import Values, readable_values, relative, resolve, top_share
from pipeline.select.verdicts import Selection, counts, passes, simulate, verdicts
from pipeline.store.store import Store
from pipeline.vectors import Doubles, Floats, Ints


def table(**columns: Any) -> pa.Table:
    """Columns in their real types; error columns as text."""
    types = {name: COLUMNS[name].type if name in COLUMNS else pa.string() for name in columns}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def rules(**given: dict[str, Any]) -> dict[str, Rule]:
    return {name: Rule.model_validate({"column": name, **rule}) for name, rule in given.items()}


def resolved(given: dict[str, Rule], run: pa.Table, null_similarities: Floats | None = None) -> dict[str, Threshold]:
    return resolve(given, lambda name: lambda: [readable_values(run, name)], null_similarities)


def judged(columns: pa.Table, given: dict[str, Rule], null_similarities: Floats | None = None) -> list[str]:
    return verdicts(columns, given, resolved(given, columns, null_similarities)).to_pylist()


@pytest.mark.parametrize(("bound", "values", "passing"), [
    ({"min": 3}, [2, 3, 4, None], [False, True, True, False]),
    ({"above": 3}, [2, 3, 4, None], [False, False, True, False]),
    ({"max": 3}, [2, 3, 4, None], [True, True, False, False]),
    ({"below": 3}, [2, 3, 4, None], [True, False, False, False]),
    ({"above": 2.5, "max": 3.5}, [2, 3, 4, None], [False, True, False, False]),
    ({"any_of": [2, 2**40]}, [2, 3, 4, None], [True, False, False, False]),
    ({"none_of": [2]}, [2, 3, 4, None], [False, True, True, False]),
    ({"equals": 3}, [2, 3, 4, None], [False, True, False, False]),
])
def test_bounds_are_strict_on_the_sides_that_they_say_and_null_meets_none(
    bound: dict[str, Any], values: list[int | None], passing: list[bool],
) -> None:
    assert passes(table(width=values), rules(width=bound)["width"]).tolist() == passing


def test_nan_and_null_meet_no_bound() -> None:
    columns = table(clip_similarity=[float("nan"), None, 0.5])
    for bound in ({"min": -1}, {"max": 1}, {"above": -1}, {"below": 1}):
        assert passes(columns, rules(clip_similarity=bound)["clip_similarity"]).tolist() == [False, False, True]


@dataclasses.dataclass(frozen=True)
class Given:
    """A source of `Select` that has its columns already."""

    columns: Columns
    rows: pa.Table

    def table(self, shard_ids: Sequence[str], names: Sequence[str]) -> pa.Table:
        return self.rows


@pytest.mark.parametrize("wrong", [["kept"], ["kept", "kept", "kept"], ["kept", None]])
def test_a_shard_without_a_verdict_for_each_of_its_samples_is_an_error_and_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str | None],
) -> None:
    store, two = Store(str(tmp_path)), table(width=[1, 9]).append_column("uid", pa.array(["a", "b"]))
    source: Any = Given(Columns(store, {}), two)
    work = Select(source, rules(width={"min": 5}), {}, {}, "verdicts@1")
    with work.open() as run:
        with monkeypatch.context() as patch:
            patch.setattr(selection, "verdicts", lambda *_: pa.array(wrong, pa.string()))
            with pytest.raises(ConservationError, match="shard s: 2 samples, columns of 2, verdicts"):
                run(RunShard("s", 0, 2))
        assert store.names("verdicts@1") == []
        assert run(RunShard("s", 0, 2))["verdicts"] == {"kept": 1, "rejected:width": 1}
    assert store.names("verdicts@1") == ["s.parquet"]


def test_text_and_truth() -> None:
    columns = table(language=["en", "de", None], exact_duplicate=[True, False, None])
    assert passes(columns, rules(language={"any_of": ["en"]})["language"]).tolist() == [True, False, False]
    assert passes(columns, rules(language={"none_of": ["en"]})["language"]).tolist() == [False, True, False]
    assert passes(columns, rules(language={"equals": "de"})["language"]).tolist() == [False, True, False]
    assert passes(columns, rules(exact_duplicate={"equals": False})["exact_duplicate"]).tolist() == [False, True, False]


@pytest.mark.parametrize("bound", [0.1, 0.26, 0.28, 0.3, 0.7])
def test_a_stored_float32_meets_the_decimal_that_it_was_made_from(bound: float) -> None:
    columns = table(clip_similarity=[np.nextafter(np.float32(bound), np.float32(-1)), np.float32(bound)])
    assert passes(columns, rules(clip_similarity={"min": bound})["clip_similarity"]).tolist() == [False, True]
    assert passes(columns, rules(clip_similarity={"below": bound})["clip_similarity"]).tolist() == [True, False]


def test_unless_lets_a_row_through_when_any_bound_holds_and_null_holds_none() -> None:
    given = {"language": load("sample").filters["language"]}
    columns = table(
        language=["en", "de", "de", "de", "de", None, None],
        language_confidence=[0.9, 0.9, 0.5, 0.9, 0.9, None, None],
        caption_words=[5, 5, 5, 1, 5, 0, None],
        known_words=[0.0, 0.4, 0.4, 0.4, 0.5, None, None],
    )
    assert judged(columns, given) == ["kept", "rejected:language", "kept", "kept", "kept", "kept", "rejected:language"]


def test_the_verdict_is_the_first_failure_else_the_first_rule_in_the_recipe_s_order() -> None:
    columns = table(
        width=[9, 1, 1, 9, 1], height=[9, 9, 1, 1, 1],
        image_error=[None, None, None, None, "image_truncated"], clip_error=[None, None, None, "embedding_not_finite", "later"],
    )
    given = rules(height={"min": 5}, width={"min": 5})
    failed = ["failed:embedding_not_finite", "failed:image_truncated"]
    assert judged(columns, given) == ["kept", "rejected:width", "rejected:height", *failed]
    assert judged(columns, dict(reversed(given.items())))[2] == "rejected:width"
    assert judged(columns, {})[:3] == ["kept"] * 3


def test_no_rows_give_no_verdicts() -> None:
    assert judged(table(width=[], image_error=[]), rules(width={"min": 5})) == []


def test_a_column_that_the_table_lacks_is_an_error_not_a_pass() -> None:
    with pytest.raises(ContractViolation, match="lacks column height, which a rule reads"):
        judged(table(width=[3]), rules(height={"min": 1}))


def agreement(rows: int = 20_000, dimensions: int = 512) -> tuple[Floats, Doubles]:
    """Cosines that are known by construction (science.md, AT-1)."""
    rng = np.random.default_rng(5)
    cosine = rng.uniform(0, 0.6, (rows, 1))
    image, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.standard_normal((2, rows, dimensions)))
    other -= (other * image).sum(1, keepdims=True) * image
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    text = cosine * image + np.sqrt(1 - cosine**2) * other
    return (image.astype(np.float32) * text.astype(np.float32)).sum(1), cosine[:, 0]


def test_a_threshold_keeps_exactly_the_pairs_that_agree_so_much() -> None:
    similarity, truth = agreement()
    assert np.abs(similarity - truth).max() <= 1e-6
    kept = passes(table(clip_similarity=similarity), rules(clip_similarity={"min": 0.28})["clip_similarity"])
    assert np.array_equal(kept, truth >= 0.28)


@pytest.mark.parametrize("partitions", [1, 8])
def test_a_fraction_keeps_exactly_its_share_whatever_the_partitions(partitions: int) -> None:
    similarity, _ = agreement()
    similarity = similarity.round(2).astype(np.float32)   # many ties
    run = table(clip_similarity=similarity)
    given = rules(clip_similarity={"fraction": 0.3})
    thresholds = resolved(given, run)
    bounds = np.linspace(0, len(similarity), partitions + 1).astype(int)
    kept = np.concatenate([passes(run.slice(a, b - a), given["clip_similarity"], thresholds["clip_similarity"], a)
                           for a, b in pairwise(bounds)])
    assert kept.sum() == 6000
    by_rank = np.lexsort((np.arange(len(similarity)), -similarity))[:6000]
    assert np.array_equal(np.flatnonzero(kept), np.sort(by_rank))


def test_a_fraction_counts_readable_rows_alone() -> None:
    columns = table(clip_similarity=[0.9, 0.8, 0.7, None, float("nan"), 0.1], image_error=["image_empty", *[None] * 5])
    assert judged(columns, rules(clip_similarity={"fraction": 0.7})) == [
        "failed:image_empty", "kept", "kept", *["rejected:clip_similarity"] * 3]


@pytest.mark.parametrize(("rows", "share", "kept"),
                         [(100, 0.29, 29), (10, 0.3, 3), (7, 0.5, 3), (3, 0.3, 0), (5, 0, 0), (5, 1, 5), (0, 0.5, 0)])
def test_a_fraction_is_the_floor_in_decimals(rows: int, share: float, kept: int) -> None:
    given = rules(clip_similarity={"fraction": share})
    assert judged(table(clip_similarity=[0.5] * rows), given).count("kept") == kept


def datacomp_threshold(values: Floats, fraction: float) -> float:
    """What DataComp's rule says: the value at rank int(n x fraction) of the descending order; at least that is kept."""
    return np.sort(values)[::-1][int(len(values) * fraction)]


@pytest.mark.parametrize("decimals", [7, 2, 1])
def test_ties_datacomp_keeps_what_datacomp_keeps(decimals: int) -> None:
    values = np.random.default_rng(2).normal(0.2, 0.1, 999).round(decimals).astype(np.float32)
    preset = load("datacomp-clip30").filters
    kept = np.array(judged(table(clip_similarity=values), preset), object) == "kept"
    assert np.array_equal(kept, values >= datacomp_threshold(values, 0.3))
    assert kept.sum() > 299
    exact = load("datacomp-clip30", ["filters.clip_similarity.ties=row_id"]).filters
    assert judged(table(clip_similarity=values), exact).count("kept") == 299
    assert top_share(lambda: [np.array([0.1, 0.2])], 1.0, as_datacomp=True) == Threshold(0.1)


def in_one_place(values: Doubles, share: float, as_datacomp: bool) -> Threshold:
    """What `top_share` says, of an array of all rows."""
    rows = np.flatnonzero(~np.isnan(values))
    order = rows[np.lexsort((rows, -values[rows]))]
    count = int(len(rows) * Decimal(str(share)))
    if not len(rows):
        return Threshold(0.0, last_tie=-1)
    if as_datacomp:
        return Threshold(float(values[order[min(int(len(rows) * share), len(rows) - 1)]]))
    return Threshold(float(values[order[max(count - 1, 0)]]), last_tie=int(order[count - 1]) if count else -1)


@pytest.mark.parametrize("held", [1, 40, 10**6])   # so that ranks are settled by one, two and three digits
@pytest.mark.parametrize("decimals", [17, 2, 0])
def test_a_share_of_pieces_is_the_share_of_the_whole(held: int, decimals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds_room, "HELD", held)
    rng = np.random.default_rng(held + decimals)
    edges = [np.inf, -np.inf, 0.0, 1e-310, 2**60, 2**60 + 256]
    values = np.concatenate([rng.normal(0, 3, 700).round(decimals), edges, [-5.0] * 90])
    values[rng.random(len(values)) < 0.1] = np.nan
    if decimals == 2:
        values = values.astype(np.float32)
    cuts = [0, 0, 3, 400, 400, len(values)]
    pieces: Values = lambda: [values[a:b] for a, b in pairwise(cuts)]   # noqa: E731 (typed)
    for share in (0, 0.001, 0.123, 0.5, 0.87, 0.999, 1):
        for as_datacomp in (False, True):
            assert top_share(pieces, share, as_datacomp) == in_one_place(values.astype(np.float64), share, as_datacomp)


def test_a_null_quantile_is_that_of_the_shuffled_pairs() -> None:
    null = np.random.default_rng(3).normal(0, 0.1, 10_001).astype(np.float32)
    given = rules(clip_similarity={"null_quantile": 0.95})
    threshold = resolved(given, table(clip_similarity=[0.0]), null)["clip_similarity"]
    assert (null >= np.float32(threshold.value)).sum() == 501
    columns = table(clip_similarity=[threshold.value, threshold.value - 1e-4])
    assert judged(columns, given, null) == ["kept", "rejected:clip_similarity"]
    with pytest.raises(ContractViolation, match="shuffled pairs"):
        resolved(given, table(clip_similarity=[0.0]))
    one_sample = resolved(given, table(clip_similarity=[-1.0]), null[:0])   # cannot be shuffled, so nothing is known of chance
    assert verdicts(table(clip_similarity=[-1.0]), given, one_sample).to_pylist() == ["kept"]


def test_an_unresolved_threshold_is_an_error_not_a_pass() -> None:
    given = rules(clip_similarity={"fraction": 0.3})
    assert list(relative(given)) == ["clip_similarity"]
    with pytest.raises(ContractViolation, match="not resolved"):
        verdicts(table(clip_similarity=[0.1]), given, {})


ALIGN = {"original_shortest_side": 201, "original_aspect_ratio": 1.5, "image_captions": 1, "caption_images": 1, "caption_words": 10}


@pytest.mark.parametrize(("change", "verdict"), [
    ({}, "kept"),
    ({"original_shortest_side": 200}, "rejected:too_small"), ({"original_shortest_side": 201}, "kept"),
    ({"original_aspect_ratio": 2.99}, "kept"), ({"original_aspect_ratio": 3.0}, "rejected:extreme_aspect"),
    ({"image_captions": 1000}, "kept"), ({"image_captions": 1001}, "rejected:image_captions"),
    ({"caption_images": 10}, "kept"), ({"caption_images": 11}, "rejected:caption_images"),
    ({"caption_words": 2}, "rejected:caption_too_few_words"), ({"caption_words": 3}, "kept"),
    ({"caption_words": 20}, "kept"), ({"caption_words": 21}, "rejected:caption_too_many_words"),
])
def test_align_s_bounds_are_those_of_the_paper(change: dict[str, float], verdict: str) -> None:
    assert judged(table(**{name: [value] for name, value in {**ALIGN, **change}.items()}), load("align").filters) == [verdict]


def test_align_keeps_the_same_rows_for_any_partitions_and_any_order() -> None:
    rng = np.random.default_rng(4)
    rows = 50_000
    caption, image = rng.zipf(1.6, rows) % 20_000, rng.zipf(1.8, rows) % 20_000
    side, aspect, words = rng.integers(150, 260, rows), rng.uniform(1, 4, rows), rng.integers(1, 25, rows)

    def kept(order: Ints, partitions: int) -> set[int]:
        pairs = np.unique(np.stack([caption[order], image[order]]), axis=1)
        images, captions = (np.bincount(numbers) for numbers in pairs)
        run = table(original_shortest_side=side[order], original_aspect_ratio=aspect[order], caption_words=words[order]) \
            .append_column("caption_images", pa.array(images[caption[order]])) \
            .append_column("image_captions", pa.array(captions[image[order]]))
        bounds = np.linspace(0, rows, partitions + 1).astype(int)
        found = [judged(run.slice(a, b - a), load("align").filters) for a, b in pairwise(bounds)]
        return set(order[np.array([*chain(*found)]) == "kept"].tolist())

    reference = kept(np.arange(rows), 1)
    assert 500 < len(reference) < rows / 4
    for partitions, order in ((3, np.arange(rows)), (8, np.arange(rows)), (3, rng.permutation(rows))):
        assert kept(order, partitions) == reference


def datacomp_basic(language: str, text: str, width: int, height: int) -> bool:
    """DataComp's basic filtering as its paper and code state it, row by row."""
    smaller, larger = min(width, height), max(width, height)
    return language == "en" and len(text.split()) > 2 and len(text) > 5 and smaller >= 200 and larger / smaller <= 3.0


def test_datacomp_basic_keeps_what_datacomp_keeps() -> None:
    rng = np.random.default_rng(6)
    parts = ["a", "an", "tree", " ", "  ", "\t", "\n", "\u3000", "é", "漢"]
    texts = ["".join(rng.choice(parts, rng.integers(0, 9))) for _ in range(20_000)]
    width, height = rng.choice([100, 199, 200, 201, 400, 599, 600, 601, 603, 1000], (2, len(texts)))
    language = rng.choice(["en", "de"], len(texts), p=[0.9, 0.1])
    captions = pa.array(texts)
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    run = table(language=language, original_shortest_side=shorter, original_aspect_ratio=longer / shorter) \
        .append_column("raw_caption_words", raw_caption_words(captions)) \
        .append_column("raw_caption_characters", raw_caption_characters(captions))
    kept = np.array(judged(run, load("datacomp-basic").filters)) == "kept"
    expected = [datacomp_basic(*row) for row in zip(language, texts, width.tolist(), height.tolist(), strict=True)]
    assert np.array_equal(kept, expected)
    assert 500 < kept.sum() < 10_000


def example_run(rows: int = 400) -> pa.Table:
    rng = np.random.default_rng(7)
    return table(
        width=[None if i % 50 == 0 else int(w) for i, w in enumerate(rng.integers(1, 100, rows))],
        caption_words=rng.integers(0, 6, rows), language=rng.choice(["en", "de"], rows),
        clip_similarity=rng.normal(0, 0.2, rows).round(2), image_error=[None if i % 40 else "image_empty" for i in range(rows)],
    )


MIXED: dict[str, Any] = {"width": {"min": 10}, "language": {"any_of": ["en"], "unless": {"caption_words": {"below": 2}}},
         "clip_similarity": {"fraction": 0.5}}


def test_explain_agrees_with_the_verdict_of_every_row() -> None:
    run, given = example_run(), rules(**MIXED)
    thresholds = resolved(given, run)
    verdict = verdicts(run, given, thresholds).to_pylist()
    for i in range(run.num_rows):
        found = explain(run.slice(i, 1), given, thresholds, i)
        assert [entry.rule for entry in found] == list(given)
        assert [entry.value for entry in found] == [run[entry.column][i].as_py() for entry in found]
        if not verdict[i].startswith("failed"):
            first = next((f"rejected:{entry.rule}" for entry in found if not entry.passes), "kept")
            assert first == verdict[i]
    assert found[1].bound == "one of en, or caption_words below 2"


def test_simulate_counts_both_selections_and_what_changes_and_sums_over_shards() -> None:
    run, old, new = example_run(), rules(**MIXED), rules(**{**MIXED, "width": {"min": 50}})
    first, second = (Selection(given, resolved(given, run)) for given in (old, new))
    whole = simulate(run, first, second)
    before, after = (verdicts(run, s.rules, s.thresholds) for s in (first, second))
    assert (whole.old, whole.new) == (counts(before), counts(after))
    assert sum(whole.old.values()) == sum(whole.new.values()) == run.num_rows
    assert sum(whole.moved.values()) == sum(a != b for a, b in zip(before.to_pylist(), after.to_pylist(), strict=True)) > 0
    assert {to for _, to in whole.moved} == {"rejected:width"}
    parts = simulate(run.slice(0, 150), first, second) + simulate(run.slice(150), first, second, first_row=150)
    for field in dataclasses.fields(whole):
        assert dict(getattr(parts, field.name)) == dict(getattr(whole, field.name))
