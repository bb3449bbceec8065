from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.recipe.rule_columns import COLUMNS, column_named
from pipeline.recipe.rules import Bound, Rule, Threshold, columns_read
from pipeline.recipe.wording import bound_in_words
from schemas import columns as schemas


def refused(**rule: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Rule.model_validate(rule)
    return str(caught.value)


@pytest.mark.parametrize(("rule", "says"), [
    ({"column": "clip_similarty", "min": 0}, "no stage writes a column clip_similarty; did you mean clip_similarity?"),
    ({"column": "zzz", "min": 0}, "no stage writes a column zzz: choose one of uid, "),
    ({"column": "labels", "min": 0}, "classes are made from what the rules keep"),
    ({"column": "class_id", "any_of": [3]}, "classes are made from what the rules keep"),
    ({"column": "image_error", "equals": "x"}, "no stage writes a column image_error"),
    ({"column": "image_embedding", "min": 0}, "no stage writes a column image_embedding"),
    ({"column": "language", "min": 0.5}, "language is text: use equals, any_of or none_of"),
    ({"column": "language", "equals": 3}, "equals of language must be text, not 3"),
    ({"column": "width", "any_of": [3, "x"]}, "any_of of width must be a whole number, not 'x'"),
    ({"column": "width", "equals": True}, "equals of width must be a whole number, not True"),
    ({"column": "exact_duplicate", "max": 0}, "exact_duplicate is true or false: use equals"),
    ({"column": "exact_duplicate", "equals": "no"}, "use equals: true or equals: false"),
    ({"column": "clip_similarity", "equals": 1}, "clip_similarity, which is a decimal number: use min, max, above or below"),
    ({"column": "width", "null_quantile": 0.5}, "null_quantile fits clip_similarity alone"),
    ({"column": "width"}, "has no bound: give one of min, above, fraction"),
    ({"column": "width", "min": 3, "above": 2}, "has both min and above"),
    ({"column": "width", "fraction": 0.5, "min": 2}, "has both min and fraction"),
    ({"column": "width", "max": 3, "below": 2}, "has both max and below"),
    ({"column": "width", "min": 3, "max": 2}, "no value can meet both bounds"),
    ({"column": "width", "above": 3, "max": 3}, "no value can meet both bounds"),
    ({"column": "width", "min": 3, "unless": {"hight": {"min": 3}}},
     "unless.hight: no stage writes a column hight; did you mean height?"),
    ({"column": "width", "min": 3, "unless": {"language": {"min": 3}}}, "unless.language: min compares numbers"),
    ({"column": "width", "min": 3, "unless": {"height": {}}}, "has no bound"),
])
def test_a_rule_that_cannot_work_is_refused_with_the_reason(rule: dict[str, Any], says: str) -> None:
    assert says in refused(**rule)


def test_an_exact_value_is_a_possible_interval() -> None:
    assert Rule(column="width", min=3, max=3).conditions == {"min": 3, "max": 3}


def test_every_scalar_of_the_stages_can_be_read_and_nothing_else() -> None:
    for schema in (schemas.SAMPLES, schemas.IMAGE, schemas.CAPTION, schemas.LANGUAGE):
        for field in schema:
            scalar = not (pa.types.is_nested(field.type) or pa.types.is_binary(field.type))
            assert (field.name in COLUMNS) == (scalar and not field.name.endswith("_error")), field.name
    assert not set(schemas.LABELS.names[1:]) & set(COLUMNS)
    assert COLUMNS["uid"].origin == "samples"
    assert column_named("clip_similarity").type == pa.float32()


def test_the_columns_to_read_are_grouped_by_who_writes_them() -> None:
    rules = {
        "language": Rule(column="language", any_of=("en",),
                         unless={"caption_words": Bound(below=2), "known_words": Bound(min=0.5)}),
        "again": Rule(column="language", none_of=("de",)),
        "copy": Rule(column="near_duplicate", equals=False),
        "short": Rule(column="raw_caption_words", min=3),
    }
    assert columns_read(rules) == {"language": ("language",), "caption": ("caption_words",), "mentions": ("known_words",),
                                   "duplicates": ("near_duplicate",), "derived": ("raw_caption_words",)}


@pytest.mark.parametrize(("rule", "threshold", "words"), [
    ({"column": "width", "min": 3, "below": 9}, None, "at least 3 and below 9"),
    ({"column": "language", "any_of": ["en", "de"]}, None, "one of en, de"),
    ({"column": "exact_duplicate", "equals": False}, None, "is false"),
    ({"column": "language", "equals": "en", "unless": {"caption_words": {"max": 1}}}, None, "is en, or caption_words at most 1"),
    ({"column": "clip_similarity", "fraction": 0.3}, Threshold(0.24312, 7), "among the highest 0.3 of the run (here 0.2431)"),
    ({"column": "clip_similarity", "null_quantile": 0.5}, Threshold(-0.004),
     "at least the 0.5 quantile of shuffled pairs (here -0.004)"),
])
def test_a_bound_reads_as_a_sentence(rule: dict[str, Any], threshold: Threshold | None, words: str) -> None:
    assert bound_in_words(Rule.model_validate(rule), threshold) == words
