"""The arithmetic of the model on a GPU, settled by measuring: how far half precision is from fp32 on this run's own pairs.

Reduced precision moves similarities a little, and what counts is whether it moves pairs across the recipe's bound. So the first
pairs of the input are embedded both ways, and the fastest precision that moves fewer than FLIPS of them is taken.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.input.discovery import Shard
from pipeline.input.reader import read
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rules import SCORES, Rules
from pipeline.vectors import Floats

if TYPE_CHECKING:
    from pipeline.models.clip import Embedder
    from pipeline.models.route import RouteWish


PAIRS = {"cuda": 512, "cpu": 64}
"""Pairs that are embedded both ways: some seconds of either device."""
FLIPS = 0.0005
FASTEST_FIRST = ("bf16", "fp16", "tf32")
"""bf16 and fp16 are as fast as each other; fp16 is eight times as exact, and too narrow for some models, whose values overflow."""


@dataclass(frozen=True)
class Distance:
    """Similarities by one route beside those of fp32 open_clip on the same pairs."""

    route: str
    pairs: int
    mean: float
    """Mean of |difference|."""
    p999: float
    """Its 99.9 % quantile."""
    finite: bool
    flips: tuple[tuple[float, float], ...]
    """(bound, expected share of pairs on the other side of it) for each bound of the recipe."""

    @property
    def acceptable(self) -> bool:
        """Whether the route may be taken: all values are finite and each bound is crossed by fewer than FLIPS of the pairs."""
        return self.finite and all(share < FLIPS for _, share in self.flips)

    def record(self) -> dict[str, Any]:
        """The fields by name, for the log."""
        return asdict(self)

    def __str__(self) -> str:
        precision = self.route.split("-")[2]
        if not self.finite:
            return f"{precision}: overflows for this model"
        crossed = ", ".join(f"{100 * share:.2g} % of the pairs cross {bound:.3g}" for bound, share in self.flips)
        return (f"{precision}: similarities off by {self.mean:.1e} on average, {self.p999:.1e} at the 99.9 % quantile "
                f"({self.pairs} pairs){'; ' if crossed else ''}{crossed}")


def distance(route: str, similarities: Floats, reference: Floats, bounds: Sequence[float]) -> Distance:
    """How far similarities f32[n] by a route are from those by fp32, f32[n], and how many pairs cross each of these bounds.

    Of 512 pairs hardly one lies near enough to a bound to cross it, so the share is an expectation (`crossing`).
    """
    errors = similarities.astype(np.float64) - reference
    finite = bool(np.isfinite(errors).all())
    errors = np.where(np.isfinite(errors), errors, 2.0)
    size = np.abs(errors)
    flips = tuple((float(bound), crossing(reference, errors, bound)) for bound in bounds)
    return Distance(route, len(reference), float(size.mean()), float(np.quantile(size, 0.999)), finite, flips)


def crossing(reference: Floats, errors: NDArray[np.float64], bound: float) -> float:
    """The expected share of pairs that an error takes across a bound: their density there (Gaussian kernels, Scott 1992) times the
    mean size of an error, for errors that are small and do not depend on where a pair lies. `reference`: f32[n] similarities;
    `errors`: f64[n]."""
    spread = float(reference.std())
    if not spread:
        return float((np.abs(errors) >= np.abs(reference - bound)).mean())
    width: float = spread * len(reference) ** -0.2
    away = (reference.astype(np.float64) - bound) / width
    density = float(np.exp(-(away**2) / 2).mean()) / (width * math.sqrt(2 * math.pi))
    return min(1.0, density * float(np.abs(errors).mean()))


def bounds_of(rules: Rules, reference: Floats, shuffled: Floats) -> list[float]:
    """The numbers that rules hold a similarity against; relative ones as similarities f32[n] of these pairs, and of shuffled pairs,
    would give them."""
    bounds: list[float] = []
    for rule in rules.values():
        if rule.column not in SCORES:
            continue
        bounds += [float(value) for value in (rule.min, rule.above, rule.max, rule.below) if value is not None]
        if rule.null_quantile is not None and len(shuffled):
            bounds.append(float(np.quantile(shuffled, rule.null_quantile)))
        if rule.fraction is not None and len(reference):
            bounds.append(float(np.quantile(reference, 1 - rule.fraction)))
    return bounds


@dataclass(frozen=True)
class PrecisionQuestion:
    """What a worker is asked for the route of a run: the recipe and shards to take pairs from."""

    recipe: Recipe
    shards: tuple[Shard, ...]
    """The first ones; their pairs are the sample."""

    @property
    def wish(self) -> "RouteWish":
        """The route that the recipe asks for."""
        from pipeline.models.route import RouteWish

        model = self.recipe.model
        return RouteWish(model.precision, model.device, model.compile)


@dataclass(frozen=True)
class MeasuredRoute:
    """A route, and the measurements behind it: none where fp32 was asked for, or is what the device does best."""

    route: str
    distances: tuple[Distance, ...] = ()


def settled(question: PrecisionQuestion) -> MeasuredRoute:
    """The route of this machine for a run, measured on the run's first pairs. It is asked of a worker, for the driver's machine may
    be another kind. Raises InputError where the wish cannot be had."""
    from pipeline.models.machine import local_route
    from pipeline.models.route import parse

    wish = question.wish
    plain = local_route(wish)
    device = parse(plain).device
    if wish.precision == "fp32" or (wish.precision == "auto" and device == "cpu"):
        return MeasuredRoute(plain)
    sample = tuple(first_pairs(question, PAIRS[device]))
    reference_route = local_route(replace(wish, precision="fp32"))
    if not sample:
        return MeasuredRoute(plain)
    reference, shuffled = similarities(question.recipe, reference_route, sample)
    bounds = bounds_of(question.recipe.filters, reference, shuffled)
    distances: list[Distance] = []
    for precision in FASTEST_FIRST if wish.precision == "auto" else (wish.precision,):
        faster = replace(wish, precision=precision)   # type: ignore[arg-type]
        # On a GPU operator by operator: to compile takes a minute, and what is fused rounds alike or less often.
        faster_route = local_route(faster if device == "cpu" else replace(faster, packed=False))
        distances.append(distance(faster_route, similarities(question.recipe, faster_route, sample)[0], reference, bounds))
        if wish.precision != "auto" or distances[-1].acceptable:
            return MeasuredRoute(local_route(faster), tuple(distances))
    return MeasuredRoute(reference_route, tuple(distances))


Pair = tuple[Any, str]
"""A picture as the clip stage sees it, and its caption."""


def first_pairs(question: PrecisionQuestion, count: int) -> Iterator[Pair]:
    """The first pairs of the input that get an embedding."""
    from pipeline.stages.clip import encoder_pictures
    from pipeline.stages.image import ImageStage
    from pipeline.stages.pixels import pixel_arrays

    recipe, missing = question.recipe, count
    with ImageStage(recipe.image.allowed_formats, recipe.image.max_pixels).open() as decoded:
        for shard in question.shards:
            for batch in read(shard, reading=recipe.reading):
                pictures = decoded(batch)
                arrays, captions = pixel_arrays(pictures), batch["caption"]
                rows = [row for row, array in enumerate(arrays) if array is not None and captions[row].is_valid][:missing]
                pixels = encoder_pictures(arrays, pictures["pixels_plain"].to_pylist(), batch["image"], rows)
                yield from zip(pixels, (captions[row].as_py() for row in rows), strict=True)
                missing -= len(rows)
                if not missing:
                    return


def similarities(recipe: Recipe, route: str, sample: Sequence[Pair]) -> tuple[Floats, Floats]:
    """Similarities by this route, f32[n] each: of the n pairs, and of each picture with the caption of the pair before it."""
    from pipeline.models.clip import open_encoder
    from pipeline.models.route import parse
    from pipeline.models.spec import ModelSpec

    micro_batch = parse(route).micro_batch if recipe.model.micro_batch == "auto" else recipe.model.micro_batch
    with open_encoder(ModelSpec(recipe.model.name, recipe.model.pretrained), route, micro_batch) as embedder:
        images, texts = embedded(embedder, sample)
    return (images * texts).sum(axis=1), (images * np.roll(texts, 1, axis=0)).sum(axis=1)


def embedded(embedder: "Embedder", sample: Sequence[Pair]) -> "tuple[Floats, Floats]":
    """Unit vectors f32 [n, d] of the pictures and of the captions."""
    return embedder.encode_pairs(embedder.preprocess(picture for picture, _ in sample), [caption for _, caption in sample])
