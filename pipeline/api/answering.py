"""A file of queries, answered in this process or on a Ray cluster: the same bytes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pipeline.api.engines import Execution, wish
from pipeline.api.signals import stop_on_sigterm
from pipeline.errors import InputError
from pipeline.queries.neighbours.batch import Batch
from pipeline.queries.neighbours.query_file import QueryFile
from pipeline.root.existing import open_root
from pipeline.timing.progress import Reporter, phase
from schemas.answers.neighbours import BatchAnswers

if TYPE_CHECKING:
    from pipeline.distributed.executor import Executor


def answered(batch: Batch, execution: Execution, tell: Reporter) -> BatchAnswers:
    """Answers a file of queries. On a cluster texts are embedded by the root's route where a node has it, else by one that its
    nodes agree on. Raises InputError for queries or a scope that cannot be used, ShardmillError for a part that cannot be done."""
    if execution.local:
        from pipeline.distributed.local import LocalExecutor

        return batch.run(LocalExecutor(), tell)
    for url in (batch.queries, batch.output, batch.root):
        if url.startswith("memory:"):
            raise InputError(f"{url} is one process's memory, which workers do not see: give a file or a shared store")
    with _cluster(batch, execution, tell) as (executor, route):
        return batch.run(executor, tell, route)


@contextmanager
def _cluster(batch: Batch, execution: Execution, tell: Reporter) -> Iterator[tuple["Executor", str]]:
    """What runs the parts, and the route by which texts are embedded; empty where there are none."""
    texts, plan = QueryFile.open(batch.queries).texts, open_root(batch.root)
    from pipeline.distributed.ray_executor import RayExecutor, Terms, connected, gpus_hidden, settle  # slow to import

    with ExitStack() as stack:
        with phase(tell, "starting Ray" if not execution.address else f"joining the Ray cluster at {execution.address}"):
            stack.enter_context(connected(execution.address, execution.workers))
        stop_on_sigterm()
        stack.enter_context(gpus_hidden())
        terms = settle(wish(plan.recipe), preferred=plan.route, note=tell.note) if texts else Terms()
        executor = RayExecutor(execution.workers, terms=terms)
        stack.callback(executor.close)   # a connection that is not ours stays, and its CPUs are wanted
        yield executor, terms.route
