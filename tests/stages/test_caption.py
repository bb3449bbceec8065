
from collections.abc import Sequence
from typing import Any

from pipeline.stage import checked
from pipeline.stages.caption import CaptionStage
from tests.samples import batch, labelled


def columns(captions: Sequence[str | None]) -> list[dict[str, Any]]:
    rows = batch(caption=captions)
    with CaptionStage().open() as transform:
        return checked(CaptionStage(), rows, transform(rows)).to_pylist()


def test_measures_the_normal_form() -> None:
    row = columns(["  Red\n red fox 1 "])[0]
    assert row["caption_text"] == "Red red fox 1"
    assert (row["caption_words"], row["caption_characters"]) == (4, 13)
    assert row["caption_letters"] == 0.8999999761581421
    assert row["caption_repetition"] == 0.25
    assert row["caption_is_filename"] is False
    assert row["caption_is_boilerplate"] is False
    assert row["caption_error"] is None


def test_no_caption_gives_nulls_and_an_empty_one_gives_numbers() -> None:
    missing, empty = columns([None, ""])
    assert all(value is None for name, value in missing.items() if name != "uid")
    assert (empty["caption_text"], empty["caption_words"], empty["caption_letters"]) == ("", 0, 0.0)


def rejected(row: dict[str, Any]) -> bool:
    """The caption rules of the recipe `sample`."""
    return row["caption_is_filename"] or row["caption_is_boilerplate"] or row["caption_characters"] < 3


def test_rules_catch_spam_captions_and_spare_clean_ones() -> None:
    spam, clean, swapped = (columns(labelled(label)) for label in ("spam_caption", "clean", "swapped"))
    assert sum(map(rejected, spam)) >= 16   # of 17
    assert sum(map(rejected, clean)) <= 6   # of 673
    assert sum(map(rejected, swapped)) <= 1  # of 99: ordinary captions, only of other pictures
