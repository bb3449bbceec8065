"""The columns that rules may read: every scalar that a stage writes, and what is known of a sample over the whole run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import pyarrow as pa

from schemas import columns as schemas

CLASS_COLUMNS = frozenset({*schemas.LABELS.names[1:], "class_id"})


@dataclass(frozen=True)
class Column:
    """A column that a rule may read, and who writes it (a stage, the reduction `duplicates`, or `derived.py`)."""

    name: str
    type: pa.DataType
    doc: str
    origin: str

    @property
    def kind(self) -> Literal["number", "truth", "text"]:
        if pa.types.is_boolean(self.type):
            return "truth"
        return "text" if pa.types.is_string(self.type) else "number"


STAGES = {
    "samples": schemas.SAMPLES, "image": schemas.IMAGE, "caption": schemas.CAPTION, "language": schemas.LANGUAGE,
    "hashes": schemas.HASHES, "clip": schemas.clip_schema(1), "mentions": schemas.MENTIONS, "entities": schemas.ENTITIES,
}
OVER_THE_RUN = {
    "duplicates": [
        schemas.field("exact_duplicate", pa.bool_(), "another sample of the run has the same image bytes and is preferred"),
        schemas.field("near_duplicate", pa.bool_(), "another sample of the run has nearly the same picture and is preferred"),
    ],
    "derived": [
        schemas.field("raw_caption_words", pa.int32(), "words of the raw caption, separated by white space"),
        schemas.field("raw_caption_characters", pa.int32(), "characters of the raw caption, white space included"),
        schemas.field("pair_duplicate", pa.bool_(), "an earlier sample of the run has the same image bytes and caption"),
        schemas.field("caption_images", pa.int32(), "distinct images (bytes) of the run that have this caption_text"),
        schemas.field("image_captions", pa.int32(), "distinct caption_texts of the run that this image (bytes) has"),
    ],
}


def _readable(field: pa.Field) -> bool:
    scalar = pa.types.is_primitive(field.type) or pa.types.is_string(field.type)
    return scalar and not field.name.endswith("_error") and field.name != "phash"


def _columns() -> dict[str, Column]:
    found: dict[str, Column] = {}
    for origin, fields in {**STAGES, **OVER_THE_RUN}.items():
        for field in filter(_readable, fields):
            doc = field.metadata[b"doc"].decode()
            found.setdefault(field.name, Column(field.name, field.type, doc, origin))
    return found


COLUMNS: Mapping[str, Column] = _columns()


def nearest(name: str, valid: Iterable[str]) -> str:
    """A half sentence that suggests the nearest valid name; empty when none is near."""
    close = get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def column_named(name: str) -> Column:
    """Raises ValueError with the nearest valid column."""
    if name in COLUMNS:
        return COLUMNS[name]
    if name in CLASS_COLUMNS:
        raise ValueError(f"a rule cannot read {name}: classes are made from what the rules keep")
    raise ValueError(f"no stage writes a column {name}" + (nearest(name, COLUMNS) or f": choose one of {', '.join(COLUMNS)}"))
