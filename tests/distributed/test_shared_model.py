"""The annotate pass by workers that share one model process, as they share a GPU: on a Ray cluster with a pretended one."""

from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.api.progress import Silent
from pipeline.distributed.agreement import Terms
from pipeline.distributed.local import LocalExecutor
from pipeline.distributed.ray_executor import RayExecutor
from pipeline.driver import Driver
from pipeline.input.discovery import Shard, discover
from pipeline.models.machine import local_route
from pipeline.models.route import RouteWish
from pipeline.passes.annotate import Annotate
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.root.log import EventLog
from pipeline.store.store import Store
from tests.benchmarks.replicas import write_shards
from tests.distributed.conftest import Machines
from tests.distributed.shared_clip import SharedClip

SHARDS, ROWS = 3, 20


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    """More than there are workers, none a multiple of a batch."""
    write_shards(tmp_path / "shards", SHARDS, ROWS)
    return discover([str(tmp_path / "shards")])


def annotated(root: Path, shards: list[Shard], executor: LocalExecutor | RayExecutor, *, shared: bool) -> dict[str, bytes]:
    """The files that the pass writes, by path."""
    plan = Plan.of(Store(str(root)), load("sample"), shards, Settled(local_route(RouteWish(device="cpu", packed=False))))
    stages = plan.stages
    if shared:
        clip = SharedClip(**{f.name: getattr(plan.clip, f.name) for f in fields(plan.clip)})
        stages = tuple(clip if stage.contract.name == "clip" else stage for stage in stages)
    driver = Driver(plan.root, executor, Silent(), EventLog(plan.root))
    work = Annotate(plan.columns, stages, plan.recipe.reading)
    assert driver.run("annotate", work, work.of(shards)) == []
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted((root / "columns").rglob("*")) if path.is_file()}


def test_workers_that_share_a_model_write_the_bytes_that_one_process_writes(
    at_three: Machines, tmp_path: Path, shards: list[Shard],
) -> None:
    node = at_three.add(cpus=2, gpus=1)
    executor = RayExecutor(terms=Terms("cuda-sm90-fp32-eager", providers=frozenset([node.node_id])))
    found = annotated(tmp_path / "shared", shards, executor, shared=True)
    assert (executor.workers, executor.actors_per_gpu) == (2, 2)
    executor.close()
    expected = annotated(tmp_path / "alone", shards, LocalExecutor(), shared=False)
    assert len(expected) > 8 * SHARDS
    assert found == expected
    log = "".join(path.read_text() for path in (tmp_path / "shared" / "log").iterdir())
    assert '"device":' in log, "the seconds of the device are accounted for"
