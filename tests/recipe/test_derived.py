import numpy as np
import pyarrow as pa

from pipeline.recipe.derived import alt_text_counts, raw_caption_characters, raw_caption_words, repeated


def test_raw_lengths_are_python_s_on_every_kind_of_white_space() -> None:
    rng = np.random.default_rng(0)
    white = [" ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u2003", "\u3000"]
    alphabet = [*"abé漢😀", "e\u0301", *white, "\u200b", "\ufeff"]
    texts = ["", " ", "\u3000 ", *("".join(rng.choice(alphabet, rng.integers(0, 12))) for _ in range(3000))]
    column = pa.chunked_array([pa.array(texts[:1000]), pa.array(texts[1000:])])
    assert raw_caption_words(column).to_pylist() == [len(text.split()) for text in texts]
    assert raw_caption_characters(column).to_pylist() == [len(text) for text in texts]


def test_a_missing_caption_has_no_length() -> None:
    assert raw_caption_words(pa.array([None, "a"], pa.string())).to_pylist() == [None, 1]
    assert raw_caption_characters(pa.array([None, "a"], pa.string())).to_pylist() == [None, 1]


def test_the_first_of_equal_pairs_is_not_a_repetition() -> None:
    assert repeated(pa.array(["b", "a", "b", "c", "a", "b"])).to_pylist() == [False, False, True, False, True, True]
    assert repeated(pa.array([], pa.string())).to_pylist() == []


def test_alt_text_counts_are_distinct_and_equal_a_plain_count() -> None:
    rng = np.random.default_rng(1)
    captions = [None if i == 0 else f"caption {i}" for i in rng.integers(0, 40, 2000)]
    images = [None if i == 0 else f"image {i}" for i in rng.integers(0, 60, 2000)]
    of_caption: dict[str, set[str]] = {}
    of_image: dict[str, set[str]] = {}
    for caption, image in zip(captions, images, strict=True):
        if caption and image:
            of_caption.setdefault(caption, set()).add(image)
            of_image.setdefault(image, set()).add(caption)
    caption_images, image_captions = alt_text_counts(pa.array(captions), pa.array(images))
    pairs = list(zip(captions, images, strict=True))
    assert caption_images.to_pylist() == [len(of_caption[c]) if c and i else None for c, i in pairs]
    assert image_captions.to_pylist() == [len(of_image[i]) if c and i else None for c, i in pairs]
    assert max(filter(None, caption_images.to_pylist())) > 10


def test_alt_text_counts_of_nothing_readable_are_null() -> None:
    nothing = pa.array([None, None], pa.string())
    assert [counts.to_pylist() for counts in alt_text_counts(nothing, nothing)] == [[None, None], [None, None]]
