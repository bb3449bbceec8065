"""What the clocks of a run say, from `log/*.jsonl` of all its drivers. A log may end in half a line: its driver was killed."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from pipeline.report.data import LIMITS, Spending, Timing, Top
from pipeline.root.log import Event, PassUsage, _drivers, _events, usages
from pipeline.store.store import Store
from pipeline.timing.bottleneck import LEAST, WORTH_A_LINE, word

REST = "start of Ray, reductions"


@dataclass(frozen=True)
class Clock:
    """Seconds are summed over the drivers that worked on a root, the first and those that continued it."""

    started: datetime | None = None
    seconds: float = 0.0
    passes: tuple[Timing, ...] = ()
    shards: Top[Timing] = field(default_factory=Top)
    """Of the annotate pass: those tried more than once first, then the slowest."""
    retried: int = 0


@dataclass
class _Pass:
    """Sums over one pass; `end - begin` of its items counts until the pass is done and says what it took itself."""

    seconds: float = 0.0
    samples: int = 0
    begin: float = float("inf")
    end: float = 0.0

    def item(self, event: Event) -> None:
        self.begin = min(self.begin, event["time"] - event.get("seconds", 0.0))
        self.end = event["time"]
        self.samples += event.get("rows", 0)

    def close(self, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = max(self.end - self.begin, 0.0)
        self.seconds, self.begin, self.end = self.seconds + seconds, float("inf"), 0.0


def spendings(root: Store) -> tuple[Spending, ...]:
    """For the report: of the passes that took a second at least, the longest first."""
    told = {name: one for name, one in usages(root).items() if one.usage.total >= WORTH_A_LINE}
    longest = heapq.nlargest(LIMITS["spendings"], told, key=lambda name: told[name].usage.total)
    return tuple(Spending(name, told[name].usage.total, tuple(_shares(told[name])), told[name].advice) for name in longest)


def _shares(one: PassUsage) -> Iterator[tuple[str, float]]:
    shares = list(one.usage.shares.items())
    yield from [(word(name), share) for name, share in shares if share >= LEAST][:LIMITS["activities"]]
    busy = one.usage.device(one.means)
    if busy is not None:
        yield "GPU busy", busy


def clock(root: Store) -> Clock:
    passes: dict[str, _Pass] = {}
    began, seconds, retried, count = float("inf"), 0.0, 0, 0
    shards: list[Timing] = []
    for paths in _drivers(root):
        first, last = float("inf"), 0.0
        for event in chain.from_iterable(_events(root, path) for path in paths):
            first = min(first, event["time"] - event.get("seconds", 0.0))
            last = max(last, event["time"])
            _count(passes, event)
            if event.get("pass") == "annotate" and "item" in event:
                timing = Timing(event["item"], event.get("seconds", 0.0), event.get("rows", 0), event["attempts"])
                shards, count, retried = _slowest([*shards, timing]), count + 1, retried + (timing.attempts > 1)
        for one in passes.values():
            one.close()   # what this driver did not finish
        began, seconds = min(began, first), seconds + max(last - first, 0.0)
    started = datetime.fromtimestamp(began, UTC) if began < float("inf") else None
    return Clock(started, seconds, tuple(_timings(passes, seconds)), Top(tuple(shards), count), retried)


def _count(passes: dict[str, _Pass], event: Event) -> None:
    if "pass" not in event:   # the run as a whole
        return
    found = passes.setdefault(event["pass"], _Pass())
    if event.get("done"):
        found.close(event["seconds"])
    elif "item" in event:
        found.item(event)


def _slowest(shards: Iterable[Timing]) -> list[Timing]:
    return heapq.nlargest(LIMITS["rows"], shards, key=lambda timing: (timing.attempts, timing.seconds))


def _timings(passes: Mapping[str, _Pass], seconds: float) -> Iterator[Timing]:
    """The passes in the order in which they ran, and what no pass took."""
    for name, one in passes.items():
        yield Timing(name, one.seconds, 0 if name == "entity texts" else one.samples)
    rest = seconds - sum(one.seconds for one in passes.values())
    if passes and rest > 0:
        yield Timing(REST, rest, 0)
