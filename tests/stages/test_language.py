
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pipeline.stage import checked
from pipeline.stages.language import LanguageStage
from tests.samples import batch, labelled

Detect = Callable[[Sequence[str | None]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def detect() -> Iterator[Detect]:
    stage = LanguageStage()
    with stage.open() as transform:
        def columns(texts: Sequence[str | None]) -> list[dict[str, Any]]:
            rows = batch(caption_text=texts)
            return checked(stage, rows, transform(rows)).to_pylist()
        yield columns


def test_names_the_language_of_plain_sentences_in_any_case(detect: Detect) -> None:
    texts = [
        "a red fox sleeps in the snow under a tree", "A RED FOX SLEEPS IN THE SNOW UNDER A TREE",
        "ein roter Fuchs schläft im Schnee", "un renard roux dort dans la neige",
        "красная лиса спит на снегу", "赤い狐が雪の中で眠る",
    ]
    rows = detect(texts)
    assert [row["language"] for row in rows] == ["en", "en", "de", "fr", "ru", "ja"]
    assert all(0.6 <= row["language_confidence"] <= 1 for row in rows)


def test_no_text_has_no_language_and_no_error(detect: Detect) -> None:
    for row in detect([None, ""]):
        assert (row["language"], row["language_confidence"], row["language_error"]) == (None, None, None)


def test_long_and_broken_lines_are_read_as_one_text(detect: Detect) -> None:
    one, broken = detect(["the cat sits on the mat", "the cat\nsits on\u2028the mat"])
    assert one["language"] == broken["language"] == "en"
    assert one["language_confidence"] == broken["language_confidence"]
    assert detect(["word " * 100_000])[0]["language"] == "en"


def test_confident_english_is_common_in_the_sample_but_no_rule_of_its_own(detect: Detect) -> None:
    rows = detect(labelled("clean"))
    english = sum(row["language"] == "en" for row in rows) / len(rows)
    assert 0.75 <= english <= 0.95   # the rest is mostly English of two words: ask known_words as well
