
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from pipeline.reduce.describe.lift import (
    NameCandidate,
    NamingRule,
    Vocabulary,
    confidence,
    distinctive_entities,
    hypernym_depth,
    log_likelihood_ratio,
)
from pipeline.reduce.describe.presence import ancestry, class_counts, presence
from pipeline.vectors import Floats, Ints

PARENTS = {
    "poodle": ["dog"], "dog": ["canine", "pet"], "canine": ["carnivore"], "carnivore": ["mammal"], "mammal": ["animal"],
    "pet": ["animal"], "cat": ["pet"], "animal": ["thing"], "car": ["machine"], "machine": ["thing"], "thing": [],
}
NAMES = {id: id.upper() for id in PARENTS}
ANY = NamingRule(min_depth=0)


def standing(
    entities: list[list[str]], assignment: Ints | list[int], rule: NamingRule = ANY, texts: dict[str, Floats] | None = None,
    parents: dict[str, list[str]] = PARENTS,
) -> list[list[NameCandidate]]:
    classes = np.array(assignment, np.int32)
    centroids = np.eye(classes.max() + 1, dtype=np.float32)
    found = presence(entities, parents, rule.levels)
    counts = class_counts(found, classes, len(centroids))
    return distinctive_entities(counts, centroids, rule, Vocabulary(parents, NAMES, texts or {}))


def test_an_entity_counts_for_everything_up_to_four_levels_above_it() -> None:
    assert ancestry("poodle", PARENTS, 4) == ["poodle", "dog", "canine", "pet", "carnivore", "animal", "mammal", "thing"]
    assert ancestry("poodle", PARENTS, 1) == ["poodle", "dog"]
    found = presence([["poodle", "cat"], [], ["cat"]], PARENTS, 2)
    has = {(row, found.ids[entity]) for row, entity in zip(found.sample, found.entity, strict=True)}
    first, last = ("poodle", "dog", "canine", "pet", "cat", "animal"), ("cat", "pet", "animal")
    assert has == {(0, name) for name in first} | {(2, name) for name in last}
    assert found.hypernyms == {"dog", "canine", "pet", "animal"}


def test_a_circle_of_hypernyms_ends() -> None:
    circle = {"a": ["b"], "b": ["a"]}
    assert ancestry("a", circle, 4) == ["a", "b"]
    assert hypernym_depth("a", circle) == 64
    assert hypernym_depth("poodle", PARENTS) == 6
    assert hypernym_depth("thing", PARENTS) == 0


def test_the_ratio_is_the_signed_g_of_the_contingency_table() -> None:
    for both, entity, members, total in [(8, 10, 20, 100), (1, 30, 20, 100), (5, 5, 5, 60), (0, 4, 10, 50)]:
        cells = [[both, entity - both], [members - both, total - entity - members + both]]
        expected = chi2_contingency(cells, correction=False, lambda_="log-likelihood").statistic
        sign = 1 if both * total >= entity * members else -1
        found = log_likelihood_ratio(np.array([both]), np.array([entity]), np.array([members]), total)[0]
        assert found == pytest.approx(sign * expected)


def test_the_entity_that_stands_out_leads_and_hypernyms_that_only_repeat_it_are_left_out() -> None:
    entities = [["dog"]] * 10 + [["cat"], ["car"]] * 10
    named = standing(entities, [0] * 10 + [1, 2] * 10)
    assert [one.id for one in named[0]] == ["dog"]
    assert [one.id for one in named[1]] == ["cat"]
    assert [one.id for one in named[2]] == ["car"]
    assert named[0][0].name == "DOG"
    assert named[0][0].share == 1
    assert named[0][0].lift == pytest.approx(3)


def test_a_hypernym_that_says_more_members_share_is_listed() -> None:
    entities = [["dog"]] * 6 + [["cat"]] * 6 + [["car"]] * 24
    first = standing(entities, [0] * 12 + [1] * 24)[0]
    assert [one.id for one in first] == ["pet", "dog", "cat"] or [one.id for one in first] == ["pet", "cat", "dog"]


def test_a_class_abstains_when_nothing_is_significant() -> None:
    rng = np.random.default_rng(0)
    entities = [[["dog"], ["car"]][rng.integers(2)] for _ in range(200)]
    assert standing(entities, rng.integers(4, size=200)) == [[], [], [], []]
    assert standing([[]] * 6, [0, 1] * 3) == [[], []]


@pytest.mark.parametrize("field", ["min_members", "min_share", "min_lift", "significance"])
def test_each_bound_can_silence_a_name(field: str) -> None:
    entities, assignment = [["dog"]] * 4 + [[]] * 36, [0] * 10 + [1] * 30
    measured: dict[str, Any] = {"min_members": 4, "min_share": 0.4, "min_lift": 4.0, "significance": 12.1}
    assert [one.id for one in standing(entities, assignment, NamingRule(min_depth=0, **measured))[0]] == ["dog"]
    stricter = measured | {field: measured[field] * 1.1}
    assert standing(entities, assignment, NamingRule(min_depth=0, **stricter))[0] == []


def test_words_at_the_top_of_the_hierarchy_name_nothing() -> None:
    entities = [["car"]] * 5 + [["dog"]] * 5 + [[]] * 30
    ids = [one.id for one in standing(entities, [0] * 10 + [1] * 30, NamingRule(min_depth=1))[0]]
    assert "thing" not in ids
    assert {"car", "dog"} <= set(ids)


def test_a_knowledge_base_without_hierarchy_names_as_well() -> None:
    named = standing([["Q144"]] * 5 + [["Q146"]] * 15, [0] * 5 + [1] * 15, NamingRule(), parents={})
    assert [one.name for one in named[0]] == ["Q144"]


def test_text_breaks_ties_and_its_weight_can_decide() -> None:
    entities = [["cat", "car"]] * 6 + [["cat"]] + [["poodle"]] * 20
    texts = {"car": np.array([1, 0], np.float32), "cat": np.array([0, 1], np.float32)}
    assignment = [0] * 6 + [1] * 21
    assert standing(entities, assignment)[0][0].id == "car"
    swapped = {"car": texts["cat"], "cat": texts["car"]}
    assert standing(entities, assignment, NamingRule(min_depth=0), swapped)[0][0].id == "car"
    assert standing(entities, assignment, NamingRule(min_depth=0, text_weight=5), swapped)[0][0].id == "cat"
    flat: dict[str, list[str]] = {"one": [], "two": []}
    tied = [["one", "two"]] * 6 + [[]] * 20
    near = {"one": texts["cat"], "two": texts["car"]}
    assert standing(tied, [0] * 6 + [1] * 20, parents=flat)[0][0].id == "one"
    assert standing(tied, [0] * 6 + [1] * 20, NamingRule(), near, flat)[0][0].id == "two"


def test_a_name_is_the_surer_the_more_members_bear_it_out() -> None:
    both, members = np.array([3, 30, 30, 6]), np.array([3, 30, 300, 30])
    few, many, rare, doubtful = confidence(both, members, np.full(4, 0.02))
    assert many > 0.99
    assert 0.2 < few < 0.8         # three members, even if all have it, are few
    assert rare < 0.001            # 10 % of the class: it may stand out, but describes nobody
    assert 0.05 < doubtful < 0.6   # 20 % of the members, right at the bound
    assert confidence(np.array([30]), np.array([30]), np.array([0.6])) < 0.01   # everybody has it: no class stands out by it
    assert confidence(np.array([30]), np.array([30]), np.array([1.0])) == 0
