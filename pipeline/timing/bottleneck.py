"""What holds a pass up, and what to change: from the shares of its thread-seconds (`clock.py`) to one sentence.

A share says what could be won: if an activity took no time at all, 1 / (1 - share) as many samples would come through. Idle time
(`read`, `write`, `wait`) is worth a word from a fifth on, for whoever pays for a worker pays for nothing then. Something has
to compute all the time, so decoding or the model counts as the bottleneck only from half on: twice as fast a one would save a
quarter. Of several, the one that is furthest above its bound is named.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pipeline.timing.clock import COMPUTING_CPU, DEVICE, OTHER, READ, READING, READING_CPU, WAIT, WRITE

Shares = Mapping[str, float]

DECODE, MODEL = "decode", "model"
"""Two kinds of computing: everything that only needs CPUs, and the towers."""
MODELS = {MODEL, "clip"}
"""`clip` is what the stage of that name does beside what it names itself."""
IDLE, BUSY = 0.2, 0.5
BOUNDS = {READ: IDLE, WRITE: IDLE, WAIT: IDLE, DECODE: BUSY, MODEL: BUSY}
MOSTLY = 0.5
"""A thread that is on a CPU for less than this part of its time waits; a GPU that is busy for less is not what is waited for."""
WORDS = {"image": DECODE}
DOING = {DECODE: "decoding", "preprocess": "preprocessing", OTHER: "computing"}
SHOWN, LEAST = 6, 0.01
LONGEST = 1e12
"""Seconds: more are no measurement but somebody's text."""
WORTH_A_LINE = 1.0
"""Thread-seconds of a pass below which nobody wants to hear of it."""


@dataclass(frozen=True)
class Means:
    """What a pass computes with."""

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 0
    """0: `--threads` is nothing to this pass."""
    actors_per_gpu: int = 1

    @classmethod
    def by_route(cls, routes: Iterable[str], threads: int = 0) -> Self:
        """The means of a pass, from the first of these that is a numeric route, e.g. `cuda-sm90-fp16-eager`; the defaults where
        none is."""
        parts = next((route.split("-") for route in routes if route.count("-") == 3), None)
        return cls(threads=threads) if parts is None else cls(parts[0], parts[2], threads)


@dataclass
class Usage:
    """Seconds by activity, and beside them, summed over items."""

    spent: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """Sum over the items of how long its worker had each."""

    def add(self, facts: Mapping[str, Any]) -> None:
        """The facts of one item, or its line in the log, which anybody may have written."""
        spent = _numbers(facts.get("spent"))
        if spent:
            self.spent.update(spent)
            self.beside.update(_numbers(facts.get("beside")))
            self.seconds += sum(spent.values()) / max(_numbers(facts).get("threads", 1.0), 1.0)

    @property
    def total(self) -> float:
        """All thread-seconds."""
        return sum(self.spent.values())

    @property
    def shares(self) -> dict[str, float]:
        """The share of each activity in all thread-seconds, largest first."""
        total = self.total
        return {name: seconds / total for name, seconds in self.spent.most_common() if seconds > 0}

    @property
    def reading_cpu(self) -> float | None:
        """The share of the reader's time that it was on a CPU; None where that was not measured. A computing thread that reads for
        itself is taken to wait only there, so its share is a lower bound."""
        if self.beside[READING] > 0:
            return self.beside[READING_CPU] / self.beside[READING]
        if self.spent[READ] > 0 and COMPUTING_CPU in self.beside:
            return max(0.0, 1 - (self.total - self.beside[COMPUTING_CPU]) / self.spent[READ])
        return None

    def device(self, means: Means) -> float | None:
        """The share of the time that a GPU was busy; several actors share one."""
        if DEVICE not in self.beside or self.seconds <= 0:
            return None
        return min(means.actors_per_gpu * self.beside[DEVICE] / self.seconds, 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Seconds by activity, and beside them, rounded to milliseconds."""
        return {name: {key: round(value, 3) for key, value in seconds.items()}
                for name, seconds in (("spent", self.spent), ("beside", self.beside))}


def _numbers(facts: Any) -> dict[str, float]:
    if not isinstance(facts, dict):
        return {}
    return {str(name): float(value) for name, value in facts.items()
            if isinstance(value, int | float) and 0 <= value <= LONGEST}


def word(name: str) -> str:
    """The name of an activity for people."""
    return WORDS.get(name, name)


def in_words(usage: Usage, means: Means) -> str:
    """`model 71 %, decode 18 %, read 6 %; the model is the bottleneck: …`"""
    shares = [f"{word(name)} {100 * share:.0f} %" for name, share in list(usage.shares.items())[:SHOWN] if share >= LEAST]
    device = usage.device(means)
    if device is not None:
        shares.append(f"GPU busy {100 * device:.0f} %")
    return f"{', '.join(shares)}; {advised(usage, means)}"


def advised(usage: Usage, means: Means) -> str:
    """`advice` for what was measured."""
    computing = sum(seconds for name, seconds in usage.spent.items() if name not in (READ, WRITE, WAIT))
    on_cpu = None
    if COMPUTING_CPU in usage.beside and computing > 0:
        on_cpu = min(usage.beside[COMPUTING_CPU] / computing, 1.0)
    return advice(usage.shares, means, Measures(usage.device(means), usage.reading_cpu, on_cpu))


@dataclass(frozen=True)
class Measures:
    """What tells two causes of one share apart; None where it was not measured."""

    device: float | None = None
    """Share of the time that the GPU is busy."""
    reading_cpu: float | None = None
    """Share of the reader's time that it is on a CPU."""
    computing_cpu: float | None = None
    """Share of the computing threads' time that they are on a CPU; it is asked for where nothing waits for a GPU."""


UNMEASURED = Measures()


def advice(shares: Shares, means: Means, measures: Measures = UNMEASURED) -> str:
    """What holds a pass up and what to change, in one sentence; empty where nothing was counted."""
    if not shares:
        return ""
    groups = dict.fromkeys(BOUNDS, 0.0)
    for name, share in shares.items():
        groups[kind(name)] += share
    bottleneck = max(BOUNDS, key=lambda group: groups[group] / BOUNDS[group])
    if groups[bottleneck] < BOUNDS[bottleneck]:
        return "nothing stands out: nothing to change"
    more_workers = f"--actors-per-gpu {means.actors_per_gpu + 1}" if means.device != "cpu" else "more workers"
    if bottleneck == READ:
        return _reading(means, measures, more_workers)
    if bottleneck == WRITE:
        return f"writing is the bottleneck: an output store that is nearer or takes more at once, or {more_workers}"
    if bottleneck == WAIT:
        return f"threads wait for each other at the ends of shards: fewer --threads and {more_workers}, or larger shards"
    return _model(means, measures) if bottleneck == MODEL else _decoding(shares, means, measures)


def kind(name: str) -> str:
    """The group of an activity: READ, WRITE, WAIT, MODEL, or DECODE for all other computing."""
    if name in (READ, WRITE, WAIT):
        return name
    return MODEL if name in MODELS else DECODE


def _reading(means: Means, measures: Measures, more_workers: str) -> str:
    ahead = ", or --threads 2, which reads further ahead" if means.threads == 1 else ""
    if measures.reading_cpu is not None and measures.reading_cpu >= MOSTLY:
        return f"reading is the bottleneck, and it computes: {more_workers}, or shards that are not compressed{ahead}"
    return f"reading is the bottleneck: nearer or faster storage, or {more_workers}, each with its own reader{ahead}"


def _decoding(shares: Shares, means: Means, measures: Measures) -> str:
    largest = word(max((name for name in shares if kind(name) == DECODE), key=lambda name: shares[name]))
    activity = DOING.get(largest, largest)
    if means.device != "cpu":
        actors, threads = means.actors_per_gpu + 1, 2 * max(means.threads, 1)
        return f"{activity} keeps the GPU waiting: --actors-per-gpu {actors}, --threads {threads}, or nodes with more CPUs per GPU"
    if measures.computing_cpu is not None and measures.computing_cpu < MOSTLY:
        return (f"{activity} is the bottleneck, but on a CPU for {100 * measures.computing_cpu:.0f} % of its time only: "
                "fewer workers or --threads for each CPU")
    return f"{activity} is the bottleneck: more workers, on more CPUs"


def _model(means: Means, measures: Measures) -> str:
    if means.device == "cpu":
        return "the model is the bottleneck: a GPU (model.device cuda), or more workers, on more CPUs"
    if measures.device is not None and measures.device < MOSTLY:
        return (f"threads wait for a GPU that is busy {100 * measures.device:.0f} % of the time: --actors-per-gpu "
                f"{means.actors_per_gpu + 1}, or a larger model.micro_batch (which makes new columns)")
    cheaper = "model.precision bf16 or a larger model.micro_batch" if means.precision == "fp32" else "a larger model.micro_batch"
    return f"the model is the bottleneck: {cheaper} (which makes new columns), or more GPUs"
