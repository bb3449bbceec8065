"""Rows of many callers in batches of one shape: nothing is mixed up, nobody waits for ever, buffers are bounded."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pipeline.models.device.lanes import LINGER, Lane, Slot, Start, no_wait

ROWS = 8


def lane(start: Start, slots: int = 2) -> Lane:
    return Lane([Slot(torch.zeros(ROWS, 3), torch.zeros(ROWS, 1)) for _ in range(slots)], start, "test")


def summed(batches: list[int] | None = None) -> Start:
    """A tower that adds up each row, slowly enough for rows to meet."""
    def start(slot: Slot) -> Callable[[], None]:
        if batches is not None:
            batches.append(slot.reserved)
        time.sleep(0.001)
        slot.outputs.copy_(slot.inputs.sum(1, keepdim=True))
        return no_wait
    return start


def asked(to: Lane, rows: torch.Tensor) -> torch.Tensor:
    """What a caller gets for its rows [n, 3]."""
    shares, at = to.reserve(len(rows)), 0
    for share in shares:
        size = share.stop - share.start
        share.slot.inputs[share.start:share.stop] = rows[at:at + size]
        at += size
        to.arrived(share)
    found = []
    for share in shares:
        share.slot.computed.wait()
        found.append(share.slot.outputs[share.start:share.stop].clone())
    for share in shares:
        to.fetched(share)
    return torch.cat(found)


@pytest.mark.parametrize("slots", [2, 3])
def test_every_caller_gets_what_its_own_rows_give(slots: int) -> None:
    """With requests of up to a whole batch from more threads than there are slots: whoever held part of a slot and waited for the
    next would wait for ever."""
    to, draws = lane(summed(), slots), np.random.default_rng(0)
    inputs = [torch.from_numpy(draws.standard_normal((int(draws.integers(1, ROWS + 1)), 3), np.float32)) for _ in range(400)]
    with ThreadPoolExecutor(12) as pool:
        for rows, found in zip(inputs, pool.map(lambda rows: asked(to, rows), inputs), strict=True):
            assert torch.equal(found, rows.sum(1, keepdim=True))


def test_rows_of_several_callers_share_a_batch() -> None:
    batches: list[int] = []
    to = lane(summed(batches))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: asked(to, torch.ones(2, 3)), range(80)))
    assert sum(batches) == 160
    assert max(batches) == ROWS
    assert len(batches) < 60


def test_an_idle_device_does_not_wait_long_for_a_full_batch() -> None:
    to = lane(summed())
    began = time.monotonic()
    assert asked(to, torch.ones(1, 3)).item() == 3
    assert time.monotonic() - began < 100 * LINGER


def test_a_batch_that_fails_is_told_to_its_callers_and_the_next_one_goes_on() -> None:
    failing = threading.Event()
    failing.set()

    def start(slot: Slot) -> Callable[[], None]:
        if failing.is_set():
            raise MemoryError("no room")
        return summed()(slot)

    to = lane(start)
    share = to.reserve(1)[0]
    to.arrived(share)
    share.slot.computed.wait(5)
    assert isinstance(share.slot.error, MemoryError)
    to.fetched(share)
    failing.clear()
    assert asked(to, torch.ones(3, 3)).tolist() == [[3.0]] * 3


def test_a_slot_that_held_a_failed_batch_tells_its_next_callers_of_no_error() -> None:
    tries = []

    def start(slot: Slot) -> Callable[[], None]:
        tries.append(slot)
        if len(tries) == 1:
            raise MemoryError("no room")
        return summed()(slot)

    to = lane(start, slots=1)
    for error in (MemoryError, type(None)):
        share = to.reserve(2)[0]
        to.arrived(share)
        assert share.slot.computed.wait(5)
        assert isinstance(share.slot.error, error)
        to.fetched(share)
    assert tries[0] is tries[1]


@pytest.mark.parametrize("wanted", [2, ROWS])
def test_no_batch_is_computed_before_its_rows_are_there_however_long_they_take(wanted: int) -> None:
    """Neither by a device that is idle nor because it is full; and others are not held up by it."""
    to = lane(summed())
    (late,) = to.reserve(wanted)
    if wanted == ROWS:
        assert asked(to, torch.ones(ROWS, 3)).tolist() == [[3.0]] * ROWS
    assert not late.slot.computed.wait(20 * LINGER)
    late.slot.inputs[:wanted] = 2
    to.arrived(late)
    assert late.slot.computed.wait(5)
    assert late.slot.outputs[:wanted].tolist() == [[6.0]] * wanted
    to.fetched(late)


def test_a_wait_that_fails_is_told_as_well() -> None:
    def start(slot: Slot) -> Callable[[], None]:
        def wait() -> None:
            raise RuntimeError("device lost")
        return wait

    to = lane(start)
    share = to.reserve(2)[0]
    to.arrived(share)
    share.slot.computed.wait(5)
    assert "device lost" in str(share.slot.error)


def test_there_are_no_more_rows_at_once_than_the_slots_hold() -> None:
    """Back-pressure: the next caller waits until a slot is fetched."""
    to = lane(summed())
    held = [to.reserve(ROWS), to.reserve(ROWS)]
    third = threading.Thread(target=lambda: held.append(to.reserve(1)), daemon=True)
    third.start()
    third.join(0.2)
    assert third.is_alive()
    to.arrived(held[0][0])
    to.fetched(held[0][0])
    third.join(5)
    assert len(held) == 3
