"""Whose fault it was, without a cluster."""

from pipeline.distributed.attempts import ATTEMPTS, Attempt, Backlog, Failure
from pipeline.distributed.ray_cluster import Nodes

HERE, THERE, GONE = "here", "there", "gone"


def spent(*failures: Failure) -> Attempt[str]:
    attempt = Attempt("item")
    for failure in failures:
        attempt = attempt.with_failure(failure)
    return attempt


def died(node: str, at: float = 0.0) -> Failure:
    return Failure("died", node, at)


def test_an_item_is_given_up_after_three_deaths_of_its_own() -> None:
    backlog: Backlog[str] = Backlog([], HERE, detection=30.0)
    backlog.add(spent(died(HERE), died(HERE), died(HERE)))
    assert [len(a.failures) for a in backlog.given_up({HERE, THERE}, now=0.1)] == [ATTEMPTS]
    assert backlog.empty


def test_deaths_that_came_with_a_node_are_not_counted_even_if_known_later() -> None:
    backlog: Backlog[str] = Backlog([], HERE, detection=30.0)
    backlog.add(spent(died(THERE), died(GONE, at=90.0), died(HERE)))
    assert list(backlog.given_up({HERE, THERE, GONE}, now=100.0)) == []   # nobody knows yet
    assert not backlog.empty
    assert list(backlog.given_up({HERE, THERE}, now=110.0)) == []
    assert [attempt.number for attempt in backlog.apart] == [3]


def test_after_the_time_of_detection_a_living_node_is_not_to_blame() -> None:
    backlog: Backlog[str] = Backlog([], HERE, detection=30.0)
    backlog.add(spent(died(THERE), died(THERE), died(THERE, at=50.0)))
    assert list(backlog.given_up({HERE, THERE}, now=79.0)) == []
    assert len(list(backlog.given_up({HERE, THERE}, now=81.0))) == 1


def test_an_error_that_was_raised_is_never_the_fault_of_a_node() -> None:
    raised = Failure("ValueError", GONE, at=100.0, death=False)
    backlog: Backlog[str] = Backlog([], HERE, detection=30.0)
    backlog.add(spent(raised, raised, raised))
    assert len(list(backlog.given_up({HERE}, now=100.0))) == 1


def test_those_that_only_waited_go_first_and_those_that_failed_go_last() -> None:
    backlog = Backlog([1, 2], HERE, detection=30.0)
    backlog.add(Attempt(7, (died(HERE),)))
    backlog.put_back([Attempt(8), Attempt(9)])
    assert len(backlog) == 5
    assert [backlog.next().item for _ in range(5)] == [8, 9, 1, 2, 7]


def test_seats_are_those_that_fit_on_each_node() -> None:
    nodes = Nodes({"a": {"CPU": 4.0, "GPU": 2.0}, "b": {"CPU": 3.0}, "c": {"memory": 1.0}})
    assert nodes.seats(1, 0) == 7
    assert nodes.seats(2, 0) == 3
    assert nodes.seats(1, 1) == 2
    assert Nodes({}).seats(1, 0) == 1
