"""Nodes of several kinds settle one numeric route. The lesser CPUs are this machine's, told so by the environment of their nodes;
torch takes their word, and computes by it."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from pipeline.distributed.agreement import LIMITS
from pipeline.distributed.routing import Machine, settle
from pipeline.distributed.shards import RayExecutor
from pipeline.errors import InputError
from pipeline.models.route import RouteWish
from tests.distributed.works import ROUTE, Asking, Capable, pretended, provides

CPU = RouteWish(device="cpu")
LESSER = {"ATEN_CPU_CAPABILITY": "default"}
H100, A100 = "cuda-sm90-fp32-eager", "cuda-sm80-fp32-eager"
BIG, SMALL = "cpu-avx2-fp32-packed", "cpu-x86_64-fp32-packed"
MACHINE = Machine(pretended, provides)


def test_mixed_cpus_agree_on_the_lesser_and_torch_computes_by_it_on_all(at_three, tmp_path):
    at_three.add(env=LESSER)
    terms = settle(CPU, machine=MACHINE)
    assert (terms.route, terms.limits, terms.known, terms.kept_out) == (SMALL, LIMITS["x86_64"], alive(), {})
    executor = RayExecutor(terms=terms)
    found = [outcome.facts for outcome in executor.run(Capable(str(tmp_path), 5), range(10))]
    executor.close()
    assert {one["node"] for one in found} == alive()
    assert {one["capability"] for one in found} == {"DEFAULT"}


def test_a_root_keeps_its_route_and_nodes_that_cannot_follow_are_kept_out_by_name_at_once_or_when_they_join(
    at_three, tmp_path, caplog
):
    notes, early = [], at_three.add(env=LESSER)
    terms = settle(CPU, preferred=BIG, note=notes.append, machine=MACHINE)
    assert (terms.route, terms.limits, notes, set(terms.kept_out)) == (BIG, {}, [], {early.node_id})
    work, executor = Asking(str(tmp_path), 5), RayExecutor(terms=terms)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(lambda: list(executor.run(work, range(20))))
        late = at_three.add(env=LESSER)
        until = time.monotonic() + 40
        while len(said(caplog)) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        (tmp_path / "nobody.0").touch()   # the fifth that the others wait for
        outcomes = found.result()
    executor.close()
    assert {outcome.facts["node"] for outcome in outcomes} == alive() - {early.node_id, late.node_id}
    assert {(outcome.error, outcome.attempts) for outcome in outcomes} == {(None, 1)}
    assert [node.node_id[:8] in text for node, text in zip((early, late), said(caplog), strict=True)] == [True, True]


def test_a_gpu_that_torch_cannot_use_stops_the_run(at_three):
    """Ray counts a GPU that is not there: so it looks under a driver that is too old, or with a torch for the CPU."""
    at_three.add(gpus=1)
    with pytest.raises(InputError, match="there is a GPU, but torch"):
        settle(RouteWish())


def test_gpus_of_two_models_go_by_the_most_or_by_the_roots(at_three):
    nodes = [at_three.add(gpus=1, env={ROUTE: route}) for route in (A100, H100, H100)]
    notes = []
    terms = settle(RouteWish(), machine=MACHINE)
    assert (terms.route, terms.known) == (H100, {nodes[1].node_id, nodes[2].node_id})
    assert A100 in terms.kept_out[nodes[0].node_id]
    assert settle(RouteWish(), preferred=A100, machine=MACHINE).known == {nodes[0].node_id}
    assert settle(RouteWish(), preferred="cuda-sm120-fp32-eager", note=notes.append, machine=MACHINE).route == H100
    assert settle(RouteWish(), preferred=BIG, machine=MACHINE).known == alive()


def test_a_cluster_that_nobody_adds_to_takes_its_cpus_and_says_where_a_gpu_is_wanted(at_three):
    assert settle(RouteWish(), machine=MACHINE).route.startswith("cpu-")
    with pytest.raises(InputError, match="no node of the cluster has a GPU and none is to come"):
        settle(RouteWish(device="cuda"))


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
