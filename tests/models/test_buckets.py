"""Captions by their length: the vectors of full length, independent of neighbours, and only where the model allows it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from pipeline.models.buckets import (
    Bucket,
    bucket_lengths,
    can_truncate,
    example_caption,
    rows_by_bucket,
    rows_of,
    token_counts,
    truncated,
)
from pipeline.models.clip import Encoder
from pipeline.models.machine import instructions
from pipeline.models.preprocess import Preprocess
from pipeline.models.route import Route
from pipeline.models.towers import TextTower, Towers, convolutional, text_buckets
from tests.models.bundled import encoder, readable

CONTEXT, VOCABULARY = 77, 60
BUCKETED = Route("cpu", instructions("cpu"), "fp32", "bucketed")


def clip(**text: Any) -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(
        8, {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16},
        {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 3} | text,
    ).eval()


def captions(count: int, seed: int = 0) -> torch.Tensor:
    """Token ids: a start, words, the highest id as the end, zeros."""
    rng = np.random.default_rng(seed)
    found = np.zeros((count, CONTEXT), np.int64)
    for row in found:
        length = rng.integers(2, CONTEXT + 1)
        row[:length] = rng.integers(1, VOCABULARY - 2, length)
        row[0], row[length - 1] = VOCABULARY - 2, VOCABULARY - 1
    return torch.from_numpy(found)


def no_tokens(texts: Sequence[str]) -> torch.Tensor:
    raise AssertionError("these tests bring tokens")


def opened(model: Any, micro_batch: int = 4) -> Encoder:
    with torch.inference_mode():
        buckets = text_buckets(model, captions(micro_batch), micro_batch, BUCKETED)
    transform = Preprocess((16, 16), "shortest", "bicubic", 0, (0.5,) * 3, (0.5,) * 3)
    plain = TextTower(model, wide=False)
    return Encoder(Towers(
        transform, {}, no_tokens, plain, plain, 8, CONTEXT, micro_batch, BUCKETED, buckets, lambda ids: token_counts(model, ids)
    ))


@pytest.mark.parametrize("pool", [{}, {"pool_type": "eos", "eos_id": VOCABULARY - 1}])
def test_vectors_are_those_of_full_length(pool: dict[str, Any]) -> None:
    model, tokens = clip(**pool), captions(40)
    with torch.inference_mode():
        expected = TextTower(model, wide=False)(tokens).numpy()
    np.testing.assert_allclose(opened(model).encode_tokens(tokens), expected, atol=1e-6)


def test_bits_do_not_depend_on_the_other_captions_of_a_call() -> None:
    here, tokens = opened(clip()), captions(40)
    together = here.encode_tokens(tokens)
    alone = np.concatenate([here.encode_tokens(tokens[row:row + 1]) for row in range(40)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(here.encode_tokens(tokens.flip(0))[::-1], together)


def test_the_bundled_model_has_the_same_bits_whatever_it_is_given_with() -> None:
    words = [caption for _, caption in readable().values()][:40]
    together = encoder().encode_texts(words)
    np.testing.assert_array_equal(np.concatenate([encoder().encode_texts([word]) for word in words]), together)


def test_each_caption_is_in_the_shortest_bucket_that_holds_its_end() -> None:
    tower = nn.Identity()
    assert bucket_lengths(77) == [8, 16, 32, 64, 77]
    assert bucket_lengths(32) == [8, 16, 32]
    assert bucket_lengths(5) == [5]
    assert [rows_of(length, 16) for length in bucket_lengths(77)] == [32, 16, 8, 4, 3]
    assert rows_of(77, 1) == 1
    buckets = [Bucket(length, 1, tower) for length in bucket_lengths(77)]
    found = {bucket.length: rows for bucket, rows in rows_by_bucket(buckets, torch.tensor([77, 8, 9, 16, 65, 2, 64]))}
    assert found == {8: [1, 5], 16: [2, 3], 64: [6], 77: [0, 4]}


def test_an_example_of_a_length_ends_there() -> None:
    for length in bucket_lengths(CONTEXT):
        assert token_counts(clip(), example_caption(captions(1), length)).tolist() == [length]


def test_a_model_that_may_look_behind_the_end_is_not_cut() -> None:
    assert can_truncate(clip())
    assert not can_truncate(clip(no_causal_mask=True))
    assert not can_truncate(clip(pool_type="last"))
    assert not can_truncate(clip(pool_type="first"))
    other = clip()
    other.attn_mask[3, 7] = 0
    assert not can_truncate(other)
    assert not can_truncate(open_clip.CustomTextCLIP(
        8, {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16},
        {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 16, "heads": 2, "layers": 1},
    ))
    assert text_buckets(other, captions(2), 2, BUCKETED) == ()
    assert text_buckets(clip(), captions(2), 2, replace(BUCKETED, form="packed")) == ()


def test_a_model_that_is_cut_stays_as_it_is() -> None:
    model, tokens = clip(), captions(4)
    before = model.encode_text(tokens)
    truncated(model, 8)
    assert torch.equal(model.encode_text(tokens), before)
    assert model.attn_mask.shape == (CONTEXT, CONTEXT)
    assert truncated(model, 8).token_embedding is model.token_embedding


def test_only_convolutional_towers_are_packed_where_products_gain_nothing() -> None:
    assert not convolutional(clip())
    assert convolutional(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 4)))
