"""What the clocks of a run say, from `log/*.jsonl` of all its drivers. A log may end in half a line: its driver was killed."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from pipeline.report.data import LIMITS, Spending, Timing, Top
from pipeline.root.log import Event, PassUsage, driver_logs, pass_usages, read_events
from pipeline.store.store import Store
from pipeline.timing.bottleneck import LEAST, WORTH_A_LINE, word

REST = "start of Ray, reductions"


@dataclass(frozen=True)
class Clock:
    """When a run began and what its passes and shards took, in seconds: summed over the drivers that worked on the root, the
    first and those that continued it."""

    started: datetime | None = None
    seconds: float = 0.0
    passes: tuple[Timing, ...] = ()
    shards: Top[Timing] = field(default_factory=Top)
    """The shards of the annotate pass: those tried more than once first, then the slowest."""
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
    """Where the passes spent their time: those that took at least WORTH_A_LINE seconds, the longest first, LIMITS["spendings"]
    at most."""
    passes = {name: entry for name, entry in pass_usages(root).items() if entry.usage.total >= WORTH_A_LINE}
    longest = heapq.nlargest(LIMITS["spendings"], passes, key=lambda name: passes[name].usage.total)
    return tuple(Spending(name, passes[name].usage.total, tuple(_shares(passes[name])), passes[name].advice) for name in longest)


def _shares(entry: PassUsage) -> Iterator[tuple[str, float]]:
    shares = list(entry.usage.shares.items())
    yield from [(word(name), share) for name, share in shares if share >= LEAST][:LIMITS["activities"]]
    busy = entry.usage.device(entry.means)
    if busy is not None:
        yield "GPU busy", busy


def read_clock(root: Store) -> Clock:
    """The clock of a root, from its logs; an empty one where there are none. Lines that are cut or not ours are skipped."""
    passes: dict[str, _Pass] = {}
    began, seconds, retried, count = float("inf"), 0.0, 0, 0
    shards: list[Timing] = []
    for paths in driver_logs(root):
        first, last = float("inf"), 0.0
        for event in chain.from_iterable(read_events(root, path) for path in paths):
            first = min(first, event["time"] - event.get("seconds", 0.0))
            last = max(last, event["time"])
            _count(passes, event)
            if event.get("pass") == "annotate" and "item" in event:
                timing = Timing(event["item"], event.get("seconds", 0.0), event.get("rows", 0), event["attempts"])
                shards, count, retried = _slowest([*shards, timing]), count + 1, retried + (timing.attempts > 1)
        for sums in passes.values():
            sums.close()   # what this driver did not finish
        began, seconds = min(began, first), seconds + max(last - first, 0.0)
    started = datetime.fromtimestamp(began, UTC) if began < float("inf") else None
    return Clock(started, seconds, tuple(_timings(passes, seconds)), Top(tuple(shards), count), retried)


def _count(passes: dict[str, _Pass], event: Event) -> None:
    if "pass" not in event:   # the run as a whole
        return
    sums = passes.setdefault(event["pass"], _Pass())
    if event.get("done"):
        sums.close(event["seconds"])
    elif "item" in event:
        sums.item(event)


def _slowest(shards: Iterable[Timing]) -> list[Timing]:
    return heapq.nlargest(LIMITS["rows"], shards, key=lambda timing: (timing.attempts, timing.seconds))


def _timings(passes: Mapping[str, _Pass], seconds: float) -> Iterator[Timing]:
    """The passes in the order in which they ran, and what no pass took."""
    for name, sums in passes.items():
        yield Timing(name, sums.seconds, 0 if name == "entity texts" else sums.samples)
    rest = seconds - sum(sums.seconds for sums in passes.values())
    if passes and rest > 0:
        yield Timing(REST, rest, 0)
