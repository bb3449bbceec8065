"""Captions by their length: a text tower that looks at no token behind a caption's end, for what such a caption costs.

Under a causal mask no token sees a later one, and the vector is taken at the end-of-text token: what stands behind it changes
nothing. A caption is therefore cut to the shortest of a few lengths that holds its end. Its length is its own, whatever else is in
the call, and each length has calls of one fixed shape, so embeddings depend as little on how samples were batched as those of full
length do. Captions of the open web have some eleven tokens of 77.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from open_clip import CLIP
from torch import Tensor, nn

from pipeline.models.packing import Tower

SHORTEST = 8
USUAL = 16
"""Tokens at which a call has `micro_batch` captions; other lengths have as many tokens in a call, so that few are padding."""


@dataclass(frozen=True)
class Bucket:
    """Token ids [rows, length] to unit vectors."""

    length: int
    rows: int
    tower: Tower


def lengths(context: int) -> list[int]:
    """SHORTEST and its doubles below the context, and the context."""
    doubles = [SHORTEST]
    while doubles[-1] < context:
        doubles.append(2 * doubles[-1])
    return [*doubles[:-1], context]


def rows_of(length: int, micro_batch: int) -> int:
    return max(1, micro_batch * USUAL // length)


def cuttable(model: Any) -> bool:
    """Whether a token behind the end of a caption cannot change its vector: open_clip's own text tower, causal, pooled there."""
    if type(model) is not CLIP or model.text_pool_type not in ("argmax", "eos") or model.attn_mask is None:
        return False
    context = len(model.positional_embedding)
    causal = torch.full((context, context), float("-inf")).triu_(1)
    return torch.equal(model.attn_mask.float().cpu(), causal)


def cut(model: Any, length: int) -> Any:
    """The model, by the same weights, for captions of this length."""
    shortened = copy.copy(model)
    shortened._parameters, shortened._buffers = dict(model._parameters), dict(model._buffers)
    shortened.positional_embedding = nn.Parameter(model.positional_embedding[:length].detach(), requires_grad=False)
    shortened.attn_mask = model.attn_mask[:length, :length].contiguous()
    return shortened


def ends(model: Any, tokens: Tensor) -> Tensor:
    """Tokens up to the one that each caption's vector is taken at."""
    scores = tokens if model.text_pool_type == "argmax" else (tokens == model.text_eos_id).int()
    return scores.argmax(dim=-1) + 1


def sorted_into(buckets: Sequence[Bucket], needed: Tensor) -> Iterator[tuple[Bucket, list[int]]]:
    """The rows of each bucket, in order, where it has any."""
    numbers = torch.bucketize(needed, torch.tensor([bucket.length for bucket in buckets]))
    for number, bucket in enumerate(buckets):
        rows = torch.nonzero(numbers == number).flatten().tolist()
        if rows:
            yield bucket, rows


def full(tokens: Tensor, length: int) -> Tensor:
    """The first caption, its first word repeated until it ends at this length: ids [1, context]."""
    start, word, end = tokens[:1, :1], tokens[:1, 1:2], tokens[:1].max().reshape(1, 1)
    rest = tokens.new_zeros((1, tokens.shape[1] - length))
    return torch.cat([start, word.expand(1, length - 2), end, rest], dim=1)
