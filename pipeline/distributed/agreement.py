"""One numeric route for machines of several kinds: what they agree on, who is limited to it, who is kept out. No Ray here."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.errors import InputError

LADDER = ("x86_64", "avx2", "avx512")
"""Instruction sets of which each machine has all before its own."""
LIMITS = {   # of torch's own kernels, of oneDNN's and of MKL's
    "x86_64": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
"""Environment of a process, before it loads torch, that keeps it to an instruction set."""


@dataclass(frozen=True)
class Offer:
    """What a node answered: its route, or why it has none."""

    route: str = ""
    why: str = ""


def _anywhere(route: str) -> None:
    """Every machine will do."""


@dataclass(frozen=True)
class Terms:
    """The terms on which the works that ask the model run: the route, and the nodes that provide it."""

    route: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Environment of their processes."""
    providers: frozenset[str] = frozenset()
    """Nodes that provide the route. Of others, which joined since, nobody knows."""
    kept_out: Mapping[str, str] = field(default_factory=dict)
    """Nodes that do not, and why."""
    check: Callable[[str], None] = _anywhere
    """Run by a process on a node that is not among the providers; raises RouteError where it cannot provide the route."""

    @property
    def on_gpu(self) -> bool:
        """Whether the route is a GPU's."""
        return self.route.startswith("cuda-")


def agreed(offers: Mapping[str, Offer], preferred: str = "") -> Terms:
    """The route `preferred` if any node has it or can be limited to it; else that of the least of the CPUs, or of most nodes.
    With limits the terms are not yet kept by anybody: ask again under them, then `confirmed`. Raises InputError where no node
    offers a route."""
    routes = {node: offer.route for node, offer in offers.items() if offer.route}
    if not routes:
        raise InputError("no node can run the model: " + next((offer.why for offer in offers.values()), "none has a CPU"))
    route = preferred if any(reaches(offered, preferred) for offered in routes.values()) else _common(routes)
    above = any(offered != route and reaches(offered, route) for offered in routes.values())
    limits = LIMITS[_rung(route)] if above else {}
    return confirmed(Terms(route, limits), offers if not limits else _as_if_limited(offers, route))


def confirmed(terms: Terms, offers: Mapping[str, Offer]) -> Terms:
    """The terms, with the nodes that keep them and those that do not."""
    providers = frozenset(node for node, offer in offers.items() if offer.route == terms.route)
    out = {
        node: offer.why or f"it computes by the route {offer.route}, the run by {terms.route}"
        for node, offer in offers.items() if node not in providers
    }
    if not providers:
        raise InputError(f"no node can compute by the route {terms.route}: {next(iter(out.values()), 'there is none')}")
    return replace(terms, providers=providers, kept_out=out)


def reaches(route: str, other: str) -> bool:
    """Whether a machine that takes `route` can be limited to `other`, or takes it anyway."""
    if route == other:
        return True
    rung, lower = _rung(route), _rung(other)
    if rung not in LADDER or lower not in LIMITS or _precision(route) != _precision(other):
        return False
    return LADDER.index(rung) > LADDER.index(lower)


def _common(routes: Mapping[str, str]) -> str:
    """The lowest where all can be limited to it, else that of most nodes."""
    many = Counter(sorted(routes.values()))
    low = [route for route in many if all(reaches(other, route) for other in many)]
    return max(low or many, key=lambda route: many[route])


def _as_if_limited(offers: Mapping[str, Offer], route: str) -> dict[str, Offer]:
    return {node: Offer(route) if offer.route and reaches(offer.route, route) else offer for node, offer in offers.items()}


def _rung(route: str) -> str:
    """The instruction set of a CPU's route; empty for another."""
    device, _, rest = route.partition("-")
    return rest.partition("-")[0] if device == "cpu" else ""


def _precision(route: str) -> str:
    return route.split("-")[2]
