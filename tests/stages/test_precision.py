"""How far a precision is from fp32, whether that matters for a recipe, and what is taken then."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.api.run import shards_of
from pipeline.errors import InputError
from pipeline.models.route import RouteWish
from pipeline.recipe.recipe import load
from pipeline.stages import precision
from pipeline.stages.precision import (
    FLIPS,
    PAIRS,
    MeasuredRoute,
    PrecisionQuestion,
    bounds_of,
    crossing,
    distance,
    first_pairs,
    settled,
    similarities,
)
from tests.damage import clean_pairs
from tests.models.bundled import encoder

ROUTE = "cuda-sm90.card.torch2-bf16-eager"


def question(*overrides: str) -> PrecisionQuestion:
    recipe = load("sample", ["model.device=cpu", *overrides])
    return PrecisionQuestion(recipe, shards_of(recipe, ())[:2])


def test_no_pair_crosses_without_an_error_and_none_far_from_the_bound() -> None:
    reference = np.random.default_rng(0).normal(0.2, 0.05, 512).astype(np.float32)
    assert crossing(reference, np.zeros(512), 0.2) == 0
    assert crossing(reference, np.full(512, 1e-3), 0.9) < 1e-12
    equal = np.full(8, 0.5, np.float32)
    assert crossing(equal, np.full(8, 0.1), 0.55) == 1
    assert crossing(equal, np.full(8, 0.1), 0.7) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_expected_share_is_that_of_many_pairs(seed: int) -> None:
    """512 pairs say about what 200,000 pairs would count."""
    draws = np.random.default_rng(seed)
    many, errors = draws.normal(0.25, 0.06, 200_000), draws.normal(0, 1e-3, 200_000)
    counted = ((many >= 0.28) != (many + errors >= 0.28)).mean()
    few = slice(0, 512)
    found = distance(ROUTE, (many + errors)[few].astype(np.float32), many[few].astype(np.float32), [0.28])
    assert found.flips[0][1] == pytest.approx(counted, rel=0.3)
    assert found.mean == pytest.approx(np.abs(errors).mean(), rel=0.1)
    assert not found.acceptable


def test_a_small_error_is_acceptable_and_one_that_is_not_finite_never_is() -> None:
    draws = np.random.default_rng(1)
    reference = draws.normal(0.25, 0.06, 512).astype(np.float32)
    near = distance(ROUTE, reference + np.float32(2e-5), reference, [0.28])
    assert near.acceptable
    assert 0 < near.flips[0][1] < FLIPS
    lost = reference.copy()
    lost[3] = np.nan
    assert not distance(ROUTE, lost, reference, []).acceptable
    assert "overflows" in str(distance(ROUTE, lost, reference, []))
    assert distance(ROUTE, reference + np.float32(0.1), reference, []).acceptable   # no rule reads it


def test_bounds_are_those_of_rules_on_similarities() -> None:
    reference, shuffled = np.linspace(0, 1, 101, dtype=np.float32), np.linspace(0, 0.1, 101, dtype=np.float32)
    def bounds(text: str) -> list[float]:
        return bounds_of(load("sample", [f"filters={text}"]).filters, reference, shuffled)

    assert bounds("{}") == []
    assert bounds("{aspect_ratio: {max: 3}}") == []
    assert bounds("{clip_similarity: {null_quantile: 0.5}}") == pytest.approx([0.05])
    assert bounds("{clip_similarity: {fraction: 0.3}}") == pytest.approx([0.7])
    assert bounds("{low: {column: clip_similarity, min: 0.2, max: 0.8}}") == pytest.approx([0.2, 0.8])


def test_the_sample_are_the_first_pairs_that_get_an_embedding() -> None:
    found = list(first_pairs(question(), 100))
    assert len(found) == 100
    assert all(isinstance(caption, str) for _, caption in found)
    assert len(list(first_pairs(question(), 10_000))) < 200   # two shards, without the broken pictures


def test_fp32_is_not_measured_and_half_precision_is() -> None:
    assert settled(question()) == MeasuredRoute(settled(question("model.precision=fp32")).route)
    found = settled(question("model.precision=bf16"))
    assert found.route.split("-")[2] == "bf16"
    one = found.distances[0]
    assert one.pairs == PAIRS["cpu"]
    assert 1e-5 < one.mean < 0.05
    assert len(one.flips) == 1   # the sample's null quantile
    assert "of the pairs cross" in str(one)


GPU = "cuda-sm90.card.torch2"


@pytest.mark.parametrize(("off", "taken", "tried"), [
    ({"bf16": 1e-6, "fp16": 1e-6, "tf32": 1e-6}, "bf16-compiled", ["bf16"]),
    ({"bf16": 1e-2, "fp16": 1e-6, "tf32": 1e-6}, "fp16-compiled", ["bf16", "fp16"]),
    ({"bf16": 1e-2, "fp16": np.nan, "tf32": 1e-6}, "tf32-compiled", ["bf16", "fp16", "tf32"]),
    ({"bf16": 1e-2, "fp16": np.nan, "tf32": 1e-3}, "fp32-compiled", ["bf16", "fp16", "tf32"]),
])
def test_on_a_gpu_the_fastest_precision_that_moves_hardly_a_pair_is_taken_and_else_fp32(
    monkeypatch: pytest.MonkeyPatch, off: dict[str, float], taken: str, tried: list[str],
) -> None:
    """With similarities that are made up, for a GPU is not there. Operator by operator is measured; compiled is what runs."""
    reference = np.random.default_rng(0).normal(0.25, 0.06, 512).astype(np.float32)

    def local_route(wish: RouteWish) -> str:
        name = "fp32" if wish.precision == "auto" else wish.precision
        return f"{GPU}-{name}-{'compiled' if wish.packed else 'eager'}"

    monkeypatch.setattr("pipeline.models.machine.local_route", local_route)
    monkeypatch.setattr(precision, "similarities", lambda recipe, route, pairs: (
        reference + np.float32(off.get(route.split("-")[2], 0)), np.zeros(len(reference), np.float32)))
    recipe = load("sample", ["filters={clip_similarity: {min: 0.28}}", "model.compile=true"])
    found = settled(replace(question(), recipe=recipe))
    assert found.route == f"{GPU}-{taken}"
    assert [one.route for one in found.distances] == [f"{GPU}-{name}-eager" for name in tried]


def test_shuffled_pairs_are_each_picture_with_another_one_s_caption() -> None:
    pairs = list(first_pairs(question(), 20))
    route = settled(question()).route
    found, shuffled = similarities(question().recipe, route, pairs)
    images, texts = encoder().encode_pairs(encoder().preprocess(picture for picture, _ in pairs), [text for _, text in pairs])
    np.testing.assert_allclose(found, (images * texts).sum(1), atol=1e-5)
    np.testing.assert_allclose(shuffled, [images[i] @ texts[i - 1] for i in range(20)], atol=1e-5)


def test_a_picture_without_a_caption_is_no_pair(tmp_path: Path, sample_folder: Path) -> None:
    (key, (image, caption)), (other, (alone, _)) = list(clean_pairs(sample_folder).items())[:2]
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in ((f"{other}.jpg", alone), (f"{key}.jpg", image), (f"{key}.txt", caption)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    recipe = question().recipe
    found = list(first_pairs(PrecisionQuestion(recipe, shards_of(recipe, [str(tmp_path)])), 10))
    assert [text for _, text in found] == [caption.decode()]


def test_what_only_a_gpu_computes_is_refused_on_the_cpu() -> None:
    with pytest.raises(InputError, match="tf32"):
        settled(question("model.precision=tf32"))


def test_a_question_without_shards_is_answered_without_a_measurement() -> None:
    assert settled(replace(question("model.precision=bf16"), shards=())).distances == ()
