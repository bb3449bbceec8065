import faiss
import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from pipeline.errors import InputError
from pipeline.reduce.kmeans.in_memory import fit
from pipeline.reduce.kmeans.owner import Owner
from pipeline.reduce.kmeans.partition import ArrayBlock, Partition, RowSample
from pipeline.reduce.kmeans.seeding import seeds
from pipeline.reduce.kmeans.sums import SCALE, Sums, updated_centres
from pipeline.search.nearest import nearest
from pipeline.vectors import Floats, Ids, Ints, unit
from tests.reduce.lloyd import iterate
from tests.reduce.planted import planted


def majority(assignment: Ids, truth: Ints) -> np.ndarray:
    table = np.zeros((assignment.max() + 1, truth.max() + 1), int)
    np.add.at(table, (assignment, truth), 1)
    return table


def purity(assignment: Ids, truth: Ints) -> float:
    return majority(assignment, truth).max(axis=1).sum() / len(truth)


@pytest.fixture(scope="module")
def rows_and_truth() -> tuple[Floats, Ints]:
    return planted(0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_finds_planted_directions_and_the_objective_never_falls(seed: int) -> None:
    x, truth = planted(seed)
    found = fit(x, 50, seed=seed)
    assert purity(found.assignment, truth) >= 0.93
    assert normalized_mutual_info_score(truth, found.assignment) >= 0.98
    assert (np.diff(found.objective) >= 0).all()
    assert found.converged
    assert found.reason is None
    assert np.array_equal(found.sizes, np.bincount(found.assignment, minlength=50))
    assert found.objective[-1] == pytest.approx(float(found.similarity.mean()), abs=1e-6)


def test_four_times_as_many_clusters_are_pure(rows_and_truth: tuple[Floats, Ints]) -> None:
    x, truth = rows_and_truth
    assert purity(fit(x, 200, seed=0, iterations=8).assignment, truth) >= 0.99


def test_partitions_change_no_bit(rows_and_truth: tuple[Floats, Ints]) -> None:
    x, _ = rows_and_truth
    start = seeds(x, 50, seed=3)
    whole = iterate(x, start, iterations=6, tolerance=0)
    for parts in (2, 3, 8):
        split = iterate(x, start, iterations=6, tolerance=0, block=-(-len(x) // parts))
        assert np.array_equal(split.centroids, whole.centroids)
        assert np.array_equal(split.assignment, whole.assignment)
        assert split.objective == whole.objective


def test_sums_are_those_of_rounded_integers_however_the_rows_are_parted(rows_and_truth: tuple[Floats, Ints]) -> None:
    x, _ = rows_and_truth
    assignment = np.random.default_rng(1).integers(3, 53, len(x)).astype(np.int32)
    assignment[:5000] = 7   # far more than add up exactly in float32 at once
    expected = np.zeros((53, 64), np.int64)
    np.add.at(expected, assignment, np.rint(x.astype(np.float64) * SCALE).astype(np.int64))
    order = np.random.default_rng(0).permutation(len(x))
    for parts in (1, 3, 8):
        total = Sums.zero(53, 64)
        for part in np.array_split(order, parts):
            total.add_rows(x[part], assignment[part])
        assert np.array_equal(total.vectors, expected)
        assert np.array_equal(total.counts, np.bincount(assignment, minlength=53))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(rows_and_truth: tuple[Floats, Ints]) -> None:
    x, _ = rows_and_truth
    one, again, other = (fit(x[:4000], 20, seed=seed, iterations=3) for seed in (5, 5, 6))
    assert np.array_equal(one.centroids, again.centroids)
    assert not np.array_equal(one.centroids, other.centroids)


def test_float16_rows_of_any_length_cluster_like_their_directions(rows_and_truth: tuple[Floats, Ints]) -> None:
    x, truth = rows_and_truth
    scaled = (x[:4000] * np.random.default_rng(0).uniform(0.5, 2, (4000, 1))).astype(np.float16)
    assert purity(fit(scaled, 50, seed=0).assignment, truth[:4000]) >= 0.93


@pytest.mark.parametrize("seed", [0, 1])
def test_reaches_the_objective_of_faiss_from_the_same_start(seed: int) -> None:
    x, _ = planted(seed, n=8000)
    start = seeds(x, 50, seed=seed)
    reference = faiss.Kmeans(64, 50, niter=25, spherical=True, max_points_per_centroid=len(x), seed=1)
    reference.train(x, init_centroids=start)
    theirs = float(reference.index.search(x, 1)[0].mean())
    assert fit(x, 50, seed=seed).objective[-1] == pytest.approx(theirs, rel=0.01)


def test_identical_start_centres_all_find_rows_of_their_own() -> None:
    x = unit(np.random.default_rng(0).standard_normal((201, 64)))
    found = iterate(x, np.repeat(x[:1], 40, axis=0))
    assert len(found.sizes) == 40
    assert found.sizes.min() >= 1
    assert found.refilled[0] == 39
    assert (np.diff(found.objective) >= 0).all()


def test_more_clusters_than_directions_are_lowered_with_a_reason() -> None:
    x = np.repeat(unit(np.random.default_rng(0).standard_normal((5, 16))), 7, axis=0)
    found = fit(x, 12, seed=0)
    assert len(found.centroids) == 5
    assert found.sizes.tolist() == [7] * 5
    assert "asked for 12 clusters" in str(found.reason)
    assert "5 different directions" in str(found.reason)


def test_clusters_that_no_row_can_fill_are_dropped_with_a_reason() -> None:
    x = np.repeat(unit(np.random.default_rng(0).standard_normal((2, 16))), 3, axis=0)
    found = iterate(x, np.repeat(x[:1], 4, axis=0))
    assert len(found.centroids) == 2
    assert found.assignment.max() == 1
    assert found.reason == "2 clusters stayed empty"


@pytest.mark.parametrize(("x", "message"), [
    (np.empty((0, 8), np.float32), "nothing to cluster"),
    (np.vstack([np.ones((3, 8)), np.zeros((1, 8))]), "row 3"),
    (np.vstack([np.ones((1, 8)), np.full((1, 8), np.inf)]), "row 1"),
])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_rows_without_a_direction_are_refused_by_number(x: Floats, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(x, 2, seed=0)


def test_no_clusters_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        fit(np.ones((3, 2), np.float32), 0, seed=0)


def test_rows_that_cancel_out_leave_their_centroid_in_place() -> None:
    sums = Sums.zero(2, 2)
    sums.add_rows(np.array([[1, 0], [-1, 0], [0, 1]], np.float32), np.array([0, 0, 1], np.int32))
    previous = np.array([[0.6, 0.8], [0, 1]], np.float32)
    assert np.array_equal(updated_centres(sums, previous), previous)


@pytest.mark.parametrize("window", [8, 1 << 20])
def test_empty_clusters_move_to_different_rows_far_from_their_centroid(window: int) -> None:
    x = unit(np.array([[1, 0], [0, 1], [0, 1], [-1, 0.1], [1, 1]]))
    one = Partition([ArrayBlock(x)], first_row=10, window_bytes=window)
    one.assign(lambda rows, before: np.zeros(len(rows), np.int32), 3, RowSample(0))
    centres = np.repeat(x[:1], 3, axis=0)
    far = one.farthest(centres, 3, RowSample(0))
    assert far.rows.tolist() == [13, 11, 14]
    assert np.array_equal(far.vectors, x[[3, 1, 4]])
    assert far.rows.tolist() == one.farthest(centres, 9, RowSample(0)).rows.tolist()   # the first is on its centre: no help
    owner = Owner(1, 3)
    owner.begin(0, centres)
    assert np.array_equal(owner.updated(np.array([0, 2]), far.vectors[:2]), x[[0, 1]])


def test_labels_recover_several_planted_concepts_that_one_label_cannot() -> None:
    """MLCD's reason for l = 8: images of four concepts each (AT-3b)."""
    rng = np.random.default_rng(0)
    n, d, k = 30_000, 128, 200
    concepts = rng.integers(k, size=(n, 4))
    single = rng.random(n) < 0.7
    weights = rng.uniform(0.6, 1, (n, 4)) * np.where(single[:, None], [1, 0, 0, 0], [1, 1, 1, 1])
    means = unit(rng.standard_normal((k, d)))
    x = unit(np.einsum("nc,ncd->nd", weights, means[concepts]) + 0.3 * rng.standard_normal((n, d)) / np.sqrt(d))

    oracle = nearest(x, means, 8)[0][~single]
    found = fit(x, k, seed=0)
    table = majority(found.assignment[single], concepts[single, 0])
    concept_of = table.argmax(axis=1)
    labels = concept_of[nearest(x, found.centroids, 8)[0][~single]]

    def recall(ids: Ids, l: int) -> np.floating:  # noqa: E741
        return np.mean([len(set(true) & set(some[:l])) / len(set(true))
                        for true, some in zip(concepts[~single].tolist(), ids.tolist(), strict=True)])

    assert recall(oracle, 4) >= 0.985
    assert recall(oracle, 8) >= 0.995
    assert table.max(axis=1).sum() / single.sum() >= 0.94
    assert recall(labels, 1) == pytest.approx(0.25, abs=0.01)
    assert recall(labels, 4) >= 0.90
    assert recall(labels, 8) >= 0.93
