
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.reduce.classes.label_tables import Naming, above, label_table
from pipeline.reduce.classes.labels import Labels
from schemas.columns import LABELS


def labels(ids: Sequence[Sequence[int]], weights: Sequence[Sequence[float]], count: Sequence[int]) -> Labels:
    return Labels(np.array(ids, np.int32), np.array(weights, np.float32), np.array(weights, np.float16), np.array(count, np.int32))


FOUND = labels([[0, 1, 2], [3, 0, 1]], [[0.5, 0.25, 0.25], [1, 0, 0]], [3, 1])


def test_labels_carry_stable_ids_and_rows_that_are_not_labelled_are_null() -> None:
    naming = Naming(np.array([40, 7, 12, 9], np.int32), np.empty((4, 0), np.int32))
    made = label_table(pa.array(["a", "b", "c", "d"]), FOUND, np.array([1, 3]), naming)
    assert made.schema.equals(LABELS)
    assert made.column("labels").to_pylist() == [None, [40, 7, 12], None, [9]]
    assert made.column("label_weights").to_pylist() == [None, [0.5, 0.25, 0.25], None, [1]]
    assert made.column("label_levels").to_pylist() == [None, [], None, []]


def test_coarse_labels_are_the_parents_of_the_labels_each_once_by_their_summed_weight() -> None:
    ancestors = np.array([[5, 90], [6, 90], [6, 91], [8, 91]], np.int32)
    naming = Naming(np.arange(4, dtype=np.int32), ancestors)
    made = label_table(pa.array(["a", "b", "c", "d"]), FOUND, np.array([1, 3]), naming)
    assert made.column("label_levels").to_pylist() == [None, [[5, 6], [90, 91]], None, [[8], [91]]]


def test_the_heavier_sum_leads_whatever_the_order_of_the_labels() -> None:
    ids = np.array([[1, 2, 2, 3]], np.int32)
    weights, inside = np.array([[0.4, 0.3, 0.2, 0.1]], np.float16), np.ones((1, 4), bool)
    found, count = above(ids, weights, inside)
    assert (found[0, : count[0]].tolist(), count.tolist()) == ([2, 1, 3], [3])
    found, count = above(ids, weights, np.array([[True, True, False, False]]))
    assert (found[0, : count[0]].tolist(), count.tolist()) == ([1, 2], [2])


def test_tables_of_no_samples_are_empty() -> None:
    nothing = Labels(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float16), np.zeros(0, np.int32))
    naming = Naming(np.zeros(0, np.int32), np.empty((0, 2), np.int32))
    made = label_table(pa.array(["a"]), nothing, np.zeros(0, np.int64), naming)
    assert made.to_pylist() == [{"uid": "a", "labels": None, "label_weights": None, "label_levels": None}]
