"""Which sample is fed when: every one once, whoever reads."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.feed.order import Order
from pipeline.feed.shares import TAILS, Share, merged, rest, size, split

COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=12)
orders = st.builds(
    lambda counts, seed, epoch, block, blocks, shuffle: Order(tuple(counts), seed, epoch, block, block * blocks, shuffle),
    COUNTS, st.integers(-3, 2**40), st.integers(0, 3), st.integers(1, 9), st.integers(1, 5), st.booleans(),
)


def fed(order: Order, intervals: tuple[tuple[int, int], ...]) -> list[int]:
    return [int(sample) for start, stop in intervals for window in order.windows(start, stop) for sample in window]


@settings(deadline=None)
@given(orders)
def test_an_epoch_has_every_sample_once(order: Order) -> None:
    assert sorted(fed(order, ((0, order.total),))) == list(range(order.total))


@settings(deadline=None)
@given(orders, st.data())
def test_a_part_of_an_epoch_is_that_part_of_its_order(order: Order, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, order.total))
    stop = data.draw(st.integers(start, order.total))
    assert fed(order, ((start, stop),)) == fed(order, ((0, order.total),))[start:stop]


@settings(deadline=None)
@given(orders)
def test_a_sample_number_is_a_shard_and_a_row(order: Order) -> None:
    shard, row = order.located(np.arange(order.total))
    expected = [(s, r) for s, count in enumerate(order.counts) for r in range(count)]
    assert list(zip(shard.tolist(), row.tolist(), strict=True)) == expected


def test_unshuffled_is_as_they_are_and_each_seed_and_epoch_is_another_order() -> None:
    counts = (50, 0, 77)
    assert fed(Order(counts, shuffle=False), ((0, 127),)) == list(range(127))
    lists = {tuple(fed(Order(counts, seed, epoch, 4, 16), ((0, 127),))) for seed in range(3) for epoch in range(3)}
    assert len(lists) == 9


@pytest.mark.parametrize("blocks", [1, 2, 5, 12])
def test_blocks_lie_anywhere_with_equal_chance(blocks: int) -> None:
    """Mean place of a block over seeds, against a uniform place: within five standard errors."""
    seeds = 100
    places = np.zeros((seeds, blocks))
    for seed in range(seeds):
        order = Order((blocks,), seed, 0, 1, 1)
        places[seed, fed(order, ((0, blocks),))] = np.arange(blocks)
    error = np.sqrt((blocks**2 - 1) / 12 / seeds)
    assert np.abs(places.mean(axis=0) - (blocks - 1) / 2).max() <= 5 * error + 1e-9


def test_neighbours_are_read_together_and_fed_far_apart() -> None:
    order = Order((20_000,), 0, 0, 32, 2048)
    samples = np.array(fed(order, ((0, 20_000),)))
    assert abs(np.corrcoef(samples, np.arange(20_000))[0, 1]) < 0.2
    window = samples[:2048]
    assert len(np.unique(window // 32)) == 2048 // 32
    assert np.abs(np.diff(window)).mean() > 4000


def test_a_billion_samples_take_no_memory_of_their_number() -> None:
    order = Order((10_000,) * 100_000, 7)
    window = next(order.windows(123_456_789, 123_456_799))
    assert len(set(window.tolist())) == 10


@pytest.mark.parametrize(("block", "window"), [(0, 32), (32, 16), (32, 48)])
def test_a_window_that_is_no_multiple_of_a_block_is_refused(block: int, window: int) -> None:
    with pytest.raises(ValueError, match=f"window={window}: give a multiple of block={block}"):
        Order((10,), block=block, window=window)


intervals = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), max_size=6).map(
    lambda pairs: tuple((100 * i + start, 100 * i + start + n) for i, (start, n) in enumerate(pairs)))


@settings(deadline=None)
@given(intervals, st.integers(1, 40))
def test_shares_are_disjoint_whole_in_order_and_of_equal_size(left: tuple[tuple[int, int], ...], readers: int) -> None:
    shares = split(left, readers)
    assert merged([share.own for share in shares]) == merged([left])
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert not any(share.again for share in shares)


@settings(deadline=None)
@given(intervals.filter(bool), st.integers(1, 40))
def test_a_tail_makes_all_shares_equal_and_says_what_it_costs(left: tuple[tuple[int, int], ...], readers: int) -> None:
    total = size(left)
    drop, pad, wrap = (split(left, readers, tail) for tail in ("drop", "pad", "wrap"))
    for shares in (drop, pad, wrap):
        assert len({len(share) for share in shares}) == 1
    assert sum(map(len, drop)) == total - total % readers
    for shares in (pad, wrap):
        assert merged([share.own for share in shares]) == merged([left])
        assert sum(size(share.again) for share in shares) == -total % readers
    positions = {p for start, stop in left for p in range(start, stop)}
    assert all(p in positions for share in (*pad, *wrap) for start, stop in share.again for p in range(start, stop))


def test_another_tail_is_refused() -> None:
    with pytest.raises(ValueError, match="tail='last': choose one of uneven, drop, pad, wrap"):
        split(((0, 3),), 2, "last")   # type: ignore[arg-type]
    assert len(TAILS) == 4


@settings(deadline=None)
@given(intervals, st.data())
def test_what_is_left_of_a_share_is_what_was_not_fed(left: tuple[tuple[int, int], ...], data: st.DataObject) -> None:
    done = data.draw(st.integers(0, size(left) + 3))
    positions = [p for start, stop in left for p in range(start, stop)]
    assert [p for start, stop in rest(left, done) for p in range(start, stop)] == positions[done:]
    share = Share(left, ((0, 2),))
    assert len(share.after(done)) == max(0, len(share) - done)


topologies = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 4)), min_size=2, max_size=4)


@settings(max_examples=60, deadline=None)
@given(orders.filter(lambda order: order.total > 0), topologies, st.randoms(use_true_random=False))
def test_stopped_anywhere_and_continued_by_others_an_epoch_has_every_sample_once(
    order: Order, readers: list[tuple[int, int]], random: Random,
) -> None:
    """Each topology feeds some of what is left, every reader another number; the last one feeds the rest."""
    left: tuple[tuple[int, int], ...] = ((0, order.total),)
    seen: list[int] = []
    for ranks, workers in readers[:-1]:
        remaining = []
        for share in split(left, ranks * workers):
            done = random.randint(0, len(share))
            seen += fed(order, share.own)[:done]
            remaining.append(share.after(done).own)
        left = merged(remaining)
    ranks, workers = readers[-1]
    for share in split(left, ranks * workers):
        seen += fed(order, share.own)
    assert sorted(seen) == list(range(order.total))
