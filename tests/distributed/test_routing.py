"""Nodes of several kinds settle one numeric route. The lesser CPUs are this machine's, told so by the environment of their nodes;
torch takes their word, and computes by it."""

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from pipeline.distributed import growth, routing
from pipeline.distributed.agreement import LIMITS, Offer, Terms
from pipeline.distributed.growth import Waiting
from pipeline.distributed.ray_cluster import Nodes
from pipeline.distributed.ray_executor import Patience, RayExecutor, first_actor
from pipeline.distributed.routing import Machine, settle
from pipeline.errors import InputError, ShardmillError
from pipeline.models.route import RouteQuestion, RouteWish
from tests.distributed.conftest import Machines
from tests.distributed.works import ROUTE, Asking, Capable, pretended, process_of, provides

CPU = RouteWish(device="cpu")
LESSER = {"ATEN_CPU_CAPABILITY": "default"}
H100, A100 = "cuda-sm90-fp32-eager", "cuda-sm80-fp32-eager"
BIG, SMALL = "cpu-avx2-fp32-packed", "cpu-x86_64-fp32-packed"
MACHINE = Machine(pretended, provides)


def test_mixed_cpus_agree_on_the_lesser_and_torch_computes_by_it_on_all(at_three: Machines, tmp_path: Path) -> None:
    at_three.add(env=LESSER)
    terms = settle(CPU, machine=MACHINE)
    assert (terms.route, terms.limits, set(terms.providers), terms.kept_out) == (SMALL, LIMITS["x86_64"], alive(), {})
    executor = RayExecutor(terms=terms)
    found = [outcome.facts for outcome in executor.run(Capable(str(tmp_path), 5), range(10))]
    executor.close()
    assert {one["node"] for one in found} == alive()
    assert {one["capability"] for one in found} == {"DEFAULT"}


def test_the_process_that_answers_for_a_machine_alone_does_its_work_too(at_three: Machines, tmp_path: Path) -> None:
    with first_actor(Patience(), alone=True) as actor:
        terms = settle(CPU, machine=Machine(pretended, provides, actor))
        pid = ray.get(actor.answer.remote(process_of, CPU))
        executor = RayExecutor(1, terms=terms)
        executor.adopt(actor)
        assert [outcome.facts["pid"] for outcome in executor.run(Asking(str(tmp_path), 1), [1])] == [pid]
        executor.close()
    with first_actor(Patience(), alone=False) as actor:
        assert actor is None, "a cluster with other people may have no CPU for it"


def test_a_root_keeps_its_route_and_nodes_that_cannot_follow_are_kept_out_by_name_at_once_or_when_they_join(
    at_three: Machines, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    notes: list[str] = []
    early = at_three.add(env=LESSER)
    terms = settle(CPU, preferred=BIG, note=notes.append, machine=MACHINE)
    assert (terms.route, terms.limits, notes, set(terms.kept_out)) == (BIG, {}, [], {early.node_id})
    work, executor = Asking(str(tmp_path), 5), RayExecutor(terms=terms)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(lambda: list(executor.run(work, range(20))))
        late = at_three.add(env=LESSER)
        until = time.monotonic() + 40
        while len(said(caplog)) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        (tmp_path / "nobody.0").touch()  # the fifth that the others wait for
        outcomes = found.result()
    executor.close()
    assert {outcome.facts["node"] for outcome in outcomes} == alive() - {early.node_id, late.node_id}
    assert {(outcome.error, outcome.attempts) for outcome in outcomes} == {(None, 1)}
    assert [node.node_id[:8] in text for node, text in zip((early, late), said(caplog), strict=True)] == [True, True]


def test_a_gpu_that_torch_cannot_use_stops_the_run(at_three: Machines) -> None:
    """Ray counts a GPU that is not there: so it looks under a driver that is too old, or with a torch for the CPU."""
    at_three.add(gpus=1)
    with pytest.raises(InputError, match="there is a GPU, but torch"):
        settle(RouteWish())


def test_gpus_of_two_models_go_by_the_most_or_by_the_roots(at_three: Machines) -> None:
    nodes = [at_three.add(gpus=1, env={ROUTE: route}) for route in (A100, H100, H100)]
    notes: list[str] = []
    terms = settle(RouteWish(), machine=MACHINE)
    assert (terms.route, set(terms.providers)) == (H100, {nodes[1].node_id, nodes[2].node_id})
    assert A100 in terms.kept_out[nodes[0].node_id]
    assert settle(RouteWish(), preferred=A100, machine=MACHINE).providers == {nodes[0].node_id}
    assert settle(RouteWish(), preferred="cuda-sm120-fp32-eager", note=notes.append, machine=MACHINE).route == H100
    assert settle(RouteWish(), preferred=BIG, machine=MACHINE).providers == alive()


def test_a_root_s_route_that_nobody_has_any_more_leaves_the_wish_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes' answers are made up: asked for the CPU of the root, they agree on another one, which nobody wished for."""
    monkeypatch.setattr(routing, "_settled_by", lambda wish, *_: Terms(BIG if wish.device == "cpu" else H100))
    monkeypatch.setattr("pipeline.distributed.routing.cluster.nodes", lambda: Nodes({}))
    assert settle(RouteWish(), preferred="cpu-avx512-fp32-packed", machine=MACHINE).route == H100
    assert settle(RouteWish(), preferred=BIG, machine=MACHINE).route == BIG


def dies_on_gpus(question: RouteQuestion) -> str:
    """An answer whose process does not survive it where a GPU is."""
    if question.gpu_assigned:
        os._exit(1)
    return BIG


def lacks_a_library(question: RouteQuestion) -> str:
    raise ImportError("libtorch_cuda.so: failed to map segment from shared object")


def test_a_node_that_cannot_load_torch_says_so_in_a_line(at_three: Machines) -> None:
    says = "^no node can run the model: its process cannot load what computes: ImportError: libtorch_cuda.so: failed to map"
    with pytest.raises(InputError, match=says):
        settle(CPU, machine=Machine(lacks_a_library, provides))


def test_a_node_whose_process_dies_over_the_question_is_kept_out_and_one_that_is_gone_is_forgotten(at_three: Machines) -> None:
    here, gone = min(alive()), "ab" * 28
    found = routing._offers([here, gone], CPU, False, {}, MACHINE)
    assert found == {here: Offer(BIG)}
    at_three.add(gpus=1)
    with pytest.raises(InputError, match=r"no node can run the model: .*(crash|died|exit)"):
        settle(RouteWish(), machine=Machine(dies_on_gpus, provides))


@pytest.mark.parametrize(
    ("coming", "waiting", "says"),
    [
        (True, Waiting(longest=2, sign=60), "no node with a GPU came within 2 s"),
        (None, Waiting(longest=60, sign=2), None),
        (False, Waiting(longest=60, sign=60), None),
    ],
)
def test_a_gpu_is_waited_for_no_longer_than_it_may_take_and_that_is_said_once(
    at_three: Machines, monkeypatch: pytest.MonkeyPatch, coming: bool | None, waiting: growth.Waiting, says: str | None,
) -> None:
    monkeypatch.setattr(growth, "_coming", lambda: coming)
    notes: list[str] = []
    began = time.monotonic()
    if says is None:
        assert not growth._waited("auto", notes.append, waiting)
    else:
        with pytest.raises(ShardmillError, match=says):
            growth._waited("auto", notes.append, waiting)
    assert len(notes) == int(coming is True)
    assert time.monotonic() - began < 30


def test_a_cluster_that_nobody_adds_to_takes_its_cpus_and_says_where_a_gpu_is_wanted(at_three: Machines) -> None:
    assert settle(RouteWish(), machine=MACHINE).route.startswith("cpu-")
    with pytest.raises(InputError, match="no node of the cluster has a GPU and none is to come"):
        settle(RouteWish(device="cuda"))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
