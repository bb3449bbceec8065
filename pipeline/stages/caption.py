"""The caption stage: the normal form of the caption, its size, and whether it is only a file name or a stock phrase."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.captions.boilerplate import is_boilerplate
from pipeline.captions.filenames import is_filename
from pipeline.captions.normal import letters_share, normalised, repetition
from pipeline.stage import Contract, Stage, Transform
from schemas.columns import CAPTION


@dataclass(frozen=True)
class CaptionStage(Stage):
    """Normalises and measures captions; a sample without a caption gets nulls."""

    contract = Contract("caption", version=1, reads=("caption",), writes=CAPTION)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield caption_columns


def caption_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas CAPTION for a batch with `uid` and `caption`."""
    rows = [
        {"uid": uid} if caption is None else {"uid": uid, **caption_measures(caption)}
        for uid, caption in zip(batch["uid"].to_pylist(), batch["caption"].to_pylist(), strict=True)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=CAPTION)


def caption_measures(caption: str) -> dict[str, Any]:
    """The columns of one caption, by name."""
    text = normalised(caption)
    words = text.split()
    return {
        "caption_text": text,
        "caption_words": len(words),
        "caption_characters": len(text),
        "caption_letters": letters_share(text),
        "caption_repetition": repetition(words),
        "caption_is_filename": is_filename(text),
        "caption_is_boilerplate": is_boilerplate(text),
    }
