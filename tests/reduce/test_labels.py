
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.reduce.classes.labels import LabelRule, labelled
from pipeline.reduce.kmeans.in_memory import fit
from pipeline.vectors import Floats, unit

AXES = np.eye(4, dtype=np.float32)


def rows(*vectors: Sequence[float]) -> Floats:
    return unit(np.array(vectors))


def test_labels_are_the_nearest_classes_best_first_and_ties_by_the_lower_id() -> None:
    found = labelled(rows([3, 2, 1, 0], [1, 1, 1, 1]), AXES, LabelRule(max_labels=3))
    assert found.ids.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert found.count.tolist() == [3, 3]
    assert (np.diff(found.similarity) <= 0).all()


def test_weights_are_a_softmax_of_the_cosines_and_sum_to_one(embeddings: np.ndarray) -> None:
    found = labelled(embeddings, fit(embeddings, 32, seed=0).centroids, LabelRule(temperature=0.1))
    assert found.ids.shape == (len(embeddings), 8)
    raw = np.exp(found.similarity.astype(np.float64) / 0.1)
    assert found.weights.dtype == np.float16
    assert np.abs(found.weights - raw / raw.sum(axis=1, keepdims=True)).max() < 2**-9
    assert np.abs(found.weights.sum(axis=1, dtype=np.float64) - 1).max() <= 2**-12
    assert (np.diff(found.weights.astype(np.float64)) <= 0).all()


def test_rounding_of_many_like_weights_does_not_add_up(embeddings: np.ndarray) -> None:
    found = labelled(embeddings, fit(embeddings, 32, seed=0).centroids, LabelRule(max_labels=32, temperature=10))
    assert np.abs(found.weights.sum(axis=1, dtype=np.float64) - 1).max() <= 2**-16


def test_a_lower_temperature_prefers_the_nearest_class() -> None:
    x = rows([3, 2, 1, 0])
    cold, warm = (labelled(x, AXES, LabelRule(temperature=t)).weights[0, 0] for t in (0.05, 1))
    assert cold > 0.95
    assert warm < 0.5


def test_a_floor_keeps_the_classes_above_it_and_always_the_nearest() -> None:
    found = labelled(rows([3, 2, 1, 0], [1, 1, 1, 1]), AXES, LabelRule(floor=0.52))
    assert found.count.tolist() == [2, 1]
    assert found.weights[1].tolist() == [1, 0, 0, 0]
    assert found.weights[0, 2:].tolist() == [0, 0]
    assert found.weights[0].sum() == pytest.approx(1, abs=2**-12)


def test_the_floor_itself_passes() -> None:
    assert labelled(rows([3, 4, 0, 0]), AXES, LabelRule(floor=0.6)).count.tolist() == [2]


def test_fewer_classes_than_labels_give_fewer_labels() -> None:
    assert labelled(rows([1, 2, 3, 4]), AXES[:3], LabelRule(max_labels=8)).ids.tolist() == [[2, 1, 0]]


@pytest.mark.parametrize("wrong", [{"max_labels": 0}, {"temperature": 0.0}])
def test_a_rule_that_labels_nothing_is_refused(wrong: dict[str, float] | dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least one class and a positive temperature"):
        LabelRule(**wrong)
