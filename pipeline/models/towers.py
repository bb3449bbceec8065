"""The two towers of an open_clip model for one numeric route: inputs of one fixed shape to unit vectors.

Every call has exactly `micro_batch` rows, padded where there are fewer: the kernels then do the same arithmetic for a row
whatever its neighbours are and however many samples came in, so embeddings do not depend on how samples were batched.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.models.buckets import Bucket, bucket_lengths, can_truncate, example_caption, rows_of, token_counts, truncated
from pipeline.models.machine import require
from pipeline.models.packing import MAX_DIFFERENCE, Tower, checked_tower, packed
from pipeline.models.preprocess import Preprocess
from pipeline.models.route import Route
from pipeline.models.spec import ModelSpec
from pipeline.models.tokens import Tokenizer, tokenizer
from pipeline.models.weights import load_model

NO_MEMORY = ("DefaultCPUAllocator", "could not create a memory", "std::bad_alloc")
"""What torch's and oneDNN's errors say when memory for a tensor or for scratch is not to be had on the CPU."""
EXAMPLES = ("a photo of a dog", "a red flag")


@dataclass(frozen=True)
class Towers:
    """A loaded model: uint8 pixels [micro_batch, 3, S, S] or token ids [micro_batch, context], on the route's device, to unit
    vectors float32 [micro_batch, dimension] there."""

    transform: Preprocess
    config: Mapping[str, Any]
    """What `transform` is made from."""
    tokenizer: Tokenizer
    image: Tower
    text: Tower
    dimension: int
    context: int
    """Tokens of a caption."""
    micro_batch: int
    route: Route
    buckets: tuple[Bucket, ...] = ()
    """Text towers by the length of captions, ascending, where the route has them and the model allows it."""
    token_counts: Callable[[Tensor], Tensor] | None = None
    """Tokens that each caption needs, to choose a bucket by."""

    def images(self, pixels: Tensor) -> Tensor:
        """Unit vectors float32 [micro_batch, dimension] of pixels uint8 [micro_batch, 3, S, S], on the route's device."""
        with arithmetic(self.route):
            return self.image(self.transform.normalised(pixels, input_type(self.route)))

    def texts(self, tokens: Tensor) -> Tensor:
        """Unit vectors float32 [micro_batch, dimension] of token ids i64[micro_batch, context], on the route's device."""
        with arithmetic(self.route):
            return self.text(tokens)


def open_towers(spec: ModelSpec, route: Route, micro_batch: int) -> Towers:
    """Loads the model and makes its two towers. Raises InputError if this machine cannot provide the route, or the model cannot be
    had or packed, ModelOutOfMemory where there is no memory for it."""
    require(route)
    with memory_guard(micro_batch, route):
        model, config = load_model(spec, loaded_precision(route), route.device)
    transform, tokens = Preprocess.of(config), tokenizer(spec.resolved)
    with torch.inference_mode(), memory_guard(micro_batch, route), arithmetic(route):
        pixels, captions = example_pictures(micro_batch, transform.size), padded(tokens(EXAMPLES), micro_batch)
        image_example = transform.normalised(pixels.to(route.device), input_type(route))
        text_example = captions.to(route.device)
        half = route.device == "cuda" and route.dtype is not torch.float32
        image = _tower(ImageTower(model, wide=half).to(memory_format=torch.channels_last), image_example, route)
        text = _tower(TextTower(model, wide=half), text_example, route)
        dimension = text(text_example).shape[1]
        buckets = text_buckets(model, captions, micro_batch, route)
    return Towers(
        transform, config, tokens, image, text, dimension, captions.shape[1], micro_batch, route, buckets,
        partial(token_counts, model),
    )


def loaded_precision(route: Route) -> str:
    """open_clip's name for the weights' type. A GPU keeps float32 weights and rounds factors as it multiplies (autocast)."""
    if route.device == "cuda":
        return "fp32"
    return {"bf16": "pure_bf16", "fp16": "pure_fp16"}.get(route.precision, "fp32")


def input_type(route: Route) -> torch.dtype:
    """The type of the image tower's input."""
    return torch.float32 if route.device == "cuda" else route.dtype


class ImageTower(nn.Module):
    """Normalised pixels to unit vectors.

    `wide`: with autocast, the residual sum of a transformer is kept in float32. Its first value is made wider, and what is added to
    float32 stays float32: rounded once per block, it would make most of the error.
    """

    def __init__(self, model: Any, *, wide: bool) -> None:
        super().__init__()
        self.model, self.wide = model, wide
        first = getattr(model.visual, "ln_pre", None)
        if wide and isinstance(first, nn.Module):
            first.register_forward_hook(widened)

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit vectors [n, dimension] of normalised pixels [n, 3, S, S]."""
        return l2_normalised(self.model.encode_image(pixels, normalize=False), wide=self.wide)


class TextTower(nn.Module):
    """Token ids to unit vectors; the residual sum is as wide as the weights of the embedding, float32 on a GPU."""

    def __init__(self, model: Any, *, wide: bool) -> None:
        super().__init__()
        self.model, self.wide = model, wide

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit vectors [n, dimension] of token ids i64[n, context]."""
        return l2_normalised(self.model.encode_text(tokens, normalize=False), wide=self.wide)


def widened(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook that makes a module's output float32."""
    return output.float()


def l2_normalised(vectors: Tensor, *, wide: bool) -> Tensor:
    """Vectors [n, dimension] divided by their length, as open_clip does it; in float32 where `wide`."""
    return nn.functional.normalize(vectors.float() if wide else vectors, dim=-1)


def _tower(plain: nn.Module, example: Tensor, route: Route) -> Tower:
    if route.form == "eager" or (route.form == "bucketed" and not convolutional(plain)):
        return plain
    if route.form == "compiled":
        return checked_tower(compiled(plain, example), plain, example, MAX_DIFFERENCE[route.dtype])
    return checked_tower(packed(plain, example), plain, example, MAX_DIFFERENCE[route.dtype])


def convolutional(tower: nn.Module) -> bool:
    """Whether packing gains by its convolutions. Under AVX2 packed products alone are slower than torch's own."""
    kinds = [type(module) for module in tower.modules()]
    return sum(issubclass(kind, nn.Conv2d) for kind in kinds) > sum(issubclass(kind, nn.Linear) for kind in kinds)


def text_buckets(model: Any, captions: Tensor, micro_batch: int, route: Route) -> tuple[Bucket, ...]:
    """Text towers for token ids [rows, length], one per bucket length, ascending; none where the route or the model has no such
    towers. `captions`: token ids [micro_batch, context], whose first row is the example. Raises InputError where a tower disagrees
    with the one of full length."""
    if route.form != "bucketed" or not can_truncate(model):
        return ()
    buckets, context = [], captions.shape[1]
    for length in bucket_lengths(context):
        rows, tower = rows_of(length, micro_batch), TextTower(truncated(model, length), wide=False)
        example = example_caption(captions, length)
        expected = TextTower(model, wide=False)(padded(example, micro_batch))[:1]
        checked_tower(tower, lambda _: expected, padded(example[:, :length], rows), MAX_DIFFERENCE[route.dtype], rows=1)   # noqa: B023
        buckets.append(Bucket(length, rows, tower))
    return tuple(buckets)


def compiled(plain: nn.Module, example: Tensor) -> Tower:
    """What torch.compile makes of a tower for inputs of the example's shape: norms, casts and sums between two products become one
    kernel. Raises InputError where it cannot."""
    tower: Tower = torch.compile(plain, dynamic=False)
    try:
        tower(example)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:   # of dynamo, inductor or Triton
        message = str(error).partition("\n")[0]
        raise InputError(f"torch.compile cannot follow this model ({message}): set model.compile to false") from error
    return tower


@contextmanager
def arithmetic(route: Route) -> Iterator[None]:
    """Sets a GPU's arithmetic for the block: TF32 only where the route says so, factors rounded as it says, and no choice of
    kernels by timing, which would change bits from run to run. A CPU's is the default."""
    if route.device == "cpu":
        yield
        return
    tf32 = route.precision == "tf32"
    with ExitStack() as stack:
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32))
        torch.backends.cuda.matmul.allow_tf32 = tf32
        if route.dtype is not torch.float32:
            stack.enter_context(torch.autocast("cuda", route.dtype))
        yield


class ModelOutOfMemory(MemoryError):
    """The model needs more memory than there is. Nothing smaller is tried: it could be other bits."""


@contextmanager
def memory_guard(micro_batch: int, route: Route) -> Iterator[None]:
    """Turns torch's errors of a full memory, of whatever device, into ModelOutOfMemory; every other error passes as it is."""
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


def padded(part: Tensor, rows: int) -> Tensor:
    """`part`, [n, ...], with rows of zeros behind it up to [rows, ...]; channels last in memory for images [rows, 3, S, S]."""
    if len(part) < rows:
        part = torch.cat([part, part.new_zeros((rows - len(part), *part.shape[1:]))])
    return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part.contiguous()


def example_pictures(count: int, size: tuple[int, int]) -> Tensor:
    """Pictures with structure at every scale, to try a tower on: uint8 [count, 3, rows, columns]."""
    rows, columns = size
    y, x = torch.arange(rows)[:, None], torch.arange(columns)[None, :]
    planes = [((x * (i % 7 + 1)) ^ (y * (i % 5 + 1))) + 31 * i for i in range(3 * count)]
    return torch.stack(planes).reshape(count, 3, rows, columns).to(torch.uint8)


def rows_are_independent(call: Callable[[Tensor], Tensor], inputs: Tensor) -> bool:
    """Whether the bits of a row are the same at another place of the batch and beside other rows. `inputs`: [n, ...], at least two
    rows."""
    with torch.inference_mode():
        expected = call(inputs)
        turned = call(inputs.roll(1, 0)).roll(-1, 0)
        other = inputs.flip(0)
        other[0] = inputs[0]
        beside = call(other)[0]
    return bool(torch.equal(expected, turned) and torch.equal(expected[0], beside))
