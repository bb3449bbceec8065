"""Columns that rules may read and no stage stores: lengths of the raw caption, and counts over the whole run. A new one is a
function and its entry in DERIVED; rules, documents and the report follow."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.columns import field

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
    encoded = values.dictionary_encode()   # of chunks, each with the dictionary of all
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.chunked_array([chunk.indices for chunk in encoded.chunks], pa.int32()).combine_chunks()
    else:
        encoded = encoded.indices
    return np.asarray(encoded.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


@dataclass(frozen=True)
class Derived:
    """Columns that are computed together from what stages have stored."""

    fields: tuple[pa.Field, ...]
    reads: tuple[tuple[str, str], ...]
    """(stage or `samples`, column) of each argument of `values`"""
    values: Callable[..., tuple[pa.Array, ...]]
    """one array [n] for each field"""
    over_run: bool = False
    """its arguments are of the whole run, in row-id order, not of one shard; the values are stored as a table of the run"""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(field.name for field in self.fields)


DERIVED = (
    Derived(
        (field("raw_caption_words", pa.int32(), "words of the raw caption, separated by white space"),),
        (("samples", "caption"),), lambda caption: (raw_caption_words(caption),)),
    Derived(
        (field("raw_caption_characters", pa.int32(), "characters of the raw caption, white space included"),),
        (("samples", "caption"),), lambda caption: (raw_caption_characters(caption),)),
    Derived(
        (field("pair_duplicate", pa.bool_(), "an earlier sample of the run has the same image bytes and caption"),),
        (("samples", "uid"),), lambda uid: (repeated(uid),), over_run=True),
    Derived(
        (field("caption_images", pa.int32(), "distinct images (bytes) of the run that have this caption_text"),
         field("image_captions", pa.int32(), "distinct caption_texts of the run that this image (bytes) has")),
        (("caption", "caption_text"), ("hashes", "sha256")), alt_text_counts, over_run=True),
)


def derived_columns(names: Collection[str], over_run: bool) -> tuple[Derived, ...]:
    """The derived columns of which `names` has some, over the run or within a shard."""
    return tuple(derived for derived in DERIVED if derived.over_run == over_run and set(derived.names) & set(names))
