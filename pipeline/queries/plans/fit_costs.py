"""What the classes of a recipe would cost on these machines, at a rate measured here."""

import time

import numpy as np

from pipeline.plan import Plan
from pipeline.quantities import duration, flops_a_second, size
from pipeline.reduce.kmeans.costs import Costs, Machines, pass_costs
from pipeline.reduce.kmeans.schedule import Schedule
from pipeline.search.nearest import assigned, kernel
from pipeline.vectors import unit
from schemas.answers.plans import FitCosts, FitPass

PROBED_ROWS = 2048
PROBED_CENTRES = 8192


def fit_costs(schedule: Schedule, shape: tuple[int, int, int], machines: Machines) -> Costs:
    """The costs of a fit by this schedule and of the labels after it. `shape` is the number of rows, of values of each, and of
    classes."""
    rows, d, k = shape
    return Costs(pass_costs(schedule, rows, k), k, d, rows, machines)


def measured_rate(d: int, k: int) -> float:
    """Floating-point operations a second of this process when it looks for the nearest of k centres of d values: the better of
    two short runs, after one that warms up."""
    rng = np.random.default_rng(0)
    rows, centres = (unit(rng.standard_normal((n, d), np.float32)) for n in (PROBED_ROWS, min(k, PROBED_CENTRES)))
    ready, seconds = kernel()(centres), []
    for _ in range(3):
        started = time.perf_counter()
        assigned(rows, ready)
        seconds.append(time.perf_counter() - started)
    return 2.0 * len(rows) * len(centres) * d / min(seconds[1:])


def costs_in_words(costs: Costs, why: str, plan: Plan) -> dict[str, str]:
    """The costs for people, by line of the answer; `why` says how the schedule was chosen."""
    per_node = f"{size(costs.node_memory)} on each of {costs.machines.nodes} node{'s' * (costs.machines.nodes > 1)}"
    wire = "nothing: one node" if costs.machines.nodes == 1 else size(costs.wire)
    return {
        "classes": f"{plan.recipe.classes.k:,}, {why}",
        "work": f"{costs.flops:.1e} FLOP at most: " + ", ".join(
            f"{kind.times} x {kind.name} ({kind.flops(costs.d) / kind.times:.1e})" for kind in costs.passes),
        "memory": f"{size(costs.actor_memory)} per worker, {per_node}, beside mapped embeddings",
        "wire": wire,
        "fit": f"about {duration(costs.seconds)} at {flops_a_second(costs.machines.rate)} per worker, measured here",
    }


def as_answer(costs: Costs, why: str, refused: str | None) -> FitCosts:
    """The costs as `plan --json` gives them; `refused` says why such machines could not fit, None where they could."""
    passes = tuple(FitPass(name=kind.name, rows=kind.rows, centres=kind.centres, times=kind.times) for kind in costs.passes)
    return FitCosts(
        rows=costs.rows, dimension=costs.d, k=costs.k, flops=costs.flops, seconds=costs.seconds, actor_bytes=costs.actor_memory,
        node_bytes=costs.node_memory, wire_bytes=costs.wire, rate=costs.machines.rate, nodes=costs.machines.nodes,
        actors=costs.machines.actors, passes=passes, why=why, refused=refused)
