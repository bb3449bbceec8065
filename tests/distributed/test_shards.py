from pathlib import Path

import pytest

from pipeline.distributed.local import LocalExecutor
from pipeline.distributed.ray_executor import ATTEMPTS, Patience, RayExecutor
from pipeline.errors import ShardmillError
from pipeline.work import Outcome
from tests.distributed.works import Opening, Placed, Squares

pytestmark = pytest.mark.usefixtures("machines")


def outcomes(executor: LocalExecutor | RayExecutor, work: Squares, items: list[int]) -> dict[int, Outcome[int]]:
    found = {outcome.item: outcome for outcome in executor.run(work, items)}
    if isinstance(executor, RayExecutor):
        executor.close()
    assert sorted(found) == sorted(items)
    return found


def test_local_and_ray_give_the_same_facts(tmp_path: Path) -> None:
    items = list(range(7))
    local = outcomes(LocalExecutor(), Squares(str(tmp_path)), items)
    distributed = outcomes(RayExecutor(2), Squares(str(tmp_path)), items)
    assert {i: o.facts for i, o in local.items()} == {i: o.facts for i, o in distributed.items()}
    assert all(outcome.error is None and outcome.attempts == 1 for outcome in distributed.values())


def test_an_item_that_raises_is_given_up_by_name_after_three_attempts_and_the_rest_is_done(tmp_path: Path) -> None:
    work = Squares(str(tmp_path), raises=(3,))
    found = outcomes(RayExecutor(2), work, list(range(6)))
    assert found[3].error == "ValueError: cannot square 3"
    assert found[3].attempts == ATTEMPTS == len(work.attempts(3))
    assert all(found[i].facts == {"rows": 1, "square": i * i} for i in (0, 1, 2, 4, 5))


def test_an_item_that_kills_its_worker_is_tried_in_three_processes_and_no_other_item_is_blamed(tmp_path: Path) -> None:
    work = Squares(str(tmp_path), dies=(1,))
    found = outcomes(RayExecutor(1, patience=Patience(detection=2.0)), work, list(range(5)))
    assert found[1].error is not None
    assert "died" in found[1].error
    pids = {name.split(".")[2] for name in work.attempts(1)}
    assert len(pids) == ATTEMPTS
    assert all(found[i].error is None and found[i].attempts == 1 for i in (0, 2, 3, 4))


def test_an_item_whose_worker_died_once_is_done_in_a_fresh_process(tmp_path: Path) -> None:
    work = Squares(str(tmp_path), dies_once=(0, 2))
    found = outcomes(RayExecutor(2), work, list(range(4)))
    assert all(outcome.error is None for outcome in found.values())
    assert found[0].attempts == found[2].attempts == 2


def test_a_work_that_cannot_open_stops_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ShardmillError, match="nothing opens here"):
        list(RayExecutor(1).run(Squares(str(tmp_path), opens=False), [1, 2]))


def test_actors_are_kept_for_the_next_work(tmp_path: Path) -> None:
    executor, work = RayExecutor(1), Squares(str(tmp_path))
    for items in ([1, 2], [3]):
        assert len(list(executor.run(work, items))) == len(items)
    executor.close()
    assert len({name.split(".")[2] for item in (1, 2, 3) for name in work.attempts(item)}) == 1


def test_an_actor_that_is_slow_to_open_what_others_did_meanwhile_is_kept_too(tmp_path: Path) -> None:
    executor = RayExecutor(2)
    before = {outcome.facts["pid"] for outcome in executor.run(Placed(str(tmp_path / "before"), 2), [1, 2])}
    assert len(list(executor.run(Opening(str(tmp_path), slow=min(before)), [1, 2]))) == 2
    after = {outcome.facts["pid"] for outcome in executor.run(Placed(str(tmp_path / "after"), 2), [1, 2])}
    executor.close()
    assert after == before


def test_no_items_need_no_worker(tmp_path: Path) -> None:
    assert list(RayExecutor(2).run(Squares(str(tmp_path), opens=False), [])) == []
