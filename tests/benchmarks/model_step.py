"""The model step against plain fp32 open_clip, and decode + preprocess against its transform; one thread each."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.models.clip import Encoder, open_encoder
from pipeline.models.machine import local_route
from pipeline.models.pixels.decoding import reopened
from pipeline.models.preprocess import Picture
from pipeline.models.route import RouteWish
from pipeline.models.spec import ModelSpec
from pipeline.models.weights import load_model
from tests.benchmarks.end_to_end import model_step
from tests.benchmarks.figures import Figure, median, ratios, spent
from tests.benchmarks.replicas import decoded, readable
from tests.models.zoo import encoded, picture

MICRO_BATCH = 16
DIFFERENCE, COSINE = 1e-5, 0.999


def towers(spec: ModelSpec, rows: int, bound: float | None, rounds: int) -> list[Figure]:
    """Both towers over inputs in memory: ours, from uint8 pixels; and open_clip's own, from the same normalised ones."""
    with open_encoder(spec, local_route(RouteWish(device="cpu")), MICRO_BATCH) as encoder:
        model = load_model(spec, "fp32", "cpu")[0]
        pairs = readable()[:rows]
        pixels = encoder.preprocess(decoded(data).pixels for data, _ in pairs)
        assert isinstance(encoder, Encoder)
        tokens = encoder.towers.tokenizer([caption for _, caption in pairs])
        normalised = encoder.towers.transform.normalised(pixels, torch.float32).contiguous()
        plain = plain_images(model, normalised), plain_texts(model, tokens)
        ours = encoder.encode_images(pixels), encoder.encode_tokens(tokens)
        times = spent({
            "plain": lambda: (plain_images(model, normalised), plain_texts(model, tokens)),
            "ours": lambda: model_step(encoder, pixels, tokens, len(pixels)),
        }, rounds)
    seconds = times.wall
    difference = max(float(np.abs(a - b).max()) for a, b in zip(plain, ours, strict=True))
    return [
        *ratios("our model step / plain fp32 open_clip", times, "plain", "ours", bound),
        Figure("our model step", len(pixels) / median(seconds["ours"]), "pairs/s"),
        Figure("plain fp32 open_clip", len(pixels) / median(seconds["plain"]), "pairs/s"),
        Figure("largest difference of an embedding's component", difference, "", DIFFERENCE, at_most=True),
    ]


@torch.inference_mode()
def plain_images(model: Any, pixels: torch.Tensor) -> NDArray[np.float32]:
    parts = [model.encode_image(part, normalize=True) for part in torch.split(pixels, MICRO_BATCH)]
    return torch.cat(parts).numpy()


@torch.inference_mode()
def plain_texts(model: Any, tokens: torch.Tensor) -> NDArray[np.float32]:
    parts = [model.encode_text(part, normalize=True) for part in torch.split(tokens, MICRO_BATCH)]
    return torch.cat(parts).numpy()


def sample_pictures(count: int) -> list[bytes]:
    return [data for data, _ in readable()[:count]]


def photos(count: int) -> list[bytes]:
    """JPEGs of 500 x 375 with the structure of photographs."""
    return [encoded(picture(500, 375, seed), "JPEG", quality=90) for seed in range(count)]


def decoding(pictures: Sequence[bytes], bound: float, rounds: int) -> list[Figure]:
    """Encoded bytes to the bundled model's normalised input, as the image and clip stages do it and as open_clip does."""
    spec = ModelSpec()
    with open_encoder(spec, local_route(RouteWish(device="cpu")), MICRO_BATCH) as encoder:
        assert isinstance(encoder, Encoder)
        model, transform = open_clip_own(spec)
        ours, theirs = ours_of(encoder, pictures), theirs_of(transform, pictures)   # warm-up
        found = plain_images(model, torch.cat(ours)), plain_images(model, torch.cat(theirs))
        times = spent({
            "ours": lambda: ours_of(encoder, pictures), "theirs": lambda: theirs_of(transform, pictures),
        }, rounds)
    seconds = times.wall
    cosines = (found[0] * found[1]).sum(axis=1)
    rates = {side: [len(pictures) / s for s in seconds[side]] for side in seconds}
    return [
        *ratios("our decode + preprocess / open_clip's transform", times, "theirs", "ours", bound),
        Figure("our decode + preprocess", median(rates["ours"]), "images/s"),
        Figure("open_clip's transform", median(rates["theirs"]), "images/s"),
        Figure("cosine of the embeddings, median", median(cosines.tolist()), ""),
        Figure("cosine of the embeddings, 5th percentile", float(np.quantile(cosines, 0.05)), ""),
        Figure("cosine of the embeddings, smallest", float(cosines.min()), "", COSINE),
    ]


def open_clip_own(spec: ModelSpec) -> tuple[torch.nn.Module, Callable[[Image.Image], torch.Tensor]]:
    model, _, transform = open_clip.create_model_and_transforms(spec.resolved)
    return model.eval(), transform


def ours_of(encoder: Encoder, pictures: Sequence[bytes]) -> list[torch.Tensor]:
    found = []
    for start in range(0, len(pictures), MICRO_BATCH):
        pixels = encoder.preprocess(seen(data) for data in pictures[start:start + MICRO_BATCH])
        found.append(encoder.towers.transform.normalised(pixels, torch.float32))
    return found


def seen(data: bytes) -> Picture:
    """What the clip stage hands to the preprocessing."""
    found = decoded(data)
    other = None if found.plain else reopened(data)
    return found.pixels if other is None else other


def theirs_of(transform: Callable[[Image.Image], torch.Tensor], pictures: Sequence[bytes]) -> list[torch.Tensor]:
    parts = [pictures[start:start + MICRO_BATCH] for start in range(0, len(pictures), MICRO_BATCH)]
    return [torch.stack([transform(Image.open(io.BytesIO(data))) for data in part]) for part in parts]
