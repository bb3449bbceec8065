"""Encoded images as what a model is trained on: a random part of the picture at a fixed size, decoded once and no larger than
needed."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.vectors import Bytes

Picture = Callable[[bytes, np.random.Generator], Bytes]
"""An encoded image and a source of randomness to uint8 [3, height, width]."""

TRIES = 10


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the picture, of a random share of its area and ratio of its sides, resized to a square (Szegedy et al. 2015,
    §6); the defaults are those by which open_clip trains."""

    size: int = 224
    """Pixels of a side of the square."""
    scale: tuple[float, float] = (0.9, 1.0)
    """The least and the largest share of the area."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """The least and the largest width by height."""
    flip: float = 0.0
    """How often (0..1) it is mirrored."""

    def __call__(self, encoded: bytes, rng: np.random.Generator) -> Bytes:
        """uint8 [3, size, size], RGB. Raises what Pillow raises for images that are damaged, or beyond its bound of pixels."""
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
            left, top, right, bottom = self.part(width, height, rng)
            mirrored = rng.random() < self.flip
            # A JPEG is decoded at a half, quarter or eighth of its size where the part keeps enough pixels.
            image.draft("RGB", (math.ceil(width * self.size / (right - left)), math.ceil(height * self.size / (bottom - top))))
            x, y = image.size[0] / width, image.size[1] / height
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            part = (left * x, top * y, right * x, bottom * y)
            square = rgb.resize((self.size, self.size), Image.Resampling.BICUBIC, box=part, reducing_gap=3.0)
        pixels = np.asarray(square)[:, ::-1] if mirrored else np.asarray(square)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def part(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """left, top, right, bottom in pixels of a picture of this size; after ten tries that do not fit, the largest centred part
        within the ratios."""
        low, high = map(math.log, self.ratio)
        for _ in range(TRIES):
            area = width * height * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return left, top, left + w, top + h
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h
