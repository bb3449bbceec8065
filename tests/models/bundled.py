"""The bundled model as shardmill opens it and as open_clip does, and the bundled sample; each made once per session."""

import io
import json
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image, ImageOps

from pipeline.models.clip import Encoder, open_encoder
from pipeline.models.machine import local_route
from pipeline.models.process import tune
from pipeline.models.route import RouteWish
from pipeline.models.spec import ASSETS, ModelSpec
from tests.archives import member_bytes

SPEC = ModelSpec("bundled:tinyclip-oc")
_opened = ExitStack()


@lru_cache(1)
def encoder() -> Encoder:
    tune()
    found = _opened.enter_context(open_encoder(SPEC, local_route(RouteWish(device="cpu")), micro_batch=16))
    assert isinstance(found, Encoder)
    return found


@lru_cache(1)
def plain() -> tuple[Any, Any, Any]:
    """open_clip's own model, transform and tokenizer."""
    name = f"local-dir:{ASSETS / 'model'}"
    tune()
    model, _, transform = open_clip.create_model_and_transforms(name)
    return model.eval(), transform, open_clip.get_tokenizer(name)


def plain_images(images: Sequence[Image.Image]) -> np.ndarray:
    """Unit vectors of Pillow images by plain open_clip."""
    model, transform, _ = plain()
    with torch.inference_mode():
        return model.encode_image(torch.stack([transform(image) for image in images]), normalize=True).numpy()


def plain_texts(captions: list[str]) -> np.ndarray:
    model, _, tokens = plain()
    with torch.inference_mode():
        return model.encode_text(tokens(list(captions)), normalize=True).numpy()


def opened(data: bytes) -> Image.Image:
    """As anyone who uses open_clip would open it: upright, in its own mode."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


@lru_cache(1)
def sample() -> dict[str, tuple[bytes, str]]:
    """Image bytes and caption of every pair of the bundled sample, by key."""
    found: dict[str, tuple[bytes, str]] = {}
    for path in sorted((ASSETS / "sample").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = {Path(m.name).name: member_bytes(tar, m) for m in tar}
        for name, data in members.items():
            if name.endswith(".jpg"):
                found[name[:-4]] = (data, members[f"{name[:-4]}.txt"].decode())
    return found


@lru_cache(1)
def ground_truth() -> dict[str, dict[str, Any]]:
    return json.loads((ASSETS / "sample" / "ground_truth.json").read_text())["pairs"]


def readable() -> dict[str, tuple[bytes, str]]:
    """The pairs whose picture was not made unreadable."""
    return {key: pair for key, pair in sample().items() if ground_truth()[key]["label"] != "corrupt"}
