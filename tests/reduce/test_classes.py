
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from pipeline.models.clip import Encoder
from pipeline.reduce.describe.lift import NameCandidate, Vocabulary
from pipeline.reduce.describe.names import Level, MemberColumns, class_table, named, unique_names
from pipeline.reduce.describe.presence import class_counts, merged_cells, presence
from pipeline.reduce.kmeans.in_memory import fit
from pipeline.vectors import Floats, unit
from schemas.tables import CLASSES
from tests.quality import folder_agreement, linked_entities, name_quality, raw_pixels
from tests.reduce.conftest import Sample

SEEDS = range(5)


def candidate(name: str, score: float = 1.0) -> NameCandidate:
    return NameCandidate(name, name, score, 2.0, 0.5, 3)


def test_names_are_unique_and_the_strongest_class_gets_the_plain_name() -> None:
    found = [
        [candidate("dog", 3), candidate("pet")],
        [candidate("dog", 5), candidate("lawn")],
        [candidate("Dog", 2), candidate("pet")],
        [candidate("dog", 1), candidate("pet")],
        [],
        [candidate("class 4", 9)],
    ]
    assert unique_names(found, range(6)) == ["dog (pet)", "dog", "Dog (class 2)", "dog (class 3)", "class 4", "class 4 (class 5)"]


def level(centroids: Floats, *, ids: Sequence[int] | None = None, parents: Sequence[int] | None = None, number: int = 0) -> Level:
    chosen = np.arange(len(centroids)) if ids is None else np.array(ids)
    return Level(number, chosen.astype(np.int32), centroids, None if parents is None else np.array(parents, np.int32))


def test_the_table_describes_every_class_by_its_stable_id() -> None:
    found = presence([["dog"]] * 10 + [[]] * 20, {}, 4)
    counts = class_counts(found, np.repeat(np.array([0, 1], np.int32), [10, 20]), 3)
    classes = level(np.eye(3, dtype=np.float32), ids=[7, 2, 9], parents=[1, 1, 0])
    nearest = [{"shard_id": "a", "row": 3, "similarity": 0.75}]
    members = MemberColumns(np.array([0.5, 0.25, 0], np.float32), [nearest, [], []], [[], [], []])
    made = class_table(classes, named(counts, classes, Vocabulary({}, {"dog": "domestic dog"})), counts.sizes, members)
    assert made.schema.equals(CLASSES)
    first, second, third = made.to_pylist()
    assert (first["class_id"], first["name"], first["named"], first["size"]) == (7, "domestic dog", True, 10)
    assert (first["parent"], first["mean_similarity"], first["level"]) == (1, 0.5, 0)
    (entity,) = first["entities"]
    assert (entity["id"], entity["name"], entity["lift"], entity["share"]) == ("dog", "domestic dog", 3.0, 1.0)
    assert entity["confidence"] == first["confidence"] > 0.3
    assert first["exemplars"] == [{"shard_id": "a", "row": 3, "similarity": 0.75}]
    assert (second["name"], second["named"], second["confidence"], second["size"]) == ("class 2", False, None, 20)
    assert (third["name"], third["size"], third["exemplars"]) == ("class 9", 0, [])


def test_counts_of_shards_add_up_to_those_of_the_run_and_those_of_classes_to_their_parents() -> None:
    rng = np.random.default_rng(0)
    kinds = ["dog", "cat", "car"]
    entities = [[kinds[i] for i in np.flatnonzero(rng.random(3) < 0.4)] for _ in range(300)]
    assignment = rng.integers(6, size=300).astype(np.int32)
    parents = {"dog": ["pet"], "cat": ["pet"]}
    whole = class_counts(presence(entities, parents, 4), assignment, 6)
    runs = (slice(200, None), slice(0, 7), slice(7, 200))
    parts = [class_counts(presence(entities[run], parents, 4), assignment[run], 6).cells for run in runs]
    assert merged_cells(pa.concat_tables(parts)).equals(whole.cells)
    above = np.array([0, 0, 1, 1, 1, 0], np.int32)
    coarse = whole.grouped(above, 2)
    assert coarse.cells.equals(class_counts(presence(entities, parents, 4), above[assignment], 2).cells)
    assert coarse.sizes.tolist() == np.bincount(above[assignment]).tolist()


@pytest.fixture(scope="module")
def vocabulary_and_entities(sample: Sample, embeddings: np.ndarray, encoder: Encoder) -> tuple[Vocabulary, list[list[str]]]:
    """Per readable pair the entities linked to its caption, confirmed or not."""
    captions = [caption for caption, readable in zip(sample.captions, sample.readable, strict=True) if readable]
    vocabulary, linked, _ = linked_entities(captions, embeddings, encoder.encode_texts, seed=0)
    return vocabulary, linked


def test_classes_agree_with_the_folders_of_the_sources_more_than_raw_pixels_do(sample: Sample, embeddings: np.ndarray) -> None:
    rows = np.flatnonzero(sample.readable)
    folders = [sample.truth[row]["source"].split("/")[0] for row in rows]
    pixels = raw_pixels(sample.pictures.thumbnail[rows])
    ours = np.mean([folder_agreement(embeddings, folders, 32, seed) for seed in SEEDS])
    baseline = np.mean([folder_agreement(pixels, folders, 32, seed) for seed in SEEDS])
    assert ours >= 0.22
    assert ours - baseline >= 0.08


def test_names_hold_on_the_other_half_of_the_sample(
    embeddings: np.ndarray, vocabulary_and_entities: tuple[Vocabulary, list[list[str]]],
) -> None:
    vocabulary, entities = vocabulary_and_entities
    found = [name_quality(embeddings, entities, vocabulary, k=32, seed=seed) for seed in SEEDS]
    assert np.mean([one.precision for one in found]) >= 0.38
    assert np.mean([one.coverage for one in found]) >= 0.55
    said, held = np.mean([one.confidence for one in found]), np.mean([one.precision_first for one in found])
    assert abs(said - held) <= 0.15


def test_names_of_shuffled_captions_do_not_hold(
    embeddings: np.ndarray, vocabulary_and_entities: tuple[Vocabulary, list[list[str]]],
) -> None:
    vocabulary, entities = vocabulary_and_entities
    order = np.random.default_rng(0).permutation(len(entities))
    shuffled = [entities[i] for i in order]
    found = [name_quality(embeddings, shuffled, vocabulary, k=32, seed=seed) for seed in SEEDS]
    assert np.mean([one.precision * one.coverage for one in found]) < 0.05


def test_the_sample_gets_names_with_entities_and_unique_handles(
    embeddings: np.ndarray, vocabulary_and_entities: tuple[Vocabulary, list[list[str]]],
) -> None:
    vocabulary, entities = vocabulary_and_entities
    found = fit(unit(embeddings), 32, seed=0)
    counts = class_counts(presence(entities, vocabulary.parents, 4), found.assignment, 32)
    names = named(counts, level(found.centroids), vocabulary)
    assert names == named(counts, level(found.centroids), vocabulary)
    assert len({name.casefold() for name in names.names}) == 32
    assert names.named == [bool(some) for some in names.entities] == [sure is not None for sure in names.confidence]
    assert all(name == f"class {c}" for c, name in enumerate(names.names) if not names.named[c])
    assert counts.samples == len(embeddings)
