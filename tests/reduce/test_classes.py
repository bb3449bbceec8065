import numpy as np
import pytest

from pipeline.reduce.classes import Members, exemplars, named, unique_names
from pipeline.reduce.kmeans import fit
from pipeline.reduce.lift import Candidate, Vocabulary
from pipeline.reduce.nearest import unit
from schemas.tables import CLASSES
from tests.quality import folder_agreement, linked_entities, name_quality, raw_pixels

SEEDS = range(5)


def candidate(name, score=1.0):
    return Candidate(name, name, score, 2.0, 0.5, 3)


def test_names_are_unique_and_the_strongest_class_gets_the_plain_name():
    found = [
        [candidate("dog", 3), candidate("pet")],
        [candidate("dog", 5), candidate("lawn")],
        [candidate("Dog", 2), candidate("pet")],
        [candidate("dog", 1), candidate("pet")],
        [],
        [candidate("class 4", 9)],
    ]
    assert unique_names(found) == ["dog (pet)", "dog", "Dog (class 2)", "dog (class 3)", "class 4", "class 4 (class 5)"]


def test_exemplars_are_the_nearest_rows_and_ties_go_to_the_smaller_row_id(ids):
    members = Members(
        rows=np.array([3, 105, 207, 208, 309]), assignment=np.array([1, 0, 1, 1, 1], np.int32),
        similarity=np.array([0.5, 0.9, 0.7, 0.7, 0.1], np.float32), entities=[[]] * 5,
    )
    found = exemplars(members, 3, ids, most=3)
    assert [[(one["shard_id"], one["row"]) for one in some] for some in found] == [
        [("shard1", 5)], [("shard2", 7), ("shard2", 8), ("shard0", 3)], [],
    ]


def test_the_table_describes_every_class(ids):
    members = Members(
        rows=np.arange(30), assignment=np.repeat(np.array([0, 1], np.int32), [10, 20]),
        similarity=np.repeat(np.array([0.5, 0.25], np.float32), [10, 20]), entities=[["dog"]] * 10 + [[]] * 20,
    )
    table = named(members, np.eye(3, dtype=np.float32), Vocabulary({}, {"dog": "domestic dog"}), ids)
    assert table.schema.equals(CLASSES)
    first, second, third = table.to_pylist()
    assert (first["name"], first["named"], first["size"], first["mean_similarity"]) == ("domestic dog", True, 10, 0.5)
    assert first["entities"] == [{"id": "dog", "name": "domestic dog", "lift": 3.0, "share": 1.0}]
    assert len(first["exemplars"]) == 8
    assert (second["name"], second["named"], second["size"]) == ("class 1", False, 20)
    assert (third["name"], third["size"], third["mean_similarity"], third["exemplars"]) == ("class 2", 0, 0.0, [])


@pytest.fixture(scope="module")
def vocabulary_and_entities(sample, embeddings, encoder):
    """Per readable pair the entities linked to its caption, confirmed or not."""
    captions = [caption for caption, readable in zip(sample.captions, sample.readable, strict=True) if readable]
    vocabulary, linked, _ = linked_entities(captions, embeddings, encoder.encode_texts, seed=0)
    return vocabulary, linked


def test_classes_agree_with_the_folders_of_the_sources_more_than_raw_pixels_do(sample, embeddings):
    rows = np.flatnonzero(sample.readable)
    folders = [sample.truth[row]["source"].split("/")[0] for row in rows]
    pixels = raw_pixels(sample.pictures.thumbnail[rows])
    ours = np.mean([folder_agreement(embeddings, folders, 32, seed) for seed in SEEDS])
    baseline = np.mean([folder_agreement(pixels, folders, 32, seed) for seed in SEEDS])
    assert ours >= 0.22
    assert ours - baseline >= 0.08


def test_names_hold_on_the_other_half_of_the_sample(embeddings, vocabulary_and_entities):
    vocabulary, entities = vocabulary_and_entities
    found = [name_quality(embeddings, entities, vocabulary, k=32, seed=seed) for seed in SEEDS]
    assert np.mean([one.precision for one in found]) >= 0.38
    assert np.mean([one.coverage for one in found]) >= 0.55


def test_names_of_shuffled_captions_do_not_hold(embeddings, vocabulary_and_entities):
    vocabulary, entities = vocabulary_and_entities
    order = np.random.default_rng(0).permutation(len(entities))
    shuffled = [entities[i] for i in order]
    found = [name_quality(embeddings, shuffled, vocabulary, k=32, seed=seed) for seed in SEEDS]
    assert np.mean([one.precision * one.coverage for one in found]) < 0.05


def test_the_sample_gets_names_with_entities_and_unique_handles(embeddings, vocabulary_and_entities, ids):
    vocabulary, entities = vocabulary_and_entities
    found = fit(unit(embeddings), 32, seed=0)
    members = Members(np.arange(len(embeddings)), found.assignment, found.similarity, entities)
    table = named(members, found.centroids, vocabulary, ids)
    assert table.equals(named(members, found.centroids, vocabulary, ids))
    rows = table.to_pylist()
    assert len({row["name"].casefold() for row in rows}) == 32
    assert all(row["named"] == bool(row["entities"]) for row in rows)
    assert all(row["name"] == f"class {row['class_id']}" for row in rows if not row["named"])
    assert sum(row["size"] for row in rows) == len(embeddings)
