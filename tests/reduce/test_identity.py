
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from pipeline.errors import InputError
from pipeline.reduce.classes.identity import OF_LEVEL, SizedClasses, StableClasses, compare, first_classes, matched
from pipeline.reduce.classes.matching import MatchRule
from pipeline.reduce.classes.overlap import Overlap
from pipeline.reduce.kmeans.in_memory import Clustering, fit
from pipeline.vectors import Floats, Ids, Ints, unit
from tests.reduce.lloyd import iterate


def directions(k: int, d: int = 32, seed: int = 0) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((k, d)))


def clouds(centres: Floats, rows: int, seed: int, noise: float = 0.5) -> tuple[Floats, Ints]:
    """`rows` rows around each centre, and which centre each belongs to."""
    truth = np.repeat(np.arange(len(centres)), rows)
    scatter = np.random.default_rng(seed).standard_normal((len(truth), centres.shape[1])) / np.sqrt(centres.shape[1])
    return unit(centres[truth] + noise * scatter), truth


def by_status(table: pa.Table) -> dict[str, list[tuple[Any, Any]]]:
    found: dict[str, list[tuple[Any, Any]]] = {"kept": [], "new": [], "retired": []}
    for row in table.to_pylist():
        found[row["status"]].append((row["old_id"], row["class_id"]))
    return found


@pytest.mark.parametrize("counted", [True, False])
def test_the_same_fit_in_another_order_keeps_every_id(counted: bool) -> None:
    x, _ = clouds(directions(40), 50, seed=1)
    one = fit(x, 40, seed=0)
    order = np.random.default_rng(2).permutation(40)
    assignment = np.argsort(order)[one.assignment]
    overlap = Overlap.of(one.assignment, assignment) if counted else None
    found = matched(first_classes(one.centroids), one.centroids[order], overlap)
    assert np.array_equal(found.classes.ids, order)
    assert found.classes.ids.dtype == np.int32
    assert found.classes.next_id == 40
    assert found.table.schema == OF_LEVEL
    assert found.table["status"].unique().to_pylist() == ["kept"]
    assert min(found.table["cosine"].to_pylist()) > 1 - 1e-6
    assert found.table["overlap"].to_pylist() == [1.0 if counted else None] * 40


def attainable(was: Ids, now: Ids) -> float:
    """The most samples that could keep their label under any one-to-one matching of these two fits, as a share."""
    table = np.zeros((was.max() + 1, now.max() + 1))
    np.add.at(table, (was, now), 1)
    return table[linear_sum_assignment(-table)].sum() / len(was)


@pytest.fixture(scope="module")
def grown() -> tuple[Floats, int, Clustering]:
    """A fit on 77 % of the rows of 150 unequal, overlapping groups with 100 classes, and all rows (the old ones first)."""
    rng = np.random.default_rng(0)
    sizes = np.minimum(rng.zipf(1.5, 150), 30) * 6
    x = unit(np.repeat(directions(150, d=24), sizes, axis=0) + 0.9 * unit(rng.standard_normal((sizes.sum(), 24))))
    x = x[rng.permutation(len(x))]
    old = int(len(x) / 1.3)
    return x, old, fit(x[:old], 100, seed=0)


def test_a_refit_from_nothing_keeps_nearly_all_labels_that_any_matching_could(grown: tuple[Floats, int, Clustering]) -> None:
    """What is lost is the instability of k-means from another start, which no matching can undo."""
    x, old, one = grown
    other = fit(x, 100, seed=1)
    common = other.assignment[:old]
    found = matched(first_classes(one.centroids), other.centroids, Overlap.of(one.assignment, common))
    stable = (found.classes.ids[common] == one.assignment).mean()
    assert stable >= 0.95 * attainable(one.assignment, common)


def test_a_refit_from_the_old_centroids_keeps_nearly_every_id_and_label(grown: tuple[Floats, int, Clustering]) -> None:
    x, old, one = grown
    other = iterate(x, one.centroids)
    common = other.assignment[:old]
    found = matched(first_classes(one.centroids), other.centroids, Overlap.of(one.assignment, common))
    assert len(by_status(found.table)["kept"]) >= 98
    assert (found.classes.ids[common] == one.assignment).mean() >= 0.95


@pytest.mark.parametrize("counted", [True, False])
def test_classes_keep_their_ids_when_the_data_grow_by_a_third(counted: bool) -> None:
    """40 old groups get 30 % more rows and 5 groups appear; the fit on all of it starts from another seed and asks for 45."""
    centres = directions(45)
    x, _ = clouds(centres[:40], 100, seed=1)
    more, _ = clouds(centres, 30, seed=2)
    one, other = fit(x, 40, seed=0), fit(np.concatenate([x, more]), 45, seed=7)
    common = other.assignment[: len(x)]
    found = matched(first_classes(one.centroids), other.centroids, Overlap.of(one.assignment, common) if counted else None)
    assert len(by_status(found.table)["kept"]) >= 38
    assert (found.classes.ids[common] == one.assignment).mean() >= 0.9
    assert found.classes.next_id >= 45


def test_a_split_has_one_heir_and_one_new_class() -> None:
    old = directions(6)
    aside = 0.3 * np.eye(1, 32, dtype=np.float32)
    new = unit(np.concatenate([old[:5], old[5:] + aside, old[5:] - aside]))
    was = np.repeat(np.arange(6), 100)
    now = np.concatenate([np.repeat(np.arange(5), 100), np.full(40, 5), np.full(60, 6)])   # the larger part is the right one
    found = matched(first_classes(old), new, Overlap.of(was, now))
    assert found.classes.ids.tolist() == [0, 1, 2, 3, 4, 6, 5]
    assert by_status(found.table) == {"kept": [(i, i) for i in range(6)], "new": [(5, 6)], "retired": []}
    assert found.table["overlap"].to_pylist()[-2:] == pytest.approx([0.6, 0.4])


def test_a_merge_retires_one_and_says_what_it_merged_into() -> None:
    near = directions(6)
    near[4:, 0] += 2
    near = unit(near)
    new = np.concatenate([near[:4], unit(near[4:5] + near[5:])])
    was = np.repeat(np.arange(6), [100, 100, 100, 100, 30, 70])
    now = np.minimum(was, 4)
    found = matched(first_classes(near), new, Overlap.of(was, now))
    assert found.classes.ids.tolist() == [0, 1, 2, 3, 5]
    assert by_status(found.table) == {"kept": [(i, i) for i in (0, 1, 2, 3, 5)], "new": [], "retired": [(4, 5)]}


def test_a_class_that_came_from_nowhere_has_no_predecessor() -> None:
    old = np.eye(4, dtype=np.float32)[:3]
    found = matched(first_classes(old), np.eye(4, dtype=np.float32)[[3, 1, 0]])
    assert found.classes.ids.tolist() == [3, 1, 0]
    assert by_status(found.table) == {"kept": [(0, 0), (1, 1)], "new": [(None, 3)], "retired": [(2, None)]}


def test_retired_ids_never_come_back() -> None:
    pool = directions(12, d=64)
    known = first_classes(pool[:8])
    given, retired = set(known.ids.tolist()), set()
    for present in ([0, 1, 2, 3, 8, 9], [3, 2, 9, 4, 5, 10], [4, 6, 7, 0, 9, 3, 11]):
        found = matched(known, pool[present])
        status = by_status(found.table)
        retired |= {old for old, _ in status["retired"]}
        fresh = {new for _, new in status["new"]}
        assert not fresh & given
        assert not set(found.classes.ids.tolist()) & retired
        assert sorted([old for old, _ in status["kept"] + status["retired"]]) == sorted(known.ids.tolist())
        given |= fresh
        known = found.classes
    assert retired | set(known.ids.tolist()) == given == set(range(known.next_id))
    assert len(retired) == 10   # of 17: group 0 came back as a new class


def test_members_decide_between_classes_whose_centroids_cannot() -> None:
    old = unit(np.array([[1, 0.1, 0], [1, -0.1, 0], [0, 0, 1]]))
    new = unit(np.array([[1, 0, 0.02], [1, 0, -0.02], [0, 0, 1]]))
    was, now = np.repeat([0, 1, 2], 50), np.repeat([1, 0, 2], 50)
    assert matched(first_classes(old), new, Overlap.of(was, now)).classes.ids.tolist() == [1, 0, 2]
    assert matched(first_classes(old), new, Overlap.of(was, was)).classes.ids.tolist() == [0, 1, 2]


def test_members_find_their_class_even_where_others_are_nearer() -> None:
    old = np.eye(3, dtype=np.float32)
    new = unit(np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]]))   # each nearest to its own number
    was, now = np.repeat([0, 1, 2], 50), np.repeat([1, 0, 2], 50)
    assert matched(first_classes(old), new, Overlap.of(was, now), MatchRule(candidates=1)).classes.ids.tolist() == [1, 0, 2]


def test_in_a_narrow_cone_a_high_cosine_does_not_make_the_same_class() -> None:
    """As encoders have it: every two classes have a cosine of 0.9, and so has the new one to all."""
    cone = unit(np.concatenate([np.full((5, 1), 3.0), np.eye(5)], axis=1))
    assert cone[4] @ cone[0] == pytest.approx(0.9)
    found = matched(first_classes(cone[:4]), cone[[4, 1, 2, 3]])
    assert found.classes.ids.tolist() == [4, 1, 2, 3]
    assert [old for old, _ in by_status(found.table)["retired"]] == [0]


def test_a_class_without_samples_in_both_fits_is_judged_by_its_place_alone() -> None:
    x = np.eye(3, dtype=np.float32)
    found = matched(first_classes(x), x, Overlap.of(np.array([0, 0, 1]), np.array([0, 0, 1])))
    assert found.classes.ids.tolist() == [0, 1, 2]
    assert found.table["overlap"].to_pylist() == [1, 1, None]


def test_a_pair_below_the_floor_is_no_match() -> None:
    old, new = np.eye(2, dtype=np.float32), unit(np.array([[1, 0.2], [0, 1]]))
    score = 1 / np.sqrt(1.04)   # closeness = cosine here, the old ones being perpendicular
    assert matched(first_classes(old), new, rule=MatchRule(floor=score - 1e-3)).classes.ids.tolist() == [0, 1]
    assert matched(first_classes(old), new, rule=MatchRule(floor=score + 1e-3)).classes.ids.tolist() == [2, 1]


def test_twin_centroids_are_told_apart_by_their_members() -> None:
    old = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    found = matched(first_classes(old), old, Overlap.of(np.repeat([0, 1, 2], 9), np.repeat([1, 0, 2], 9)))
    assert found.classes.ids.tolist() == [1, 0, 2]


def test_a_first_fit_and_an_empty_one() -> None:
    nothing = np.zeros((0, 0), np.float32)
    x = np.eye(4, dtype=np.float32)
    assert first_classes(x).ids.tolist() == [0, 1, 2, 3]
    gone = matched(first_classes(x), nothing)
    assert by_status(gone.table)["retired"] == [(0, None), (1, None), (2, None), (3, None)]
    assert matched(gone.classes, x).classes.ids.tolist() == [4, 5, 6, 7]


def test_centroids_of_another_dimension_are_refused() -> None:
    with pytest.raises(InputError, match="have 3 dimensions and the new ones 4"):
        matched(first_classes(np.eye(3, dtype=np.float32)), np.eye(4, dtype=np.float32))


@pytest.mark.parametrize(("ids", "next_id", "message"), [
    ([0, 0], 2, "different class ids"), ([0], 2, "2 centroids need"), ([0, 5], 5, "given already"),
])
def test_ids_that_contradict_themselves_are_refused(ids: list[int], next_id: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StableClasses(np.array(ids, np.int32), np.eye(2, dtype=np.float32), next_id)


@pytest.mark.timeout(60)   # 5 s on one core
def test_twenty_thousand_classes_are_matched_in_seconds() -> None:
    rng = np.random.default_rng(0)
    old = directions(20_000, d=16)
    kept, order = old[: 19_000], rng.permutation(20_000)
    new = unit(np.concatenate([kept + 0.05 * rng.standard_normal(kept.shape) / 4, directions(1000, d=16, seed=9)]))[order]
    was = rng.integers(19_000, size=200_000)
    overlap = Overlap.of(was, np.argsort(order)[was])
    found = matched(first_classes(old), new, overlap)
    there = order < 19_000
    assert np.array_equal(found.classes.ids[there], order[there])
    assert (found.classes.ids[~there] >= 19_000).all()


def test_two_fits_side_by_side() -> None:
    x, truth = clouds(directions(12), 60, seed=3)
    one, other = fit(x, 12, seed=0), fit(x[:600], 10, seed=5)
    overlap = Overlap.of(one.assignment[:600], other.assignment)
    sides = (SizedClasses(first_classes(one.centroids), one.sizes),
             SizedClasses(StableClasses(np.arange(100, 100 + len(other.sizes), dtype=np.int32), other.centroids, 200), other.sizes))
    found = compare(*sides, overlap)
    rows = found.table.to_pylist()
    pairs = [row for row in rows if None not in (row["class_id"], row["other_id"])]
    assert rows[: len(pairs)] == pairs
    assert [row["class_id"] for row in pairs] == sorted(row["class_id"] for row in pairs)
    assert sorted(row["class_id"] for row in rows if row["class_id"] is not None) == list(range(12))
    assert sorted(row["other_id"] for row in rows if row["other_id"] is not None) == list(range(100, 110))
    for row in pairs:
        assert truth[:600][other.assignment == row["other_id"] - 100].mean() == pytest.approx(
            truth[one.assignment == row["class_id"]].mean(), abs=1.5)
        assert row["size"] == one.sizes[row["class_id"]]
        assert row["other_size"] == other.sizes[row["other_id"] - 100]
    for row in rows[len(pairs) :]:
        assert row["cosine"] is row["overlap"] is None
    assert found.ari == pytest.approx(adjusted_rand_score(one.assignment[:600], other.assignment), abs=1e-12)
    assert found.ami == pytest.approx(adjusted_mutual_info_score(one.assignment[:600], other.assignment), abs=1e-12)


def test_without_common_samples_there_is_no_agreement_to_report() -> None:
    side = SizedClasses(first_classes(np.eye(3, dtype=np.float32)), np.array([5, 6, 7]))
    found = compare(side, side)
    assert (found.ari, found.ami) == (None, None)
    assert found.table.num_rows == 3
    apart = compare(side, SizedClasses(StableClasses(np.array([9], np.int32), -np.eye(3, dtype=np.float32)[:1], 10), np.array([4])))
    assert apart.table.select(["class_id", "other_id", "size", "other_size"]).to_pylist()[-1] == {
        "class_id": None, "other_id": 9, "size": None, "other_size": 4}
    assert apart.table["class_id"].to_pylist() == [0, 1, 2, None]
    one = Overlap.of(np.zeros(4, int), np.zeros(4, int))
    assert compare(side, side, one).ari == 1.0


def test_mutual_information_is_left_out_where_its_chance_level_would_take_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    side = SizedClasses(first_classes(np.eye(3, dtype=np.float32)), np.array([5, 6, 7]))
    same = Overlap.of(np.arange(3).repeat(4), np.arange(3).repeat(4))
    assert compare(side, side, same).ami == pytest.approx(1.0)
    monkeypatch.setattr("pipeline.reduce.classes.overlap.AMI_CELLS", 8)
    found = compare(side, side, same)
    assert (found.ari, found.ami) == (1.0, None)
