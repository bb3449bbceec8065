"""Image and text embeddings of any open_clip model, in micro-batches of one fixed shape.

Every call of a tower has exactly `micro_batch` rows, padded where there are fewer: the kernels then do the same
arithmetic for a row whatever its neighbours are and however many samples came in, so embeddings do not depend on how
samples were batched.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.models.packing import Tower, checked_tower, packed
from pipeline.models.preprocess import Picture, Preprocess
from pipeline.models.route import Route, parse, require
from pipeline.models.tokens import Tokenizer, tokenizer
from pipeline.models.weights import ModelSpec, describe, load_model

Vectors = NDArray[np.float32]

NO_MEMORY = ("DefaultCPUAllocator", "could not create a memory", "std::bad_alloc")
"""What torch's and oneDNN's errors say when memory for a tensor or for scratch is not to be had on the CPU."""


@dataclass(frozen=True)
class Encoder:
    """The two towers of a loaded model. Safe to use from several threads: one computes while others preprocess."""

    transform: Preprocess
    tokenizer: Tokenizer
    image_tower: Tower
    text_tower: Tower
    dimension: int
    micro_batch: int
    route: Route
    lock: Lock = field(default_factory=Lock)

    def preprocess(self, pictures: Iterable[Picture]) -> Tensor:
        """Pictures of any size to uint8 [n, 3, S, S]; each is dropped before the next is taken."""
        with torch.inference_mode():
            return self.transform(pictures)

    def encode_images(self, pixels: Tensor) -> Vectors:
        """Unit vectors float32 [n, dimension] of preprocessed pixels."""
        return self._encode(pixels, lambda part: self.transform.normalised(part, self.route.dtype), self.image_tower)

    def encode_texts(self, captions: Sequence[str]) -> Vectors:
        """Unit vectors float32 [n, dimension] of raw captions, cut to the model's context."""
        if not captions:
            return np.zeros((0, self.dimension), np.float32)
        return self._encode(self.tokenizer(captions), lambda part: part, self.text_tower)

    def _encode(self, inputs: Tensor, prepare: Callable[[Tensor], Tensor], tower: Tower) -> Vectors:
        found = np.zeros((len(inputs), self.dimension), np.float32)
        for start in range(0, len(inputs), self.micro_batch):
            part = inputs[start:start + self.micro_batch]
            with torch.inference_mode(), self.lock, exact(self.route), memory(self.micro_batch, self.route):
                vectors = tower(prepare(filled(part, self.micro_batch).to(self.route.device)))
                found[start:start + len(part)] = vectors[:len(part)].float().cpu().numpy()
        return found


_kept: dict[tuple[str, str, int], Encoder] = {}


@contextmanager
def open_encoder(spec: ModelSpec, route: str, micro_batch: int = 16) -> Iterator[Encoder]:
    """The model for one numeric route. A process keeps the one that it opened last: several passes of a run want the same, and
    opening it takes seconds.

    Raises InputError if this machine cannot provide the route or the model cannot be had or packed.
    """
    key = (describe(spec).identity, route, micro_batch)
    if key not in _kept:
        _kept.clear()   # before the next is loaded: there may not be room for two
        _kept[key] = _opened(spec, parse(route), micro_batch)
    yield _kept[key]


def _opened(spec: ModelSpec, where: Route, micro_batch: int) -> Encoder:
    require(where)
    with memory(micro_batch, where):
        model, config = load_model(spec, {"bf16": "pure_bf16", "fp16": "pure_fp16"}.get(where.precision, "fp32"), where.device)
    transform, tokens = Preprocess.of(config), tokenizer(spec.resolved)
    with torch.inference_mode(), memory(micro_batch, where):
        image_example = transform.normalised(sketch(micro_batch, transform.size).to(where.device), where.dtype)
        text_example = filled(tokens(["a photo of a dog", "a red flag"]), micro_batch).to(where.device)
        image_tower = _tower(ImageTower(model).to(memory_format=torch.channels_last), image_example, where)
        text_tower = _tower(TextTower(model), text_example, where)
        dimension = text_tower(text_example).shape[1]
    return Encoder(transform, tokens, image_tower, text_tower, dimension, micro_batch, where)


class ModelOutOfMemory(MemoryError):
    """The model needs more memory than there is. Nothing smaller is tried: it could be other bits."""


@contextmanager
def memory(micro_batch: int, route: Route) -> Iterator[None]:
    """Raises ModelOutOfMemory where torch, on whatever device, finds no memory; every other error as it is."""
    try:
        yield
    except (RuntimeError, MemoryError, InputError) as error:   # CUDA's is a RuntimeError; packing wraps the CPU's in an InputError
        if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in NO_MEMORY)):
            raise
        detail = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ModelOutOfMemory(
            f"the model ran out of memory on {route.device} with model.micro_batch {micro_batch}: give each worker more (run "
            f"fewer workers), or lower model.micro_batch, which makes new columns ({detail})"
        ) from error


class ImageTower(nn.Module):
    """Normalised pixels to unit vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, pixels: Tensor) -> Tensor:
        vectors: Tensor = self.model.encode_image(pixels, normalize=True)
        return vectors


class TextTower(nn.Module):
    """Token ids to unit vectors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: Tensor) -> Tensor:
        vectors: Tensor = self.model.encode_text(tokens, normalize=True)
        return vectors


def _tower(plain: nn.Module, example: Tensor, route: Route) -> Tower:
    if route.form == "eager":
        return plain
    return checked_tower(packed(plain, example), plain, example)


def exact(route: Route) -> AbstractContextManager[None]:
    """On a GPU: no TF32 and no choice of kernels by timing, which would change bits from run to run."""
    if route.device == "cpu":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def filled(part: Tensor, rows: int) -> Tensor:
    """`part` with rows of zeros behind it up to `rows`, channels last in memory for images."""
    if len(part) < rows:
        part = torch.cat([part, part.new_zeros((rows - len(part), *part.shape[1:]))])
    return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part.contiguous()


def sketch(count: int, size: tuple[int, int]) -> Tensor:
    """Pictures with structure at every scale, to try a tower on: uint8 [count, 3, rows, columns]."""
    rows, columns = size
    y, x = torch.arange(rows)[:, None], torch.arange(columns)[None, :]
    planes = [((x * (i % 7 + 1)) ^ (y * (i % 5 + 1))) + 31 * i for i in range(3 * count)]
    return torch.stack(planes).reshape(count, 3, rows, columns).to(torch.uint8)
