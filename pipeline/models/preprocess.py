"""open_clip's image transform for whole batches, on uint8 as far as possible.

For RGB pixels the arithmetic is open_clip's (`image_transform` with its resize modes shortest, longest and squash), with
torch's antialiased integer resize instead of Pillow's where the two differ by a rounding of single values only. Pictures
in another mode go through open_clip's own transform.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose

from pipeline.models.pixels.decoding import DAMAGE, Pixels
from pipeline.models.pixels.planes import as_planes

Picture = Pixels | Image.Image
"""RGB uint8 [rows, columns, 3], or what `pixels.decoding.reopened` gives."""

MAX_RESIZED = 16
"""A strip that would be resized to more than this many times the model's input is cropped while it is resized."""

TINY = 64 * 64
"""Pixels below which a picture is resized by Pillow: a level in one of them is seen all over the result."""


@dataclass(frozen=True)
class Preprocess:
    """Pictures of any size to the model's input. Sizes are (rows, columns); mean and std are on the scale 0..1."""

    size: tuple[int, int]
    resize_mode: str
    interpolation: str
    fill: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Preprocess":
        """Reads the preprocess config that open_clip attaches to a model."""
        size = config["size"]
        rows, columns = (size, size) if isinstance(size, int) else size
        return cls(
            (rows, columns), config["resize_mode"], "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            int(config["fill_color"]),
            tuple(config["mean"]), tuple(config["std"]),
        )

    def __call__(self, pictures: Iterable[Picture]) -> torch.Tensor:
        """uint8 [n, 3, rows, columns], channels last in memory, resized and cropped or padded, not yet normalised."""
        resized = [self._of_mode(picture) if isinstance(picture, Image.Image) else self._of_rgb(picture) for picture in pictures]
        return (torch.stack(resized) if resized else torch.empty(0, *self.size, 3, dtype=torch.uint8)).permute(0, 3, 1, 2)

    def _of_rgb(self, pixels: Pixels) -> torch.Tensor:
        resized = self._resized(pixels)
        if resized.shape[:2] == self.size:
            return resized
        canvas = torch.full((*self.size, 3), self.fill, dtype=torch.uint8)
        rows, columns = _centred(self.size[0], resized.shape[0]), _centred(self.size[1], resized.shape[1])
        canvas[rows[0], columns[0]] = resized[rows[1], columns[1]]
        return canvas

    def _of_mode(self, picture: Image.Image) -> torch.Tensor:
        """uint8 [rows, columns, 3] as open_clip's own transform gives it; where that fails, which it does on strips a pixel wide,
        from RGB pixels."""
        try:
            return torch.from_numpy(np.array(self._open_clip_transform(picture)))
        except DAMAGE:
            return self._of_rgb(np.array(picture.convert("RGB")))

    @cached_property
    def _open_clip_transform(self) -> Callable[[Image.Image], Image.Image]:
        """open_clip's transform up to the RGB picture."""
        steps = image_transform(
            self.size, is_train=False, resize_mode=self.resize_mode, interpolation=self.interpolation, fill_color=self.fill
        ).transforms
        transform: Callable[[Image.Image], Image.Image] = Compose(steps[:-2])   # without the tensor and its normalisation
        return transform

    def normalised(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The model's input [n, 3, rows, columns] of this dtype for pixels uint8 [n, 3, rows, columns], channels last in memory."""
        mean, std = (levels(values, self.size[1], pixels.device) for values in (self.mean, self.std))
        # Over whole rows of pixels: four times as fast as over planes whose values lie three apart.
        lines = pixels.permute(0, 2, 3, 1).reshape(len(pixels), self.size[0], -1)
        scaled = lines.float().sub_(mean).div_(std).to(dtype)
        return scaled.reshape(len(pixels), *self.size, 3).permute(0, 3, 1, 2)

    def target(self, rows: int, columns: int) -> tuple[int, int]:
        """The size that a picture is resized to, before it is cropped or padded."""
        if self.resize_mode == "squash":
            return self.size
        if self.resize_mode == "shortest" and self.size[0] == self.size[1]:   # torchvision cuts the fraction off
            short = min(rows, columns)
            return max(1, int(self.size[0] * rows / short)), max(1, int(self.size[0] * columns / short))
        ratios = rows / self.size[0], columns / self.size[1]
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(1, round(rows / ratio)), max(1, round(columns / ratio))   # open_clip fails where this is 0

    def _resized(self, pixels: Pixels) -> torch.Tensor:
        """uint8 [rows, columns, 3], at least what the model sees of the resized picture."""
        rows, columns = self.target(*pixels.shape[:2])
        height, width = pixels.shape[:2]
        if (rows, columns) == (height, width):
            return torch.from_numpy(pixels)
        if rows * columns > MAX_RESIZED * self.size[0] * self.size[1]:
            return self._strip(pixels, rows, columns)
        if height * width < TINY or not _across_first(height, width, rows, columns):
            return self._by_pillow(pixels, rows, columns, (0, 0, width, height))
        return F.interpolate(as_planes(pixels), (rows, columns), mode=self.interpolation, antialias=True)[0].permute(1, 2, 0)

    def _strip(self, pixels: Pixels, rows: int, columns: int) -> torch.Tensor:
        """The centre of a picture resized to rows x columns, without making the rest."""
        top, left = round((rows - self.size[0]) / 2), round((columns - self.size[1]) / 2)
        height, width = pixels.shape[:2]
        y, x = height / rows, width / columns
        box = left * x, top * y, min(width, (left + self.size[1]) * x), min(height, (top + self.size[0]) * y)
        return self._by_pillow(pixels, *self.size, box)

    def _by_pillow(self, pixels: Pixels, rows: int, columns: int, box: tuple[float, float, float, float]) -> torch.Tensor:
        filter = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        return torch.from_numpy(np.array(Image.fromarray(pixels).resize((columns, rows), filter, box=box)))


@cache
def levels(values: tuple[float, ...], columns: int, device: torch.device) -> torch.Tensor:
    """f32[3 * columns]: a value per channel, on the scale 0..255, for a whole row of pixels. It is made once: a copy to a GPU waits
    for the GPU."""
    return torch.tensor(values, device=device).repeat(columns) * 255


def _across_first(height: int, width: int, rows: int, columns: int) -> bool:
    """Whether Pillow surely resizes the rows of a picture before its columns, as torch does. The pass between rounds and
    clips, so the order shows at hard edges. Recent Pillow takes the columns of tall pictures first; how tall is its own
    affair, so this is on the safe side."""
    return rows >= height or (height < 2 * width and columns * height <= 1.05 * width * rows)


def _centred(target: int, source: int) -> tuple[slice, slice]:
    """Where `given` values lie among `wanted` ones, and which of them are used: open_clip's rounding of the centre."""
    if source <= target:
        offset = (target - source) // 2
        return slice(offset, offset + source), slice(0, source)
    start = round((source - target) / 2)
    return slice(0, target), slice(start, start + target)
