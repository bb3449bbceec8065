"""The bundled sample as arrays, made once per session."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, UnidentifiedImageError

from pipeline.models.clip import Embedder, Encoder, open_encoder
from pipeline.models.machine import local_route
from pipeline.models.pixels.planes import squares
from pipeline.models.route import RouteWish
from pipeline.models.spec import ModelSpec
from pipeline.stages.hashes import SIDE, perceptual_hashes, thumbnails_of
from tests.archives import member_bytes
from tests.reduce.duplicates_before import Pictures


def looks(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """Perceptual hashes uint64 [n] and thumbnails uint8 [n, 768], as the hashes stage makes them."""
    small = squares([np.array(image) for image in images], SIDE)
    return perceptual_hashes(small), thumbnails_of(small).reshape(len(images), -1)


@dataclass(frozen=True)
class Sample:
    """828 pairs in row-id order. `images` are None where they cannot be decoded."""

    keys: list[str]
    captions: list[str]
    images: list[Image.Image | None]
    truth: list[dict[str, Any]]
    pictures: Pictures

    @property
    def readable(self) -> np.ndarray:
        return self.pictures.valid

    def rows_of(self, label: str) -> set[tuple[int, int]]:
        """(copy, original) of the planted duplicates."""
        place = {key: row for row, key in enumerate(self.keys)}
        return {(row, place[t["duplicate_of"]]) for row, t in enumerate(self.truth) if t["label"] == label}


def decoded(content: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return None


@pytest.fixture(scope="session")
def sample(sample_folder: Path) -> Sample:
    members: dict[str, bytes] = {}
    for path in sorted(sample_folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members |= {one.name: member_bytes(tar, one) for one in tar}
    keys = sorted({name.split(".")[0] for name in members})
    contents = [members[f"{key}.jpg"] for key in keys]
    captions = [members.get(f"{key}.txt", b"") for key in keys]
    images = [decoded(content) for content in contents]
    valid = np.array([image is not None for image in images])
    phash, thumbnail = np.zeros(len(keys), np.uint64), np.zeros((len(keys), 768), np.uint8)
    phash[valid], thumbnail[valid] = looks([image for image in images if image])
    truth = json.loads((sample_folder / "ground_truth.json").read_text())["pairs"]
    pictures = Pictures(
        uid=pa.array([hashlib.sha256(c + t).hexdigest()[:32] for c, t in zip(contents, captions, strict=True)]),
        sha256=pa.array([hashlib.sha256(content).hexdigest() for content in contents]),
        phash=phash, thumbnail=thumbnail,
        pixels=np.array([image.width * image.height if image else 0 for image in images]),
        valid=valid,
    )
    return Sample(keys, [text.decode() for text in captions], images, [truth[key] for key in keys], pictures)


@pytest.fixture(scope="session")
def encoder() -> Iterator[Embedder]:
    """The bundled model."""
    with open_encoder(ModelSpec(), local_route(RouteWish())) as opened:
        yield opened


@pytest.fixture(scope="session")
def embeddings(sample: Sample, encoder: Encoder) -> np.ndarray:
    """Image embeddings of the readable pairs, float32 [823, d]."""
    return encoder.encode_images(encoder.preprocess([np.array(image) for image in sample.images if image]))
