"""Keys of 128 bits: their order, what is found among others, and how ranges of them are partitions."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.shuffle.keys import Keys, distinct, found, hash_keys, hex_keys, key_order, merged, partition_of, text_keys


def numbers(keys: Keys) -> list[int]:
    return [(int(high) << 64) | int(low) for high, low in keys]


def close_keys(seed: int, count: int) -> Keys:
    """Keys of which many share a half or are equal."""
    return np.random.default_rng(seed).integers(0, 5, (count, 2)).astype(np.uint64)


@pytest.mark.parametrize("count", [0, 1, 200])
def test_keys_are_ordered_as_numbers_and_equal_ones_as_their_rows(count: int) -> None:
    keys = close_keys(1, count)
    assert key_order(keys).tolist() == sorted(range(count), key=lambda row: (numbers(keys)[row], row))
    assert numbers(distinct(keys)) == sorted(set(numbers(keys)))


def test_merging_and_finding_agree_with_sets() -> None:
    some, others = distinct(close_keys(2, 9)), distinct(close_keys(3, 9))
    assert numbers(merged(some, others)) == sorted({*numbers(some), *numbers(others)})
    is_there, place = found(others, some)
    assert is_there.tolist() == [number in numbers(some) for number in numbers(others)]
    assert (some[place[is_there]] == others[is_there]).all()
    assert not found(others, np.zeros((0, 2), np.uint64))[0].any()


def test_partitions_are_ranges_of_all_keys_and_about_as_large() -> None:
    keys = text_keys(pa.array([f"caption {i}" for i in range(6000)]))
    partition = partition_of(keys, 3)
    assert (np.diff(partition[key_order(keys)]) >= 0).all()
    assert np.bincount(partition).min() > 1800


def test_a_hexadecimal_key_is_the_number_it_says_and_another_length_is_refused() -> None:
    digits = "00000000000000ff" "fffffffffffffffe"
    assert hex_keys(pa.array([digits, digits + "77"])).tolist() == [[255, 2**64 - 2]] * 2
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        hex_keys(pa.array(["ff"]))


@pytest.mark.parametrize("digits", ["{:032x}", "{:016x}0000000000000000", "{:064x}", "{:032x}" + "0" * 32, "{:048x}" + "0" * 16])
def test_hashes_that_differ_anywhere_have_keys_that_differ_and_are_spread_evenly(digits: str) -> None:
    keys = hash_keys(pa.array([digits.format(i) for i in range(3000)]))
    assert len(distinct(keys)) == 3000
    assert np.bincount(partition_of(keys, 3)).min() > 900
    assert hash_keys(pa.array([], pa.string())).shape == (0, 2)
    with pytest.raises(ValueError, match="32 or 64 hexadecimal digits"):
        hash_keys(pa.array(["ff" * 10]))
