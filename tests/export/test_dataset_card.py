"""The dataset card of an export, and JSON objects from whose first ones a reader may infer what all have. `hf_datasets.py` beside
this file asks Hugging Face's reader itself."""

import json
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipeline.export.dataset_card import dataset_card
from pipeline.export.sample_json import sample_json
from schemas.columns import field
from schemas.exports import SAMPLE_JSON
from tests.export.test_export import sample

ENTITY = {"id": "n02084071", "name": "dog", "z": 2.5}


def inferred(values: list[Any]) -> str:
    """The type that Arrow infers of these values, as Hugging Face's readers do of the first samples."""
    return str(pa.array(values).type)


@pytest.mark.parametrize(("entities", "labels", "score"), list(product(([], [ENTITY]), ([], [1], None), (None, 0.5))))
def test_no_value_of_ours_is_without_a_type(entities: list[Any], labels: list[int] | None, score: float | None) -> None:
    """An empty list and null have none: a reader that saw nothing else of a key first stops at a value."""
    weights, levels = [1.0] * len(labels or []), [[4]] if labels else []
    row = sample(None, entities=entities, labels=labels, label_weights=weights, label_levels=levels, score=score)
    made = json.loads(sample_json(row, {1: "one"}, ["score"]))
    assert "null" not in inferred([made])
    full = sample(None, entities=[ENTITY], score=0.25)
    whole = json.loads(sample_json(full, {1: "one"}, ["score"]))
    assert {key: inferred([value]) for key, value in made.items()}.items() <= {
        key: inferred([value]) for key, value in whole.items()}.items()
    assert set(whole) == {*SAMPLE_JSON.names, "score"}


def test_an_export_of_an_older_version_has_its_empty_lists() -> None:
    made = json.loads(sample_json(sample(None), {1: "one"}, with_empty=True))
    assert made["entities"] == []
    assert "entities" not in json.loads(sample_json(sample(None), {1: "one"}))


def test_an_original_key_that_ours_left_out_still_moves_to_source() -> None:
    made = json.loads(sample_json(sample(b'{"entities": ["theirs"]}'), {1: "one"}))
    assert "entities" not in made
    assert made["source"] == {"entities": ["theirs"]}


def test_the_card_names_the_tars_alone_and_the_features_of_every_sample() -> None:
    added = [field("score", pa.float32(), "of a stage from outside"), field("good", pa.bool_(), "of one")]
    files = {"sizes": "sizes.json", "shardlist": "wids.json"}
    card = dataset_card({"samples": 1234, "shards": 2, "recipe": "mine: 7 {x}"}, {"png", "jpg"}, added, files)
    _, head, words = card.split("---\n", 2)
    declared = yaml.safe_load(head)
    assert declared["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}]
    features = {feature.pop("name"): feature for feature in declared["dataset_info"]["features"]}
    assert list(features) == ["jpg", "png", "txt", "json", "__key__", "__url__"]
    assert features["jpg"] == {"dtype": "image"}
    about = {feature.pop("name"): feature for feature in features["json"]["struct"]}
    assert list(about) == [*SAMPLE_JSON.names, "score", "good"]
    assert about["entities"]["list"][2] == {"name": "z", "dtype": "float32"}
    assert (about["labels"], about["label_levels"]) == ({"sequence": "int32"}, {"sequence": {"sequence": "int32"}})
    assert (about["score"], about["good"]) == ({"dtype": "float32"}, {"dtype": "bool"})
    assert "1,234 pairs in 2 WebDataset shards" in words
    assert "`mine: 7 {x}`" in words
