"""Columns that rules may read and no stage stores: lengths of the raw caption, and counts over the whole run."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Strings: TypeAlias = "pa.Array | pa.ChunkedArray"


def raw_caption_words(caption: Strings) -> pa.Array:
    """int32 [n]: the number of words that Python's `len(text.split())` counts; null for null."""
    trimmed = pc.utf8_trim_whitespace(caption)
    words = pc.list_value_length(pc.utf8_split_whitespace(trimmed))
    return _as_int32(pc.if_else(pc.equal(trimmed, ""), 0, words))


def raw_caption_characters(caption: Strings) -> pa.Array:
    """int32 [n]: the number of code points, white space included; null for null."""
    return _as_int32(pc.utf8_length(caption))


def _as_int32(counts: Strings) -> pa.Array:
    array = counts.combine_chunks() if isinstance(counts, pa.ChunkedArray) else counts
    return array.cast(pa.int32())


def repeated(uid: Strings) -> pa.Array:
    """bool [n]: whether an earlier row has the same uid. Rows are the whole run's, in row-id order."""
    codes = _codes(uid)
    _, first = np.unique(codes, return_index=True)
    is_repeat = np.ones(len(codes), bool)
    is_repeat[first] = False
    return pa.array(is_repeat)


def alt_text_counts(caption_text: Strings, sha256: Strings) -> tuple[pa.Array, pa.Array]:
    """(caption_images, image_captions) int32 [n] over the whole run: distinct images of the row's caption, distinct
    captions of the row's image; null where either is null. ALIGN (Jia et al. 2021, section 3) bounds both."""
    caption, image = _codes(caption_text), _codes(sha256)
    complete = (caption >= 0) & (image >= 0)
    width = int(image.max(initial=0)) + 1
    pairs = np.unique(caption[complete] * width + image[complete])
    images = np.bincount(pairs // width, minlength=int(caption.max(initial=0)) + 1)
    captions = np.bincount(pairs % width, minlength=width)
    return tuple(pa.array(count[np.maximum(codes, 0)].astype(np.int32), mask=~complete)
                 for count, codes in ((images, caption), (captions, image)))


def _codes(values: Strings) -> NDArray[np.int64]:
    """A number for each distinct value, from 0; -1 for null."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = array.dictionary_encode()
    return np.asarray(encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
