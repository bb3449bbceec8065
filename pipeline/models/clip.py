"""Image and text embeddings of any open_clip model: in this process on the CPU, by the server of its GPU otherwise."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.models.buckets import rows_by_bucket
from pipeline.models.preprocess import Picture
from pipeline.models.route import parse
from pipeline.models.spec import ModelSpec, describe
from pipeline.models.towers import Towers, memory_guard, open_towers, padded
from pipeline.vectors import Floats


class Embedder(Protocol):
    """Pictures and captions to unit vectors. Safe to use from several threads."""

    def preprocess(self, pictures: Iterable[Picture]) -> Tensor:
        """Pictures of any size to uint8 [n, 3, S, S]; each is dropped before the next is taken."""

    def encode_pairs(self, pixels: Tensor, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """Unit vectors float32 [n, dimension] of preprocessed pixels, and of as many raw captions, cut to the model's context."""

    def encode_images(self, pixels: Tensor) -> Floats:
        """Unit vectors float32 [n, dimension] of preprocessed pixels."""

    def encode_texts(self, captions: Sequence[str]) -> Floats:
        """Unit vectors float32 [n, dimension] of raw captions, cut to the model's context."""


@dataclass(frozen=True)
class Encoder:
    """The towers in this process. One thread computes while others preprocess."""

    towers: Towers
    lock: Lock = field(default_factory=Lock)

    def preprocess(self, pictures: Iterable[Picture]) -> Tensor:
        """Resizes and crops pictures of any size to uint8 [n, 3, S, S]."""
        with torch.inference_mode():
            return self.towers.transform(pictures)

    def encode_pairs(self, pixels: Tensor, captions: Sequence[str]) -> tuple[Floats, Floats]:
        """Unit vectors float32 [n, dimension] of preprocessed pixels uint8 [n, 3, S, S], and of n raw captions."""
        return self.encode_images(pixels), self.encode_texts(captions)

    def encode_images(self, pixels: Tensor) -> Floats:
        """Unit vectors float32 [n, dimension] of preprocessed pixels."""
        return self._encode(pixels, self.towers.images, self.towers.micro_batch)

    def encode_texts(self, captions: Sequence[str]) -> Floats:
        """Unit vectors float32 [n, dimension] of raw captions, cut to the model's context."""
        if not captions:
            return np.zeros((0, self.towers.dimension), np.float32)
        return self.encode_tokens(self.towers.tokenizer(captions))

    def encode_tokens(self, tokens: Tensor) -> Floats:
        """Unit vectors float32 [n, dimension] of token ids [n, context]."""
        towers = self.towers
        if not towers.buckets or towers.token_counts is None:
            return self._encode(tokens, towers.texts, towers.micro_batch)
        vectors = np.zeros((len(tokens), towers.dimension), np.float32)
        for bucket, rows in rows_by_bucket(towers.buckets, towers.token_counts(tokens)):
            vectors[rows] = self._encode(tokens[rows, :bucket.length], bucket.tower, bucket.rows)
        return vectors

    def _encode(self, inputs: Tensor, tower: Callable[[Tensor], Tensor], rows: int) -> Floats:
        """Unit vectors float32 [n, dimension]; the tower is called with exactly `rows` rows at a time, the last ones padded."""
        route = self.towers.route
        vectors = np.zeros((len(inputs), self.towers.dimension), np.float32)
        for start in range(0, len(inputs), rows):
            part = inputs[start:start + rows]
            with torch.inference_mode(), self.lock, memory_guard(rows, route):
                vectors[start:start + len(part)] = tower(padded(part, rows).to(route.device))[:len(part)].float().cpu().numpy()
        return vectors


_kept: dict[tuple[str, str, int], Embedder] = {}


@contextmanager
def open_encoder(spec: ModelSpec, route: str, micro_batch: int = 16) -> Iterator[Embedder]:
    """The model for one numeric route. A process keeps the one that it opened last: several passes of a run want the same, and
    opening it takes seconds.

    Raises InputError if this machine cannot provide the route or the model cannot be had or packed.
    """
    key = (describe(spec).identity, route, micro_batch)
    if key not in _kept:
        _kept.clear()   # before the next is loaded: there may not be room for two
        _kept[key] = _opened(spec, route, micro_batch)
    yield _kept[key]


def _opened(spec: ModelSpec, route: str, micro_batch: int) -> Embedder:
    if parse(route).device == "cuda":
        from pipeline.models.device.client import connected  # most workers have no GPU

        return connected(spec, route, micro_batch)
    return Encoder(open_towers(spec, parse(route), micro_batch))
