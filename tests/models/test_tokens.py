"""Bounded tokenisation: the same tokens as open_clip's, at a bounded price."""

import time
from typing import Any

import numpy as np
import open_clip
import pytest
from open_clip.tokenizer import get_clean_fn

from pipeline.models import tokens
from pipeline.models.tokens import tokenizer
from tests.models.bundled import sample

MODEL = "ViT-B-32"


@pytest.fixture(scope="module")
def plain() -> Any:
    return open_clip.get_tokenizer(MODEL)


def test_tokens_are_open_clips_for_every_caption_of_the_sample(plain: Any) -> None:
    captions = [caption for _, caption in sample().values()]
    assert bool((tokenizer(MODEL)(captions) == plain(captions)).all())


def test_long_and_strange_captions_are_cut_where_no_token_can_change(plain: Any) -> None:
    rng = np.random.default_rng(3)
    letters = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 7000))
    captions = [
        "a picture of a cat " * 2000, "word " * 20_000, letters, "a" * 7000, "\U0001F602" * 5000, "é" * 6000,
        " ".join(chr(c) for c in rng.integers(0x4E00, 0x9FFF, 3000)), "!?" * 4000, "&amp;amp;lt;b&gt; " * 3000, "", " ",
        " " * 300 + "a cat", "x " * 9 + letters[:400] + " end",
    ]
    assert bool((tokenizer(MODEL)(captions) == plain(captions)).all())


def test_a_caption_of_two_megabytes_costs_little() -> None:
    rng = np.random.default_rng(4)
    ours = tokenizer(MODEL)
    for caption in ("".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 2_000_000)), " \n" * 1_000_000 + "a cat"):
        started = time.process_time()
        assert ours([caption]).shape == (1, 77)
        assert time.process_time() - started < 5
    assert ours([" \n" * 1_000_000 + "a cat"]).tolist() == ours(["a cat"]).tolist()


def test_the_words_that_the_tokenizer_remembers_are_bounded(monkeypatch: pytest.MonkeyPatch, plain: Any) -> None:
    monkeypatch.setattr(tokens, "MAX_CACHED_WORDS", 10)
    own = open_clip.get_tokenizer(MODEL)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: own)
    captions = [f"someword{'abcdefghij'[i]}x of{'klmnopqrst'[i]}" for i in range(10)]
    ours = tokenizer(MODEL)
    assert bool((ours(captions) == plain(captions)).all())
    assert len(own.cache) <= 10
    assert bool((ours(captions) == plain(captions)).all())


def test_plain_captions_are_cleaned_as_open_clip_does_it(plain: Any) -> None:
    rng = np.random.default_rng(5)
    ascii = [chr(code) for code in range(32, 127)]
    parts = [
        "<b>", "lt;", "#39;", "  ", "\\x1b[", "%20", "``", "''", '"', "http://", "A", "don't", "\\u00e9", "_", "&amp;", "é", "\t",
        "\x1b[1m",
    ]
    captions = ["".join(rng.choice(source, rng.integers(0, 30))) for source in (ascii, parts) for _ in range(500)]
    assert bool((tokenizer(MODEL)(captions) == plain(captions)).all())
    for kind in ("lower", "whitespace", "canonicalize"):
        own = open_clip.get_tokenizer(MODEL)
        own.clean_fn = clean = get_clean_fn(kind)
        tokens.skip_cleaning(own)
        assert [own.clean_fn(caption) for caption in captions] == [clean(caption) for caption in captions]
