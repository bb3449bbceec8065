"""Nodes that join and leave a cluster of three while a pass runs."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from pipeline.distributed.attempts import Patience
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.work import Outcome
from tests.distributed.conftest import Machines
from tests.distributed.works import Troubled

ITEMS = range(16)
PATIENCE = Patience(stall=4.0, detection=3.0)
LONG = 40.0


def test_a_node_that_joins_gets_work_and_one_whose_power_goes_costs_no_item_an_attempt(at_three: Machines, tmp_path: Path) -> None:
    def story(work: Troubled) -> str:
        new = at_three.add(cpus=1)
        wait_until(lambda: new.node_id in nodes_of(work))
        at_three.lose(new)
        wait_until(lambda: new.node_id not in alive())
        return new.node_id

    work, found, node = passed(story, tmp_path)
    lost = [item for item, _, where in work.attempts() if where == node]
    assert len(lost) == 1
    assert len(work.attempts(lost[0])) == 2
    assert {item: (outcome.error, outcome.attempts) for item, outcome in found.items()} == {item: (None, 1) for item in ITEMS}


def test_a_node_that_leaves_costs_its_current_item_only(at_three: Machines, tmp_path: Path) -> None:
    def story(work: Troubled) -> str:
        leaving = next(iter(at_three.cluster.worker_nodes))
        wait_until(lambda: leaving.node_id in nodes_of(work))
        at_three.leave(leaving)
        wait_until(lambda: leaving.node_id not in alive())
        return leaving.node_id

    work, found, node = passed(story, tmp_path)
    assert sum(where == node for _, _, where in work.attempts()) == 1
    assert len(work.attempts()) == len(ITEMS) + 1
    assert {item: (outcome.error, outcome.attempts) for item, outcome in found.items()} == {item: (None, 1) for item in ITEMS}


def test_actors_that_find_no_room_do_not_keep_a_pass_from_its_end(at_three: Machines, tmp_path: Path) -> None:
    executor, work = RayExecutor(12, patience=PATIENCE), Troubled(str(tmp_path))
    assert len(list(executor.run(work, ITEMS))) == len(ITEMS)
    executor.close()


def passed(story: Callable[[Troubled], str], folder: Path) -> tuple[Troubled, dict[int, Outcome[int]], str]:
    """A pass, in a thread, whose items wait at a gate until the story is told."""
    work = Troubled(str(folder), tuple((item, "gate") for item in ITEMS))
    executor = RayExecutor(patience=PATIENCE)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(lambda: {outcome.item: outcome for outcome in executor.run(work, ITEMS)})
        try:
            wait_until(lambda: len(work.attempts()) >= executor.workers)
            told = story(work)
        finally:
            (folder / "gate").touch()
        outcomes = found.result()
    executor.close()
    return work, outcomes, told


def nodes_of(work: Troubled) -> set[str]:
    return {node for _, _, node in work.attempts()}


def alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > until:
            pytest.fail("it never came")
        time.sleep(0.1)
