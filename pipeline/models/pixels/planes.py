"""What torch and torchvision do with pixels: decode JPEGs, and resize."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.io import ImageReadMode

from pipeline.vectors import Bytes

# The operator itself: torchvision's function around it warns on every call that it will move to another package. Where it
# has moved, Pillow decodes everything.
DECODE_JPEG = getattr(torch.ops.image, "decode_jpeg", None)


def jpeg_pixels(data: bytes | memoryview) -> Bytes | None:
    """RGB pixels uint8 [rows, columns, 3] of a JPEG as it is stored, not turned; None where they are not to be had."""
    if DECODE_JPEG is None:
        return None
    try:
        decoded = DECODE_JPEG(torch.frombuffer(data, dtype=torch.uint8), ImageReadMode.RGB.value)
    except RuntimeError:
        return None
    pixels: Bytes = decoded.permute(1, 2, 0).contiguous().numpy()
    return pixels


def as_planes(pixels: Bytes) -> torch.Tensor:
    """uint8 [1, 3, rows, columns] over the same memory. The first stride is that of a true batch, which makes torch resize
    with the channels last; over a broadcast one it copies the picture into planes first, for the same values."""
    rows, columns, _ = pixels.shape
    return torch.from_numpy(pixels).as_strided((1, 3, rows, columns), (pixels.size, 1, 3 * columns, 3))


def squares(pictures: Sequence[Bytes], side: int) -> Bytes:
    """Each picture squashed to side x side (bicubic, antialiased): uint8 [n, side, side, 3]."""
    resized_pictures = np.empty((len(pictures), side, side, 3), np.uint8)
    for square, pixels in zip(resized_pictures, pictures, strict=True):
        resized = F.interpolate(as_planes(pixels), (side, side), mode="bicubic", antialias=True)
        square[:] = resized[0].permute(1, 2, 0).numpy()
    return resized_pictures
