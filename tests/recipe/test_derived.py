import numpy as np
import pyarrow as pa

from pipeline.recipe.derived import raw_caption_characters, raw_caption_words


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
