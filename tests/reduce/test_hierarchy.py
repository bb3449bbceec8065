from typing import Literal

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.reduce.classes.hierarchy import ClusterLevel, Lloyd, Resampling, foremost, hierarchical
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, Ints, unit

FIFTY = Lloyd(iterations=50, tolerance=-1)   # not one fewer, whatever they gain


def arc(position: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] laid out on an open arc, where nearness by cosine is nearness of the numbers."""
    angle = 3 * np.asarray(position, np.float64)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def mean_position(centroids: Floats) -> float:
    return float(np.arctan2(centroids[:, 1].astype(np.float64), centroids[:, 0]).mean() / 3)


def test_each_level_is_flatter_as_the_closed_form_says() -> None:
    """AT-5a. Of the density p = 2x, the best quantiser has density p^(1/3), of mean 4/7; one level up p^(1/9), of mean 10/19."""
    position = np.sqrt(np.random.default_rng(0).random(100_000))
    rows = arc(position)
    assert position.mean() == pytest.approx(2 / 3, abs=0.003)

    fine, coarse = hierarchical(rows, [1000, 200], seed=0, lloyd=FIFTY)
    assert (len(fine.centroids), len(coarse.centroids)) == (1000, 200)
    assert mean_position(fine.centroids) == pytest.approx(4 / 7, abs=0.015)
    assert mean_position(coarse.centroids) == pytest.approx(10 / 19, abs=0.02)


def test_random_seeding_stays_with_the_crowd() -> None:
    """AT-5a's counterproof: 50 iterations do not undo a poor start, so that the test above sees how classes are seeded. On a line
    the nearest centre of a number is found by sorting."""
    position = np.sort(np.sqrt(np.random.default_rng(0).random(100_000)))
    total = np.concatenate([[0], np.cumsum(position)])
    centres = np.sort(np.random.default_rng(1).choice(position, 1000, replace=False))
    for _ in range(50):
        edges = np.searchsorted(position, (centres[1:] + centres[:-1]) / 2)
        starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(position)]])
        centres = (total[ends] - total[starts]) / (ends - starts)
    assert centres.mean() >= 0.64


def ancestors(levels: tuple[ClusterLevel, ...]) -> np.ndarray:
    """For each row below the first of `levels`, its class in each of them: i32[n, T], nearest level first."""
    result = [levels[0].parent_of_below]
    for level in levels[1:]:
        result.append(level.parent_of_below[result[-1]])
    return np.stack(result, axis=1)


@pytest.fixture(scope="module")
def families() -> tuple[Floats, Ints, Ints]:
    """4 families of 6 groups of 40 rows: rows f32[960, 32], group of each, family of each group."""
    rng = np.random.default_rng(0)
    family = np.repeat(np.arange(4), 6)
    centres = unit(unit(rng.standard_normal((4, 32)))[family] + 0.6 * unit(rng.standard_normal((24, 32))))
    group = np.repeat(np.arange(24), 40)
    return unit(centres[group] + 0.15 * unit(rng.standard_normal((960, 32)))), group, family


def test_planted_families_are_what_their_groups_descend_from(families: tuple[Floats, Ints, Ints]) -> None:
    rows, group, family = families
    found = ancestors(hierarchical(rows, [40, 4], seed=0))
    assert found.shape == (960, 2)
    assert found.dtype == np.int32
    assert len(set(zip(group.tolist(), found[:, 0].tolist(), strict=True))) == 40   # no class mixes groups
    assert len(set(zip(family[group].tolist(), found[:, 1].tolist(), strict=True))) == len(set(found[:, 1].tolist())) == 4


def test_classes_that_exist_get_parents_and_grandparents(families: tuple[Floats, Ints, Ints]) -> None:
    rows, group, family = families
    centroids = unit(np.stack([rows[group == one].mean(axis=0) for one in range(24)]))
    levels = hierarchical(centroids, [8, 4, 2], seed=0, resampling=[Resampling(2, 2), Resampling(1, 1), Resampling(0)])
    above = ancestors(levels)
    assert above.shape == (24, 3)
    assert len(set(zip(family.tolist(), above[:, 1].tolist(), strict=True))) == 4
    for fine, coarse in ((0, 1), (1, 2)):   # a parent has one parent
        assert len(set(map(tuple, above[:, [fine, coarse]].tolist()))) == len(set(above[:, fine].tolist()))


@pytest.mark.parametrize("order", ["closest", "random"])
def test_no_class_is_empty_and_every_point_is_below_its_nearest_centroid(
    families: tuple[Floats, Ints, Ints], order: Literal["closest", "random"],
) -> None:
    rows, _, _ = families
    levels = hierarchical(rows, [60, 12], seed=3, resampling=[Resampling(3, 4, order), Resampling(2, 2, order)])
    for level, below in zip(levels, (rows, levels[0].centroids), strict=True):
        assert np.array_equal(level.parent_of_below, nearest(below, level.centroids, 1)[0][:, 0])
        assert np.bincount(level.parent_of_below, minlength=len(level.centroids)).min() >= 1
        assert np.abs(np.linalg.norm(level.centroids, axis=1) - 1).max() < 1e-6


def test_resampling_frees_centroids_from_the_crowd() -> None:
    """99 % of the rows lie in one fifth of the arc; the more often it is resampled, the fewer of 50 centroids stay there."""
    rng = np.random.default_rng(0)
    rows = arc(np.concatenate([rng.uniform(0, 0.2, 19_800), rng.uniform(0.2, 1, 200)]))
    plain, once, often = (
        hierarchical(rows, [50], seed=0, resampling=[Resampling(steps, 4)])[0].centroids for steps in (0, 1, 10)
    )
    crowded = [int((np.arctan2(some[:, 1], some[:, 0]) / 3 < 0.2).sum()) for some in (plain, once, often)]
    assert crowded[0] >= 30 > crowded[1] > 23 > crowded[2]


def test_a_seed_gives_the_same_bits_and_another_does_not(families: tuple[Floats, Ints, Ints]) -> None:
    rows, _, _ = families
    one, again, other = (
        hierarchical(rows, [50, 10], seed=seed, resampling=[Resampling(2, 3, "random")] * 2) for seed in (5, 5, 6)
    )
    for level, same in zip(one, again, strict=True):
        assert np.array_equal(level.centroids, same.centroids)
        assert np.array_equal(level.parent_of_below, same.parent_of_below)
    assert not np.array_equal(one[0].centroids, other[0].centroids)


def test_the_foremost_of_each_cluster_are_its_best_and_equal_ones_go_by_position() -> None:
    cluster = np.array([1, 0, 1, 1, 0, 3], np.int32)
    score = np.array([0.5, 0.1, 0.9, 0.5, 0.1, 0.2], np.float32)
    assert foremost(cluster, score, 1).tolist() == [1, 2, 5]
    assert foremost(cluster, score, 2).tolist() == [0, 1, 2, 4, 5]


def test_fewer_directions_than_classes_give_fewer_classes_and_none_is_empty() -> None:
    rows = np.repeat(unit(np.random.default_rng(0).standard_normal((5, 8))), 4, axis=0)
    fine, coarse = hierarchical(rows, [12, 3], seed=0)
    assert len(fine.centroids) == 5
    assert np.bincount(fine.parent_of_below).tolist() == [4] * 5
    assert len(coarse.centroids) == 3


@pytest.mark.parametrize(("sizes", "message"), [
    ([20], "20 classes over 20"),
    ([10, 10], "10 classes over 10"),
    ([10, 0], "0 classes over 10"),
])
def test_a_level_without_fewer_classes_than_below_is_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hierarchical(unit(np.random.default_rng(0).standard_normal((20, 4))), sizes, seed=0)


def test_resampling_that_cannot_be_done_is_refused() -> None:
    with pytest.raises(InputError, match="2 levels need 2 settings"):
        hierarchical(np.eye(9), [4, 2], seed=0, resampling=[Resampling()])
    with pytest.raises(InputError, match="at least 1 point"):
        Resampling(points=0)
