"""Who gets what of a cluster with GPUs that are only pretended: Ray counts them, nothing computes on them."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from pipeline.distributed.agreement import Terms
from pipeline.distributed.attempts import Patience
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.errors import RouteError
from pipeline.reduce.kmeans.fit import Fit
from pipeline.reduce.kmeans.schedule import Schedule
from pipeline.store.blocks.groups import Grouped
from pipeline.store.store import Store
from pipeline.vectors import Matrix
from pipeline.work import Accounted, Facts, Place, Work
from tests.distributed.conftest import Machines
from tests.distributed.works import ROUTE, Asking, Placed, Searching, provides

H100, A100, CPU = "cuda-sm90-fp32-eager", "cuda-sm80-fp32-eager", "cpu-avx2-fp32-packed"
ITEMS = range(16)


@pytest.fixture
def gpu_node(at_three: Machines) -> Any:
    """The cluster of three, and a node of two CPUs and a GPU."""
    return at_three.add(cpus=2, gpus=1)


def test_gpu_passes_run_on_gpu_nodes_only_and_cpu_passes_everywhere_and_none_waits_for_the_idle_of_the_other(
    gpu_node: Any, tmp_path: Path,
) -> None:
    executor = RayExecutor(terms=Terms(H100, providers=frozenset([gpu_node.node_id])))
    asking = passed(executor, Asking(str(tmp_path / "asking"), 2))   # as many share the GPU as there are CPUs for it
    assert {one["node"] for one in asking} == {gpu_node.node_id}
    assert {(*one["gpus"], one["visible"]) for one in asking} == {("0", "0")}
    assert (processes(asking), executor.workers) == ({gpu_node.node_id: 2}, 2)
    plain = passed(executor, Placed(str(tmp_path / "plain"), 6))   # two of them have the seats of those before
    assert {(*one["gpus"], one["visible"]) for one in plain} == {("",)}
    assert set(processes(plain)) == alive()
    assert (processes(plain)[gpu_node.node_id], executor.workers) == (2, 6)
    again = passed(executor, Asking(str(tmp_path / "again"), 2))   # and give them back
    assert processes(again) == {gpu_node.node_id: 2}
    executor.close()


def kinds(work: type[Any]) -> set[type[Any]]:
    """Every class of works below this one."""
    return {kind for sub in work.__subclasses__() for kind in (sub, *kinds(sub))}


def test_the_works_that_ask_for_a_gpu_say_so_and_a_work_that_is_accounted_for_stays_where_it_is() -> None:
    from pipeline import curation  # brings all works
    from pipeline.queries.neighbours import batch  # and the only one that no run has

    assert curation
    assert batch
    ours = [work for work in kinds(Work) if work.__module__.startswith("pipeline.")]
    assert len(ours) > 20
    asking = {work.__name__ for work in ours if "place" in vars(work)} - {"Accounted", "Grouped"}
    assert asking == {"Annotate", "AnswerQueries", "EmbedTexts", "Label", "Measure", "NearLists"}
    assert Accounted(Grouped(Asking("", 1))).place == Accounted(Asking("", 1)).place == Asking("", 1).place == Place.MODEL
    assert Accounted(Placed("", 1)).place == Place.CPU


def test_a_search_that_wants_a_gpu_has_one_alone_and_finds_what_a_cpu_finds(gpu_node: Any, tmp_path: Path) -> None:
    executor = RayExecutor(terms=Terms(H100, providers=frozenset([gpu_node.node_id])), device="cpu")
    found = passed(executor, Searching(str(tmp_path / "gpu"), 1))
    plain = passed(executor, Placed(str(tmp_path / "plain"), 6))
    executor.close()
    assert (set(processes(found)), executor.workers) == ({gpu_node.node_id}, 6)
    assert len(processes(found)) == 1, "one actor to a GPU, whatever its CPUs"
    assert {(*one["gpus"], one["visible"]) for one in found} == {("0", "0")}
    assert all("DeviceCentres" in one["kernel"] for one in found)
    assert set(processes(plain)) == alive()
    on_cpu = RayExecutor(1, terms=Terms(CPU, providers=frozenset(alive())))
    other = passed(on_cpu, Searching(str(tmp_path / "cpu"), 1))
    on_cpu.close()
    assert all("DeviceCentres" not in one["kernel"] for one in other)
    assert sorted((one["ids"], one["values"]) for one in found) == sorted((one["ids"], one["values"]) for one in other)


def test_by_a_route_of_the_cpu_no_pass_takes_a_gpu_and_the_processes_serve_all(gpu_node: Any, tmp_path: Path) -> None:
    executor = RayExecutor(terms=Terms(CPU, providers=frozenset(alive())))
    asking, plain = (passed(executor, work(str(tmp_path / work.__name__), 6)) for work in (Asking, Placed))
    executor.close()
    assert set(processes(asking)) == alive()
    assert {(*one["gpus"], one["visible"]) for one in asking + plain} == {("",)}
    assert {one["pid"] for one in plain} == {one["pid"] for one in asking}


def test_a_gpu_node_that_joins_late_is_used_and_one_of_another_model_is_kept_out_by_name(
    at_three: Machines, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    executor = RayExecutor(terms=Terms(H100, check=provides), actors_per_gpu=1, patience=Patience(stall=4.0))
    work, nodes = Asking(str(tmp_path), 3), []
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(lambda: list(executor.run(work, ITEMS)))
        time.sleep(1.0)
        assert not work.begun(), "nobody has a GPU"
        nodes += [at_three.add(gpus=1, env={ROUTE: route}) for route in (H100, A100, H100)]
        until = time.monotonic() + 40
        while not warnings(caplog) and time.monotonic() < until:
            time.sleep(0.1)
        (tmp_path / "nobody.0").touch()   # the third that the two others wait for: the pass is still at work when the A100 is asked
        outcomes = found.result()
    executor.close()
    first, other, last = (node.node_id for node in nodes)
    assert {outcome.facts["node"] for outcome in outcomes} == {first, last}
    assert {(outcome.error, outcome.attempts) for outcome in outcomes} == {(None, 1)}
    said = warnings(caplog)
    assert len(said) == 1, said
    assert f"({other[:8]}) is kept out of this run: this one computes by {A100}" in said[0]


def test_where_no_node_is_left_that_provides_the_route_the_run_stops_and_says_why(at_three: Machines, tmp_path: Path) -> None:
    at_three.add(gpus=1, env={ROUTE: A100})
    executor = RayExecutor(terms=Terms(H100, check=provides))
    with pytest.raises(RouteError, match=f"computes by {A100}"):
        passed(executor, Asking(str(tmp_path), 1))
    executor.close()


@dataclass(frozen=True)
class Rows:
    """Some rows, and who asked for them."""

    trace: str
    name: str

    def open(self) -> tuple[Matrix, None]:
        gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        Path(self.trace, f"{self.name}.{ray.get_runtime_context().get_node_id()}.{''.join(gpus)}").touch()
        return np.eye(8, 16, k=int(self.name), dtype=np.float16), None


def test_clustering_takes_whole_gpus_where_the_model_does_and_cpus_elsewhere(gpu_node: Any, tmp_path: Path) -> None:
    blocks = [Rows(str(tmp_path), str(number)) for number in range(3)]
    for terms, workers, gpus in ((Terms(H100), 4, "0"), (Terms(CPU), 2, "")):
        executor = RayExecutor(workers, terms=terms)
        with executor.fleet(blocks, Store(str(tmp_path / "store")), "scratch", alone=False) as fleet:
            assert Fit(fleet, Schedule(exact=1), 4, 1).run().sizes.sum() == 24
        seen = {tuple(path.name.split(".")[1:]) for path in tmp_path.glob("[0-2].*")}
        assert {given for _, given in seen} == {gpus}
        assert {node for node, _ in seen} == {gpu_node.node_id} or not gpus
        for path in tmp_path.glob("[0-2].*"):
            path.unlink()


def passed(executor: RayExecutor, work: Placed) -> list[Facts]:
    outcomes = list(executor.run(work, ITEMS))
    assert len(outcomes) == len(ITEMS)
    assert all(outcome.error is None for outcome in outcomes)
    return [outcome.facts for outcome in outcomes]


def processes(found: Sequence[Facts]) -> Counter[str]:
    """How many on each node."""
    return Counter(node for node, _ in {(one["node"], one["pid"]) for one in found})


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
