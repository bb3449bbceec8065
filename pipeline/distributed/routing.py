"""The numeric route of a run, settled by the nodes that will compute: each is asked, and they agree (`agreement.py`)."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.distributed import ray_cluster as cluster
from pipeline.distributed.agreement import Offer, Terms, agreed, confirmed
from pipeline.distributed.growth import GPU_PROBE, Waiting, wait_for_gpu
from pipeline.distributed.pools import log_kept_out
from pipeline.distributed.worker import reason
from pipeline.errors import InputError, ShardmillError
from pipeline.work import collector_paused

if TYPE_CHECKING:
    from pipeline.models.route import RouteQuestion, RouteWish
    from pipeline.stages import precision

log = logging.getLogger(__name__)

FindRoute = Callable[["RouteQuestion"], str]
ANSWERS = 600.0
"""Seconds for a node to answer: it loads torch, perhaps from a slow disk, and its GPUs may be others' until then."""


@dataclass(frozen=True)
class Machine:
    """What runs on a node to learn of it."""

    answer: FindRoute
    """The route that it takes."""
    provides: Callable[[str], None]
    """Raises RouteError where it cannot provide a route: asked of nodes that join later."""
    actor: Any = None
    """The process that answers, on the only node; None: each node starts one, which is of no use afterwards."""


def settle(
    wish: "RouteWish", *, preferred: str = "", note: Callable[[str], None] = log.info, waiting: Waiting = Waiting(),   # noqa: B008
    machine: Machine | None = None,
) -> Terms:
    """The terms of a run: by the route `preferred` where it can still be had, else by what the wish comes to on these nodes.
    Raises InputError where there is no route, where a GPU is wanted and none comes, and where all that are there cannot be used."""
    machine = machine or ask_with()
    terms = None
    if preferred:
        device: Literal["cpu", "cuda"] = "cuda" if preferred.startswith("cuda-") else "cpu"
        precision: Any = preferred.split("-")[2]
        terms = _settled_by_preferred(replace(wish, device=device, precision=precision), preferred, note, waiting, machine)
    if terms is None:
        terms = _settled_by(wish, "", note, waiting, machine)
    log_kept_out(terms.kept_out, cluster.nodes())
    return replace(terms, check=machine.provides)


def settled_precision(question: "precision.PrecisionQuestion", terms: Terms) -> "precision.MeasuredRoute":
    """The terms' route with the precision that the recipe comes to on this run's first pairs, measured by one of the nodes that
    provide it. Nobody is asked where the recipe leaves nothing to measure."""
    from pipeline.stages import precision  # slow to import

    wish = question.recipe.model.precision
    if wish == "fp32" or (wish == "auto" and not terms.on_gpu):
        return precision.MeasuredRoute(terms.route)
    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": GPU_PROBE if terms.on_gpu else 0, "max_retries": 0}
    if terms.limits:
        options["runtime_env"] = {"env_vars": dict(terms.limits)}
    node = NodeAffinitySchedulingStrategy(min(terms.providers), soft=False)
    try:
        answer: precision.MeasuredRoute = ray.get(
            ray.remote(precision.settled).options(scheduling_strategy=node, **options).remote(question))
    except RayTaskError as error:
        if isinstance(error.cause, ShardmillError):
            raise error.cause from None
        raise
    return answer


def ask_with(actor: Any = None) -> Machine:
    """What is asked of a node; `actor` as in `Machine`."""
    return Machine(offered_route, provides, actor)


def offered_route(question: "RouteQuestion") -> str:
    """See `machine.offered_route`. It runs on a node: the driver needs no torch to ask."""
    with collector_paused():
        from pipeline.models import machine

    return machine.offered_route(question)


def provides(route: str) -> None:
    """See `machine.provides`."""
    from pipeline.models import machine

    machine.provides(route)


def _settled_by_preferred(
    wish: "RouteWish", preferred: str, note: Callable[[str], None], waiting: Waiting, machine: Machine
) -> Terms | None:
    """The terms for the preferred route; None where it is not to be had."""
    try:
        terms = _settled_by(wish, preferred, note, waiting, machine)
    except InputError as error:
        note(f"the route {preferred} of this root is not to be had: {error}")
        return None
    return terms if terms.route == preferred else None


def _settled_by(wish: "RouteWish", preferred: str, note: Callable[[str], None], waiting: Waiting, machine: Machine) -> Terms:
    on_gpu = wish.device != "cpu" and wait_for_gpu(wish.device, note, waiting)
    living = cluster.nodes()
    nodes = (living.having("GPU") if on_gpu else living.having("CPU")).resources
    offers = _offers(nodes, wish, on_gpu, {}, machine)
    terms = agreed(offers, preferred)
    if terms.limits:
        limited = _offers([node for node in nodes if node not in terms.kept_out], wish, on_gpu, terms.limits, machine)
        terms = confirmed(terms, {**{node: Offer(why=why) for node, why in terms.kept_out.items()}, **limited})
    return terms


def _offers(
    nodes: Iterable[str], wish: "RouteWish", on_gpu: bool, limits: Mapping[str, str], machine: Machine
) -> dict[str, Offer]:
    """What each node answers, in a process with these limits; a node that goes meanwhile is left out."""
    from pipeline.models.route import RouteQuestion

    options: dict[str, Any] = {"num_cpus": 0, "num_gpus": GPU_PROBE if on_gpu else 0, "max_retries": 0}
    if limits:
        options["runtime_env"] = {"env_vars": dict(limits)}
    question = RouteQuestion(wish, gpu_assigned=on_gpu)

    def asked(node: str) -> Any:
        if machine.actor is not None and not limits and not on_gpu:
            return machine.actor.answer.remote(machine.answer, question)
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(machine.answer).options(scheduling_strategy=there, **options).remote(question)

    refs = {node: asked(node) for node in nodes}
    answered = set(ray.wait(list(refs.values()), num_returns=len(refs), timeout=ANSWERS)[0]) if refs else set()
    offers = {}
    for node, ref in refs.items():
        if ref in answered:
            offers[node] = _answer(ref)
        else:
            ray.cancel(ref, force=True)
            offers[node] = Offer(why=f"it did not answer within {ANSWERS:g} s")
    alive = cluster.nodes()
    return {node: offer for node, offer in offers.items() if node in alive}


def _answer(ref: Any) -> Offer:
    try:
        return Offer(str(ray.get(ref)))
    except RayTaskError as error:
        if isinstance(error.cause, ShardmillError):
            return Offer(why=str(error.cause))
        if isinstance(error.cause, ImportError | OSError | MemoryError):
            return Offer(why=f"its process cannot load what computes: {reason(error)}")
        raise
    except RayError as error:   # its process or its node died
        return Offer(why=str(error).partition("\n")[0])
