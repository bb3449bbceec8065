"""Items that end their process, hang or raise: given up by name after three processes, and nothing else is harmed."""

import importlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from pipeline.distributed.attempts import ATTEMPTS, Patience
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.errors import OutputError, ShardmillError
from pipeline.store.blocks.groups import Group, Grouped, parts, undone
from pipeline.work import Outcome, heard
from tests.distributed.works import ROWS_OF_SLOW, Opening, Squares, Troubled

pytestmark = pytest.mark.usefixtures("machines")

QUICK = Patience(stall=1.5, opening=20.0, detection=2.0)
DEADLY = {1: "segfault", 4: "kill", 7: "exit"}
HANGING = {2: "sleep", 5: "regex", 8: "stop"}
SLOW = 9


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Troubled, dict[int, Outcome[int]]]:
    """A pass over twelve items, six of which never end well; the work with its traces, and the outcomes."""
    troubles = {**DEADLY, **HANGING, SLOW: "slow"}
    work = Troubled(str(tmp_path_factory.mktemp("trouble")), tuple(troubles.items()))
    executor = RayExecutor(patience=QUICK)
    found = {outcome.item: outcome for outcome in executor.run(work, range(12))}
    executor.close()
    return work, found


@pytest.mark.parametrize("item", DEADLY)
def test_an_item_that_ends_its_process_is_given_up_after_three_processes(
    troubled: tuple[Troubled, dict[int, Outcome[int]]], item: int,
) -> None:
    work, found = troubled
    assert "worker process died" in str(found[item].error)
    assert found[item].attempts == ATTEMPTS
    assert len({pid for _, pid, _ in work.attempts(item)}) == len(work.attempts(item)) == ATTEMPTS


@pytest.mark.parametrize("item", HANGING)
def test_an_item_that_hangs_is_given_up_after_three_processes_none_of_which_lives_on(
    troubled: tuple[Troubled, dict[int, Outcome[int]]], item: int,
) -> None:
    work, found = troubled
    assert found[item].error == "no progress for 1.5 s (hung)"
    pids = {pid for _, pid, _ in work.attempts(item)}
    assert len(pids) == found[item].attempts == ATTEMPTS
    until = time.monotonic() + 10   # Ray takes 5 s to end a process that is stopped
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(runs, pids))


def test_of_a_group_only_what_fails_by_itself_is_given_up_after_three_tries_of_its_own(tmp_path: Path) -> None:
    """One of a group raises, one of another ends the process of all three."""
    work, executor = Grouped(Squares(str(tmp_path), raises=(5,), dies=(8,))), RayExecutor(patience=Patience(detection=2.0))
    outcomes = list(executor.run(work, [Group((1, 2, 3)), Group((4, 5, 6)), Group((7, 8, 9)), 10]))
    executor.close()
    given_up = {outcome.item: outcome.attempts for outcome in outcomes if outcome.error is not None}
    assert given_up == {5: ATTEMPTS, 8: ATTEMPTS}
    done = [item for outcome in outcomes if outcome.error is None for item in parts(outcome.item)]
    undone_at_first = [item for outcome in outcomes for item in undone(outcome.item, outcome.facts)]
    assert (sorted(done), undone_at_first) == ([1, 2, 3, 4, 5, 6, 7, 9, 10], [5])


def test_everything_else_is_done_at_once_and_slow_is_not_hung(troubled: tuple[Troubled, dict[int, Outcome[int]]]) -> None:
    _, found = troubled
    others = set(range(12)) - set(DEADLY) - set(HANGING)
    assert SLOW in others
    assert all(found[item].error is None for item in others)
    assert found[SLOW].attempts == 1


def test_the_last_try_is_alone_in_a_process_that_opened_the_careful_work(tmp_path: Path) -> None:
    work = Troubled(str(tmp_path), ((2, "careless"),))
    found = results(RayExecutor(1), work, range(6))
    assert found[2].error is None
    assert found[2].attempts == ATTEMPTS
    last = work.attempts(2)[-1][1]
    assert [item for item, pid, _ in work.attempts() if pid == last] == [2]


def test_what_raised_for_want_of_memory_is_tried_again_in_a_fresh_process(tmp_path: Path) -> None:
    work = Troubled(str(tmp_path), ((0, "memory"),))
    found = results(RayExecutor(1), work, range(4))
    assert found[0].attempts == 2
    assert found[0].error is None
    fresh = work.attempts(0)[-1][1]
    assert [item for item, pid, _ in work.attempts() if pid == fresh] == [0]


def test_an_output_that_cannot_be_written_stops_the_run_at_once(tmp_path: Path) -> None:
    work = Troubled(str(tmp_path), ((0, "disk"),))
    with pytest.raises(OutputError, match="the disk is full"):
        results(RayExecutor(1), work, range(3))
    assert len(work.attempts(0)) == 1


def test_an_idle_actor_that_died_is_replaced_silently(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    executor, work = RayExecutor(1), Troubled(str(tmp_path))
    list(executor.run(work, [0]))
    os.kill(work.attempts(0)[0][1], signal.SIGKILL)
    time.sleep(0.5)
    assert results(executor, work, [1])[1].attempts == 1
    assert not caplog.records


def test_a_reader_of_outcomes_that_takes_its_time_makes_no_worker_hung_and_hears_how_far_it_is(tmp_path: Path) -> None:
    work, told = Troubled(str(tmp_path), ((1, "slow"),)), list[int]()
    executor, found = RayExecutor(1, patience=QUICK), {}
    with heard(told.append):
        for outcome in executor.run(work, range(2)):
            found[outcome.item] = outcome
            time.sleep(1.8)
    executor.close()
    assert found[1].attempts == 1
    assert sorted(told) == told
    assert 0 < max(told) <= ROWS_OF_SLOW


def test_workers_that_die_opening_at_the_same_time_are_one_failed_start(tmp_path: Path) -> None:
    work = Opening(str(tmp_path), dies=4)
    assert len(results(RayExecutor(4), work, range(8))) == 8
    assert len(work.openings()) > 4


def test_a_work_that_never_opens_stops_the_run_with_its_reason(tmp_path: Path) -> None:
    work = Opening(str(tmp_path), hangs=True)
    with pytest.raises(ShardmillError, match=r"workers cannot start: the work was not open after 0.3 s \(hung\)"):
        results(RayExecutor(1, patience=Patience(opening=0.3)), work, [1])


ELSEWHERE = """
from tests.distributed.works import Squares


class Elsewhere(Squares):
    pass
"""


def test_a_work_whose_package_a_machine_lacks_stops_the_run_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "only_the_driver_has_it.py").write_text(ELSEWHERE)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        package = importlib.import_module("only_the_driver_has_it")
    says = "^workers cannot start: its machine lacks the Python package only_the_driver_has_it: install it on every machine"
    with pytest.raises(ShardmillError, match=says):
        results(RayExecutor(1), package.Elsewhere(str(tmp_path)), [1])


def results(executor: RayExecutor, work: Opening | Troubled, items: Sequence[int]) -> dict[int, Outcome[int]]:
    found = {outcome.item: outcome for outcome in executor.run(work, items)}
    executor.close()
    return found


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
