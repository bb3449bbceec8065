"""Batches by worker processes: every sample once, and exactly from where it was stopped. `test_loader.py` runs this file."""

import json
import os
import signal
from itertools import islice
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path

import fsspec
import pytest
import torch

from pipeline.feed.dataset import Fields
from tests.feed.conftest import COUNTS, loaders, numbers

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")   # more processes than this machine has CPUs
TOTAL = sum(COUNTS)


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_sample_comes_once_in_an_epoch_over_uneven_shards(export: Path, ranks: int, workers: int) -> None:
    readers = loaders(export, ranks, workers)
    expected = [len(loader) for loader in readers]
    batches = [list(loader) for loader in readers]
    assert sorted(number for part in batches for number in numbers(part)) == list(range(TOTAL))
    assert [len(part) for part in batches] == expected
    assert [loader.epoch for loader in readers] == [1] * ranks


@pytest.mark.parametrize("tail", ["drop", "pad", "wrap"])
def test_ranks_have_equally_many_batches_where_that_is_asked_for(export: Path, tail: str) -> None:
    parts = [list(loader) for loader in loaders(export, 3, 2, tail=tail)]
    assert len({len(part) for part in parts}) == len({len(numbers(part)) for part in parts}) == 1
    fed = sorted(number for part in parts for number in numbers(part))
    missing = TOTAL % 6
    assert len(fed) == TOTAL - missing if tail == "drop" else len(fed) == TOTAL + 6 - missing
    assert len(set(fed)) == (len(fed) if tail == "drop" else TOTAL)


@pytest.mark.parametrize("stop", [7, 20])
@pytest.mark.parametrize(
    ("before", "after"), [((1, 2), (1, 2)), ((1, 3), (1, 3)), ((2, 2), (3, 1)), ((1, 0), (2, 0)), ((2, 0), (2, 2))])
def test_stopped_anywhere_the_rest_comes_once_and_in_the_same_order_where_the_readers_are_the_same(
    export: Path, stop: int, before: tuple[int, int], after: tuple[int, int],
) -> None:
    seen, states, expected = list[int](), [], []
    for loader, whole in zip(loaders(export, *before), loaders(export, *before), strict=True):
        seen += numbers(list(islice(iter(loader), stop // before[0])))
        states.append(json.loads(json.dumps(loader.state_dict())))
        expected.append(numbers(list(whole)))
    rest = []
    for rank, loader in enumerate(loaders(export, *after)):
        loader.load_state_dict(states[rank] if before[0] == after[0] else states)
        rest.append(list(loader))
        assert loader.epoch == 1
    assert sorted(seen + [number for part in rest for number in numbers(part)]) == list(range(TOTAL))
    if before == after:
        for rank, part in enumerate(rest):
            assert numbers(part) == expected[rank][len(expected[rank]) - len(numbers(part)):]


def killed_at_sample_99(captions: list[str]) -> torch.Tensor:
    if "sample 99" in captions:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.empty(0)


def fed_until_killed(export: Path, answer: Connection) -> None:
    """In a process of its own: torch raises the death of a worker wherever the main thread is."""
    loader = loaders(export, 1, 2, fields=Fields(image=None, tokens=killed_at_sample_99))[0]
    seen: list[int] = []
    try:
        for batch in loader:
            seen += numbers([batch])
    except RuntimeError as error:
        answer.send((str(error), seen, loader.state_dict()))
    answer.close()


def test_a_worker_that_is_killed_is_an_error_and_the_rest_comes_once(export: Path) -> None:
    mine, its = Pipe()
    process = get_context("fork").Process(target=fed_until_killed, args=(export, its))
    process.start()
    its.close()   # else nobody would see that the process has ended without an answer
    assert mine.poll(120)
    error, seen, state = mine.recv()
    process.join(60)
    assert "killed by signal" in error or "exited unexpectedly" in error
    again = loaders(export, 1, 2)[0]
    again.load_state_dict(state)
    assert sorted(seen + numbers(list(again))) == list(range(TOTAL))
    assert 0 < len(seen) < TOTAL


def test_from_an_object_store_the_same_batches_come_by_ranges_in_worker_processes_too(export: Path, s3_server: str) -> None:
    fsspec.filesystem("s3").put(str(export), "bucket/export", recursive=True)
    near, far = ([numbers(list(loader)) for loader in loaders(place, 1, 2)] for place in (export, "s3://bucket/export"))
    assert far == near
