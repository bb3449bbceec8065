"""Unit vectors to cluster and search: planted ones of any size, and real ones of the bundled model, kept in a cache folder."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.entities.knowledge_base import KnowledgeBase
from pipeline.models.clip import Encoder, open_encoder
from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish
from pipeline.models.spec import ModelSpec, describe
from pipeline.vectors import Floats
from tests.benchmarks.replicas import decoded, readable

CACHE = Path(tempfile.gettempdir()) / "shardmill-bench"
ROWS = 65_536   # made at a time

TOPICS, MODES, ZIPF = 120, 2_000, 0.9
TOPIC_SPREAD, MODE_SPREAD = 0.9, 0.7   # length of the deviation from the unit vector above
DECAY = 0.35                            # the j-th direction deviates with j^-DECAY of the first

CROPS = 304        # of each picture: 250,000 rows of the bundled sample
CROP_SIZE = 128    # the bundled model's input
LEAST_SIDE = 0.4   # of a crop, as a share of the picture's
LEAST_GAIN = 0.7   # of brightness


def planted(n: int, d: int, seed: int, dtype: type[np.floating] = np.float32) -> Floats:
    """[n, d] unit rows around 2,000 modes in 120 topics, sizes by Zipf's law with exponent 0.9, wider in some directions.

    With k = 2,000 the best mean cosine is about 1 / sqrt(1 + MODE_SPREAD²) = 0.82. Only a block of float32 rows is held
    beside the result.
    """
    structure = np.random.default_rng(seed)
    scale = (np.arange(1, d + 1) ** -DECAY).astype(np.float32)
    scale /= np.linalg.norm(scale)
    turn = np.linalg.qr(structure.standard_normal((d, d)))[0].astype(np.float32)
    spread = scale[:, None] * turn
    topics = _unit(structure.standard_normal((TOPICS, d), np.float32))
    above = topics[structure.integers(TOPICS, size=MODES)]
    modes = _unit(above + TOPIC_SPREAD * structure.standard_normal((MODES, d), np.float32) @ spread)
    share = np.arange(1, MODES + 1) ** -ZIPF
    rows = np.empty((n, d), dtype)
    for number, at in enumerate(range(0, n, ROWS)):
        random = np.random.default_rng([seed, number])
        member = random.choice(MODES, min(ROWS, n - at), p=share / share.sum())
        noise = random.standard_normal((len(member), d), np.float32) @ spread
        rows[at : at + len(member)] = _unit(modes[member] + MODE_SPREAD * noise)
    return rows


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    unit: NDArray[Any] = rows / length
    return unit


def glosses(most: int | None = None) -> NDArray[np.float32]:
    """Text embeddings of the descriptions of the bundled WordNet's nouns, f32[82,115, 256]; two minutes when not cached."""
    texts = KnowledgeBase.load().glosses[:most]
    return _cached(f"glosses-{len(texts)}", lambda encoder: (
        encoder.encode_texts(texts[at : at + ROWS // 64]) for at in range(0, len(texts), ROWS // 64)
    ))


def crops(pictures: int | None = None) -> NDArray[np.float32]:
    """Image embeddings of 304 seeded crops, half of them mirrored, of other brightness, of each picture of the bundled
    sample: f32[250,000 or so, 256], a picture's in a row; ten minutes when not cached."""
    contents = [data for data, _ in readable()[:pictures]]
    return _cached(f"crops-{CROPS}-{len(contents)}", lambda encoder: (
        encoder.encode_images(_augmented(decoded(data).pixels, seed)) for seed, data in enumerate(contents)
    ))


def _augmented(pixels: NDArray[np.uint8], seed: int) -> torch.Tensor:
    """uint8 [CROPS, 3, CROP_SIZE, CROP_SIZE]."""
    random = np.random.default_rng(seed)
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float()
    height, width = planes.shape[2:]
    found = []
    for side in random.uniform(LEAST_SIDE, 1, CROPS):
        rows, columns = max(1, int(side * height)), max(1, int(side * width))
        top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
        part = planes[:, :, top : top + rows, left : left + columns] * random.uniform(LEAST_GAIN, 1 / LEAST_GAIN)
        part = part.flip(3) if random.random() < 0.5 else part
        found.append(F.interpolate(part, (CROP_SIZE, CROP_SIZE), mode="bilinear", antialias=True))
    return torch.cat(found).clamp_(0, 255).round_().to(torch.uint8)


def _cached(name: str, parts: Callable[[Encoder], Iterator[NDArray[np.float32]]]) -> NDArray[np.float32]:
    """The rows from the cache, or embedded now; one model and one version of this file have one cache."""
    spec, route = ModelSpec(), local_route(RouteWish())
    made_by = hashlib.sha256(f"{describe(spec).identity} {route}".encode() + Path(__file__).read_bytes()).hexdigest()
    path = CACHE / f"{name}-{made_by[:12]}.npy"
    if not path.exists():
        with open_encoder(spec, route) as encoder:
            assert isinstance(encoder, Encoder)
            _write(path, np.concatenate(list(parts(encoder))))
    rows: NDArray[np.float32] = np.load(path)
    return rows


def _write(path: Path, rows: NDArray[Any]) -> None:
    """Whole or not at all: two processes may make the same."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.save(file, rows)
    os.replace(file.name, path)
