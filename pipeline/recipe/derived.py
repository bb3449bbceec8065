"""Columns that rules may read and no stage stores: lengths of the raw caption, and counts over the whole run. A new one is a
function and its entry in DERIVED; rules, documents and the report follow."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

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


Origin = tuple[str, str]
"""(stage or `samples`, column)"""


@dataclass(frozen=True)
class ByKey:
    """A column whose value follows from all rows of the run that have the same key."""

    key: Origin
    other: Origin | None = None
    """the value, int32, is how many distinct others the key has, null where the row lacks either; None: it says, bool, whether an
    earlier row has the key"""


@dataclass(frozen=True)
class Derived:
    """Columns that are computed together from what stages have stored."""

    fields: tuple[pa.Field, ...]
    reads: tuple[Origin, ...] = ()
    """where each argument of `values` is"""
    values: Callable[..., tuple[pa.Array, ...]] = tuple
    """one array [n] for each field, from a shard's columns"""
    by_key: tuple[ByKey, ...] = ()
    """for each field, where they need the whole run; they are then stored beside the stages' columns"""

    @property
    def over_run(self) -> bool:
        """Whether its columns need the whole run."""
        return bool(self.by_key)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(field.name for field in self.fields)


CAPTION_TEXT, SHA256 = ("caption", "caption_text"), ("hashes", "sha256")
DERIVED = (
    Derived(
        (field("raw_caption_words", pa.int32(), "words of the raw caption, separated by white space"),),
        (("samples", "caption"),), lambda caption: (raw_caption_words(caption),)),
    Derived(
        (field("raw_caption_characters", pa.int32(), "characters of the raw caption, white space included"),),
        (("samples", "caption"),), lambda caption: (raw_caption_characters(caption),)),
    Derived(
        (field("pair_duplicate", pa.bool_(), "an earlier sample of the run has the same image bytes and caption"),),
        by_key=(ByKey(("samples", "uid")),)),
    Derived(   # ALIGN (Jia et al. 2021, section 3) bounds both
        (field("caption_images", pa.int32(), "distinct images (bytes) of the run that have this caption_text"),
         field("image_captions", pa.int32(), "distinct caption_texts of the run that this image (bytes) has")),
        by_key=(ByKey(CAPTION_TEXT, SHA256), ByKey(SHA256, CAPTION_TEXT))),
)


def derived_columns(names: Collection[str], over_run: bool) -> tuple[Derived, ...]:
    """The derived columns of which `names` has some, over the run or within a shard."""
    return tuple(derived for derived in DERIVED if derived.over_run == over_run and set(derived.names) & set(names))
