"""Passes of a run over shards: what is missing is done, what is there stays, what cannot be done is named."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.bottleneck import WORTH_A_LINE, Usage, in_words
from pipeline.cli.progress import Reporter
from pipeline.errors import ShardmillError
from pipeline.input.discovery import Shard
from pipeline.store.store import Store
from pipeline.work import Accounted, Executor, Item, Outcome, Work

LOGGED = ("rows", "seconds", "bytes_read", "bytes", "threads", "spent", "beside")
FLUSHED = 60.0
"""Seconds after which an object store gets the lines that it has not: what `status` sees of a run is at most so old."""
SEGMENT = 1 << 20
"""Bytes of a log file on an object store, which has no append: beyond them the next line begins another file, so that no flush
writes more than that again."""


class EventLog:
    """`log/<start>.jsonl`, one file per driver; on an object store `log/<start>.0002.jsonl` and so on after it. Clocks, attempts
    and throughput are in no other file."""

    def __init__(self, root: Store) -> None:
        self._root = root
        self._name = f"log/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        self._lines: list[str] = []
        self._segment, self._unsaved, self._flushed = 1, False, time.monotonic()

    def add(self, event: Mapping[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **event})
        if self._root.local is not None:
            self._root.append_line(f"{self._name}.jsonl", line)
            return
        self._lines.append(line)
        self._unsaved = True
        if time.monotonic() - self._flushed >= FLUSHED:
            self.flush()

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._unsaved:
            return
        content = "".join(f"{line}\n" for line in self._lines).encode()
        number = "" if self._segment == 1 else f".{self._segment:04d}"
        self._root.write(f"{self._name}{number}.jsonl", content)
        self._unsaved = False
        if len(content) >= SEGMENT:
            self._lines, self._segment = [], self._segment + 1


def unguarded() -> None:
    """The fence of a root that nobody else writes to."""


@dataclass(frozen=True)
class Driver:
    """Hands work to the executor, shows progress, and keeps the log."""

    root: Store
    executor: Executor
    reporter: Reporter
    events: EventLog
    fence: Callable[[], None] = unguarded
    """Asked before a file is replaced that other files are told by; raises when the root is another run's by now."""

    def run(self, title: str, work: Work[Item], items: Sequence[Item], *, there: int = 0) -> list[Outcome[Item]]:
        """The outcomes of the items that were given up; the others' are logged and forgotten. `there`: items that an earlier run
        has done."""
        if not items:
            return []
        self.reporter.start(title, len(items) + there, there)
        means = replace(work.means(), actors_per_gpu=self.executor.actors_per_gpu)
        self.events.add({"pass": title, "begun": True, "shards": len(items), "means": asdict(means)})
        self.events.flush()
        given_up, samples, usage = [], 0, Usage()
        began = time.monotonic()
        try:
            for outcome in self.executor.run(Accounted(work), items):
                usage.add(outcome.facts)
                rows = int(outcome.facts.get("rows", 0))
                samples += rows
                if outcome.error is not None:
                    given_up.append(outcome)
                self.reporter.advance(rows)
                self._log(title, work.name(outcome.item), outcome)
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

    def must(self, title: str, work: Work[Item], items: Sequence[Item], *, there: int = 0) -> None:
        """As `run`, but an item that cannot be done stops the run: its inputs were read before, so it is no data fault."""
        for outcome in self.run(title, work, items, there=there):
            raise ShardmillError(
                f"{title}: {work.name(outcome.item)} failed {outcome.attempts} times: {outcome.error}. "
                "What is done is kept; run the same command again to continue"
            )

    def _log(self, title: str, name: str, outcome: Outcome[Any]) -> None:
        facts: dict[str, Any] = {key: outcome.facts[key] for key in LOGGED if key in outcome.facts}
        self.events.add({"pass": title, "item": name, "attempts": outcome.attempts, "error": outcome.error, **facts})


def stored_shards(store: Store, folders: Sequence[str]) -> set[str]:
    """Shard ids whose parquet is in every one of these folders: one listing each instead of a look-up per shard."""
    found = [{name.removesuffix(".parquet") for name in store.names(folder) if name.endswith(".parquet")} for folder in folders]
    return set.intersection(*found) if found else set()


def quarantine(store: Store, outcome: Outcome[Shard]) -> None:
    shard = outcome.item
    store.write_json(f"quarantine/{shard.shard_id}.json", {
        "shard_id": shard.shard_id, "url": shard.url, "version": shard.version,
        "error": outcome.error, "attempts": outcome.attempts,
    })


def release(store: Store, shard_id: str) -> None:
    """Takes a shard out of quarantine."""
    store.remove(f"quarantine/{shard_id}.json")


def quarantined(store: Store, shards: Sequence[Shard]) -> dict[str, str]:
    """shard_id -> error of the shards given up earlier. A file that has changed since is tried again."""
    versions = {shard.shard_id: shard.version for shard in shards}
    found = {}
    for name in store.names("quarantine"):
        entry = store.read_json(f"quarantine/{name}")
        if versions.get(entry["shard_id"]) == entry["version"]:
            found[entry["shard_id"]] = str(entry["error"])
    return found
