"""CaSED: words out of the nearest captions, on planted vectors (acceptance test AT-8), on cases by hand, and on the sample."""

import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.queries.names.asked import picture_names
from pipeline.queries.names.candidates import candidates, names_things, words_of
from pipeline.queries.names.cased import Naming, ScoredName, distinct, mixed, names
from pipeline.queries.neighbours.catalogue import Catalogue
from pipeline.queries.neighbours.query import Query
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, Ids, unit
from tests.answers import checked
from tests.roots import asked

WORDS, DIMENSION, CAPTIONS, QUERIES = 300, 256, 6000, 500
EVERYTHING = names_things()


class Planted(NamedTuple):
    """Words, captions of three of them, and pictures of one with another beside it; a gap lies between texts and pictures."""

    words: list[str]
    places: dict[str, int]
    texts: Floats
    captions: list[str]
    vectors: Floats
    pictures: Floats
    truth: Ids

    def embed(self, words: Sequence[str]) -> Floats:
        return self.texts[[self.places[word] for word in words]]


@cache
def planted() -> Planted:
    rng = np.random.default_rng(8)
    letters = "bcdfghjklmnprtvz"
    words = ["".join(part) + "o" for part in itertools.islice(itertools.product(letters, "aeiu", letters), WORDS)]
    own, gap = unit(rng.normal(size=(WORDS, DIMENSION))), unit(rng.normal(size=(1, DIMENSION)))[0]
    chosen = np.stack([rng.choice(WORDS, 3, replace=False) for _ in range(CAPTIONS)])
    pairs = np.stack([rng.choice(WORDS, 2, replace=False) for _ in range(QUERIES)])
    noise = rng.normal(size=(QUERIES, DIMENSION)) / np.sqrt(DIMENSION)
    return Planted(
        words, {word: place for place, word in enumerate(words)}, unit(own + 0.8 * gap),
        [" ".join(words[word] for word in caption) for caption in chosen],
        unit(own[chosen].sum(axis=1) + 0.8 * gap), unit(own[pairs[:, 0]] + 0.5 * own[pairs[:, 1]] - 0.8 * gap + 0.9 * noise),
        pairs[:, 0].astype(np.int32))


@cache
def near() -> Ids:
    return nearest(planted().pictures, planted().vectors, 10)[0]


def named(ids: Ids, alpha: float) -> list[list[ScoredName]]:
    made = planted()
    return [names(picture, [made.captions[i] for i in near], made.vectors[near], made.embed, EVERYTHING, naming=Naming(alpha=alpha))
            for picture, near in zip(made.pictures, ids, strict=True)]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.0])
def test_the_word_of_a_picture_is_among_its_candidates_and_first(alpha: float) -> None:
    made = planted()
    answers, truth = named(near(), alpha), [made.words[i] for i in made.truth]
    assert np.mean([word in dict(answer) for word, answer in zip(truth, answers, strict=True)]) >= 0.98
    assert np.mean([word == answer[0][0] for word, answer in zip(truth, answers, strict=True)]) >= 0.98
    assert all(sum(score for _, score in answer) == pytest.approx(1) for answer in answers)


def test_an_inverted_file_that_looks_into_every_list_gives_the_same_words() -> None:
    made = planted()
    index: Any = faiss.index_factory(DIMENSION, "IVF20,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(made.vectors)
    index.add(made.vectors)
    index.nprobe = 20
    approximate, exact = named(index.search(made.pictures, 10)[1].astype(np.int32), 0.7), named(near(), 0.7)
    assert [[word for word, _ in answer] for answer in approximate] == [[word for word, _ in answer] for answer in exact]
    for one, other in zip(approximate, exact, strict=True):   # two captions that are equally near may change places
        np.testing.assert_allclose([score for _, score in one], [score for _, score in other], atol=1e-12)


def test_words_that_all_occur_once_all_stay() -> None:
    assert candidates(["two cats", "a dog"], EVERYTHING, frozenset({"cat"})) == ["cat", "dog"]


def test_a_word_that_occurs_twice_drives_out_those_that_occur_once() -> None:
    assert candidates(["cats play", "a cat", "dog"], EVERYTHING, frozenset({"cat"})) == ["cat"]


def test_where_no_word_is_left_it_is_an_object() -> None:
    assert candidates(["a photo", "Image of the", "<person> 12 x", ""], EVERYTHING) == ["object"]
    picture = unit(np.ones((1, 4)))[0]
    assert names(picture, [], np.zeros((0, 4), np.float32), lambda words: unit(np.ones((len(words), 4))), EVERYTHING) == [
        ("object", 1.0)]


@pytest.mark.parametrize(("caption", "words"), [
    ("<PERSON> rides http://a.example/bike.jpg a Bike", ["rides", "bike"]),
    ("old_red-car.JPG | www.cars.example", ["old", "red", "car"]),
    ("write to jo@mail.example: 3 foxes, 2b, ox", ["write", "fox"]),
    ("Äpfel & Birnen", ["äpfel", "birnen"]),
])
def test_a_caption_is_cleaned_of_what_is_no_word(caption: str, words: list[str]) -> None:
    assert words_of(caption, frozenset({"fox"})) == words


@pytest.mark.parametrize(("word", "kept"), [
    ("the", False), ("quickly", False), ("butterfly", True), ("running", True), ("zzyx", True),
])
def test_function_words_and_adverbs_name_nothing(word: str, kept: bool) -> None:
    assert names_things(["butterfly"])(word) is kept


def test_two_candidates_are_mixed_as_by_hand() -> None:
    """softmax of (1, 0) is .731059 and .268941, of (0, 2) .119203 and .880797; .7 of the one and .3 of the other."""
    found = mixed(np.array([0.01, 0.0]), np.array([0.0, 0.02]), Naming(alpha=0.7))
    np.testing.assert_allclose(found, [0.7 * 0.731058579 + 0.3 * 0.119202922, 0.7 * 0.268941421 + 0.3 * 0.880797078], atol=1e-6)


def test_of_captions_that_say_the_same_the_nearest_counts() -> None:
    """The second is like the first, the fourth like the second: one group, though the first and the fourth are not alike."""
    angles = np.radians([0.0, 15.0, 90.0, 30.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert distinct(vectors, np.cos(np.radians(16))).tolist() == [0, 2]
    assert distinct(vectors, 0.999).tolist() == [0, 1, 2, 3]


def test_a_picture_and_a_class_get_words_of_the_run_s_own_captions(demo: Catalogue, sample_folder: Path) -> None:
    said = checked("query_names", asked("query", demo.plan.root.url, "--class", "3", "--names", "-k", "2", "--json").stdout)
    assert said["names"] == [name.as_json() for name in picture_names(demo, demo.vector(Query(class_id=3)))[:2]]
    assert said["names"][0]["name"] == "france"   # the class of French provinces
    printed = asked("query", demo.plan.root.url, "--class", "3", "--names", "-k", "1").stdout.splitlines()
    assert printed[0] == "class 3:"
    assert printed[1].split()[-1] == "france"
    assert "looking for words" not in "".join(printed)
    refused = asked("query", demo.plan.root.url, "--name", __file__, check=2)
    assert "the picture cannot be read: it is no image" in refused.stderr
    with pytest.raises(InputError, match="nothing is asked for"):
        demo.vector(Query())
