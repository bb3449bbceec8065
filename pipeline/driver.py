"""Passes of a run over shards: what is missing is done, what is there stays, what cannot be done is named."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.distributed.executor import Executor
from pipeline.distributed.local import LocalExecutor
from pipeline.errors import ShardmillError
from pipeline.root.log import LOGGED, EventLog
from pipeline.store.blocks.groups import Grouped, grouped, parts, undone
from pipeline.store.store import Store
from pipeline.timing.bottleneck import WORTH_A_LINE, Usage, in_words
from pipeline.timing.progress import Reporter, Scope, Step, phase
from pipeline.work import Accounted, Facts, Item, Outcome, Work, heard


def unguarded() -> None:
    """The fence of a root that nobody else writes to."""


def cannot_be_done(title: str, work: Work[Item], outcome: Outcome[Item]) -> ShardmillError:
    """What to raise for an item that was given up and that nothing can go on without."""
    return ShardmillError(
        f"{title}: {work.name(outcome.item)} failed {outcome.attempts} times: {outcome.error}. "
        "What is done is kept; run the same command again to continue"
    )


@dataclass(frozen=True)
class Driver:
    """Hands work to the executor, shows progress, and keeps the log."""

    root: Store
    executor: Executor
    reporter: Reporter
    events: EventLog
    fence: Callable[[], None] = unguarded
    """Asked before a file is replaced that other files are told by; raises when the root is another run's by now."""

    def run(self, title: str, work: Work[Item], items: Sequence[Item], *, done: int = 0) -> list[Outcome[Item]]:
        """The outcomes of the items that were given up; the others' are logged and forgotten. `done`: how many further items an
        earlier run has done."""
        if not items:
            return []
        self.reporter.start(title, Scope(len(items) + done, done, rows_of(work, items), work.units))
        means = replace(work.means(), actors_per_gpu=self.executor.actors_per_gpu)
        self.events.add({"pass": title, "begun": True, "shards": len(items), "means": asdict(means)})
        self.events.flush()
        given_up, samples, usage = [], 0, Usage()
        together = Grouped(work)
        began = time.monotonic()
        try:
            with heard(self.reporter.moved):
                for outcome in self.executor.run(Accounted(together), grouped(work, items)):
                    usage.add(outcome.facts)
                    step = step_of(outcome.facts, len(parts(outcome.item)) - len(undone(outcome.item, outcome.facts)))
                    samples += step.rows
                    if outcome.error is not None:
                        given_up.append(outcome)
                    self.reporter.advance(step)
                    self._log(title, together.name(outcome.item), outcome)
        finally:
            self.reporter.finish()
        self.events.add({
            "pass": title, "done": True, "seconds": time.monotonic() - began, "shards": len(items), "samples": samples,
            "workers": self.executor.workers, **usage.as_dict(),
        })
        self.events.flush()
        if usage.total >= WORTH_A_LINE:
            self.reporter.note(f"{title}: {in_words(usage, means)}")
        return given_up

    def complete(
        self, title: str, work: Work[Item], items: Sequence[Item], done: Collection[str], *, alone: bool = False
    ) -> None:
        """As `must`, of the items that an earlier run has not done; `done` are the names of those that it has. `alone`: they are
        little work, which this process has done before workers would have started; it is not told of."""
        missing = [item for item in items if work.name(item) not in done]
        if alone:
            for _ in LocalExecutor().run(work, missing):
                pass
        else:
            self.must(title, work, missing, done=len(items) - len(missing))

    def must(self, title: str, work: Work[Item], items: Sequence[Item], *, done: int = 0) -> None:
        """As `run`, but raises ShardmillError, with what to do, for an item that cannot be done: its inputs were read before, so it
        is no data fault."""
        for outcome in self.run(title, work, items, done=done):
            raise cannot_be_done(title, work, outcome)

    def phase(self, title: str, scope: Scope = Scope()) -> AbstractContextManager[None]:   # noqa: B008 (frozen)
        """Tells of what this process does meanwhile."""
        return phase(self.reporter, title, scope)

    def _log(self, title: str, name: str, outcome: Outcome[Any]) -> None:
        facts: dict[str, Any] = {key: outcome.facts[key] for key in LOGGED if key in outcome.facts}
        self.events.add({"pass": title, "item": name, "attempts": outcome.attempts, "error": outcome.error, **facts})


def rows_of(work: Work[Item], items: Sequence[Item]) -> int | None:
    """How many rows the items have in all; None where the work does not know before."""
    total = 0
    for item in items:
        rows = work.rows_of(item)
        if rows is None:
            return None
        total += rows
    return total


def step_of(facts: Facts, items: int = 1) -> Step:
    """What the facts of an item, or of so many together, say to people."""
    return Step(int(facts.get("rows", 0)), float(facts.get("seconds", 0.0)), by_fate(facts.get("verdicts", {})), items)


def by_fate(verdicts: Mapping[str, int]) -> dict[str, int]:
    """Samples by what became of them, whatever the reason: kept, rejected, failed."""
    fates = dict.fromkeys(("kept", "rejected", "failed"), 0)
    for verdict, count in verdicts.items():
        fates[verdict.partition(":")[0]] += count
    return fates
