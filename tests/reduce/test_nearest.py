import numpy as np
import pytest

from pipeline.reduce.nearest import flat_kernel, nearest, unit


def rows(n, d, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


@pytest.mark.parametrize(("n", "d", "k", "l"), [(500, 64, 50, 8), (300, 256, 400, 1), (7, 3, 5, 5), (40, 16, 1, 1)])
def test_equals_a_float64_search_of_every_centre(n, d, k, l):  # noqa: E741
    x, centres = rows(n, d), rows(k, d, seed=1)
    every = (x.astype(np.float64) @ centres.astype(np.float64).T).astype(np.float32)
    expected = np.argsort(-every, axis=1, kind="stable")[:, :l]
    ids, values = nearest(x, centres, l)
    assert ids.dtype == np.int32
    assert values.dtype == np.float32
    assert np.array_equal(ids, expected)
    assert np.allclose(values, np.take_along_axis(every, expected, 1), atol=1e-7)


@pytest.mark.parametrize("block", [1, 7, 20, 333, 1999])
def test_block_size_changes_no_bit(block):
    x, centres = rows(2000, 256), rows(300, 256, seed=1)
    whole = nearest(x, centres, 8)
    parts = [nearest(x[at : at + block], centres, 8) for at in range(0, len(x), block)]
    assert np.array_equal(np.concatenate([ids for ids, _ in parts]), whole[0])
    assert np.array_equal(np.concatenate([values for _, values in parts]), whole[1])


def test_rounding_of_the_kernel_changes_no_bit():
    x, centres = rows(1000, 64), np.tile(rows(5, 64, seed=1), (12, 1))   # more equal centres than spare candidates
    jitter = np.random.default_rng(2)

    def rough(x, centres, m):
        values = x @ centres.T + jitter.uniform(-1e-6, 1e-6, (len(x), len(centres))).astype(np.float32)
        ids = np.argsort(-values, axis=1)[:, :m]
        return ids, np.take_along_axis(values, ids, 1)

    exact, other = nearest(x, centres, 4), nearest(x, centres, 4, rough)
    assert np.array_equal(exact[0], other[0])
    assert np.array_equal(exact[1], other[1])
    assert not np.array_equal(flat_kernel(x, centres, 4)[0], rough(x, centres, 4)[0])


def test_equal_centres_rank_by_the_lower_id():
    x = rows(30, 32)
    ids, _ = nearest(x, np.repeat(rows(1, 32, seed=1), 60, axis=0), 8)
    assert (ids == np.arange(8)).all()


def test_no_rows_give_no_ids():
    ids, values = nearest(np.empty((0, 4), np.float32), rows(3, 4), 2)
    assert ids.shape == values.shape == (0, 2)


@pytest.mark.parametrize("l", [0, 4])
def test_more_labels_than_centres_is_refused(l):  # noqa: E741
    with pytest.raises(ValueError, match="nearest of 3 centres"):
        nearest(rows(5, 4), rows(3, 4), l)


def test_rows_that_are_not_finite_are_refused():
    x = rows(5, 4)
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        nearest(x, rows(3, 4), 1)


def test_stored_float16_rows_get_unit_length_again_and_zero_rows_stay_zero():
    stored = np.vstack([rows(100, 256), np.zeros((1, 256))]).astype(np.float16)
    length = np.linalg.norm(unit(stored), axis=1)
    assert np.abs(length[:-1] - 1).max() < 1e-6
    assert length[-1] == 0
