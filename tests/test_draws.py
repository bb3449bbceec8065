import numpy as np

from pipeline.draws import sampled, uids_below


def test_a_sample_of_rows_is_seeded_exact_and_in_their_order() -> None:
    rows = np.flatnonzero(np.arange(1000) % 3 > 0)
    chosen = sampled(rows, 128, 5)
    assert len(chosen) == 128
    assert np.isin(chosen, rows).all()
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, sampled(rows, 128, 5))
    assert not np.array_equal(chosen, sampled(rows, 128, 6))
    assert sampled(np.array([0, 2]), 128, 0).tolist() == [0, 2]


def test_stored_samples_stay_what_they_were() -> None:
    """Tables are named by recipe and input, not by how numpy draws: these very rows are behind them."""
    assert sampled(np.arange(100), 5, 0).tolist() == [26, 30, 50, 61, 81]
    rng = np.random.default_rng(0)
    assert sampled(np.arange(100), 5, rng).tolist() == [26, 30, 50, 61, 81]
    assert sampled(np.arange(100), 5, rng).tolist() != [26, 30, 50, 61, 81]


def test_uids_below_a_text_are_that_share_of_all() -> None:
    uids = [f"{int(value):08x}" for value in np.random.default_rng(0).integers(0, 16**8, 20_000)]
    for share in (0.0, 0.01, 0.5, 1.0):
        assert abs(np.mean([uid < uids_below(share) for uid in uids]) - share) < 0.01
    assert uids_below(1.0) > "ffffffff"
