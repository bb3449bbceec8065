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


def bucket_lengths(context: int) -> list[int]:
    """The lengths in tokens, ascending, that have a text tower of their own: SHORTEST, its doubles below the context, and the
    context."""
    doubles = [SHORTEST]
    while doubles[-1] < context:
        doubles.append(2 * doubles[-1])
    return [*doubles[:-1], context]


def rows_of(length: int, micro_batch: int) -> int:
    """Rows per call of a tower for captions of this length: about as many tokens as `micro_batch` captions of USUAL tokens have."""
    return max(1, micro_batch * USUAL // length)


def can_truncate(model: Any) -> bool:
    """Whether a token behind the end of a caption cannot change its vector: open_clip's own text tower, causal, pooled there."""
    if type(model) is not CLIP or model.text_pool_type not in ("argmax", "eos") or model.attn_mask is None:
        return False
    context = len(model.positional_embedding)
    causal = torch.full((context, context), float("-inf")).triu_(1)
    return torch.equal(model.attn_mask.float().cpu(), causal)


def truncated(model: Any, length: int) -> Any:
    """A copy of the model that shares its weights and takes token ids i64[n, length]."""
    shortened = copy.copy(model)
    shortened._parameters, shortened._buffers = dict(model._parameters), dict(model._buffers)
    shortened.positional_embedding = nn.Parameter(model.positional_embedding[:length].detach(), requires_grad=False)
    shortened.attn_mask = model.attn_mask[:length, :length].contiguous()
    return shortened


def token_counts(model: Any, tokens: Tensor) -> Tensor:
    """i64[n]: how many tokens of each caption decide its vector, up to and with its end-of-text token. `tokens`: ids i64[n,
    context]."""
    scores = tokens if model.text_pool_type == "argmax" else (tokens == model.text_eos_id).int()
    return scores.argmax(dim=-1) + 1


def rows_by_bucket(buckets: Sequence[Bucket], needed: Tensor) -> Iterator[tuple[Bucket, list[int]]]:
    """Yields each bucket that has rows, with their positions, ascending. `needed`: i64[n], the token count of each row; `buckets`
    ascend by length."""
    numbers = torch.bucketize(needed, torch.tensor([bucket.length for bucket in buckets]))
    for number, bucket in enumerate(buckets):
        rows = torch.nonzero(numbers == number).flatten().tolist()
        if rows:
            yield bucket, rows


def example_caption(tokens: Tensor, length: int) -> Tensor:
    """Token ids [1, context] of a caption that ends at this length: the first of `tokens`, ids [n, context], with its first word
    repeated."""
    start, word, end = tokens[:1, :1], tokens[:1, 1:2], tokens[:1].max().reshape(1, 1)
    rest = tokens.new_zeros((1, tokens.shape[1] - length))
    return torch.cat([start, word.expand(1, length - 2), end, rest], dim=1)
