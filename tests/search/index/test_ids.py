"""Ids of vectors: shard and row, there and back."""

import numpy as np
import pytest

from pipeline.search.index.ids import NOTHING, ShardNumbers, ids_of, parted


def test_an_id_is_its_shard_and_row_again() -> None:
    numbers, rows = np.array([0, 3, 2**31 - 1]), np.array([0, 2**32 - 1, 7])
    ids = np.concatenate([ids_of(int(number), rows[i : i + 1]) for i, number in enumerate(numbers)])
    assert (ids >= 0).all()
    found = parted(ids)
    assert found[0].tolist() == numbers.tolist()
    assert found[1].tolist() == rows.tolist()
    assert parted(np.array([NOTHING]))[0].tolist() == [-1]


def test_ids_are_located_shard_by_shard_and_no_neighbour_is_nowhere() -> None:
    shards = ShardNumbers(["a", "b", "c"])
    ids = np.array([ids_of(2, np.array([5]))[0], NOTHING, ids_of(0, np.array([9]))[0], ids_of(2, np.array([1]))[0]])
    found = [(shard_id, places.tolist(), rows.tolist()) for shard_id, places, rows in shards.located(ids)]
    assert found == [("a", [2], [9]), ("c", [0, 3], [5, 1])]
    assert list(shards.located(np.zeros(0, np.int64))) == []
    with pytest.raises(IndexError):
        list(shards.located(ids_of(3, np.array([0]))))


def test_a_shard_that_is_there_again_counts_by_its_last_number() -> None:
    shards = ShardNumbers(["a", "b", "a"])
    assert shards.ids("a", np.array([4])).tolist() == [(2 << 32) + 4]
    assert shards.number("z") is None
    assert shards.ids("z", np.array([4])).tolist() == []
