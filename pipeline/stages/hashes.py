"""The hashes stage: what duplicates are found by.

The perceptual hash (Zauner 2010: DCT of a 32 x 32 grey picture, its 8 x 8 low frequencies against their median, bit
order as imagehash.phash) survives resizing and JPEG compression; it does not survive crops and flips. Pictures that
are mostly one colour share hashes by chance, which is what the thumbnail is for.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.stage import Contract, Stage, Transform
from pipeline.stages.pixels import pixel_arrays
from schemas.columns import HASHES, PIXELS

SIDE, FREQUENCIES = 32, 8

LUMA = np.array([19595, 38470, 7471], np.int64)
"""ITU-R 601 in 1/65536, as Pillow's grey."""


@dataclass(frozen=True)
class HashesStage(Stage):
    """Hashes bytes and pixels; a picture that could not be decoded still has the hash of its bytes."""

    contract = Contract("hashes", version=1, reads=("image", *PIXELS.names), writes=HASHES)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield hash_columns


def hash_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas HASHES."""
    digests = [hashlib.sha256(data.as_buffer()).hexdigest() if data.is_valid else None for data in batch["image"]]
    from pipeline.models.pixels.planes import squares  # brings torch; who only plans needs the stage's name and identity

    pictures = pixel_arrays(batch)
    small = squares([picture for picture in pictures if picture is not None], SIDE)
    hashes, thumbnails = iter(perceptual_hashes(small).tolist()), iter(thumbnails_of(small))
    return pa.RecordBatch.from_arrays([
        batch["uid"],
        pa.array(digests, pa.string()),
        pa.array([None if picture is None else next(hashes) for picture in pictures], pa.uint64()),
        pa.array([None if picture is None else next(thumbnails).tobytes() for picture in pictures], pa.binary(768)),
        pa.nulls(batch.num_rows, pa.string()),
    ], schema=HASHES)


def cosines(size: int, count: int) -> NDArray[np.float64]:
    """The first `count` basis vectors of the DCT-II over `size` values, not normalised: f64 [count, size]."""
    basis: NDArray[np.float64] = np.cos(np.pi / size * np.outer(np.arange(count), np.arange(size) + 0.5))
    return basis


def perceptual_hashes(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64-bit hashes of RGB pictures [n, 32, 32, 3]; the lowest frequency is the highest bit."""
    grey = (small.astype(np.int64) @ LUMA + 0x8000) >> 16
    basis = cosines(SIDE, FREQUENCIES)
    # Rounded, so that frequencies which a flat picture has not are equal to their median and not above it by 1e-13.
    low = np.round(basis @ grey.astype(np.float64) @ basis.T, 3).reshape(len(small), FREQUENCIES**2)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)


def thumbnails_of(small: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean colours of the 2 x 2 blocks of [n, 32, 32, 3]: uint8 [n, 16, 16, 3]."""
    wide = small.astype(np.uint16)
    rows = wide[:, ::2] + wide[:, 1::2]
    sums = rows[:, :, ::2] + rows[:, :, 1::2]
    means: NDArray[np.uint8] = ((sums + 2) >> 2).astype(np.uint8)
    return means
