"""Passes of a run over shards: what is missing is done, what is there stays, what cannot be done is named."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ShardmillError
from pipeline.io.inputs import Shard
from pipeline.io.store import Store
from pipeline.progress import Reporter
from pipeline.work import Executor, Item, Outcome, Work

LOGGED = ("rows", "seconds", "bytes_read", "bytes")


class EventLog:
    """`log/<start>.jsonl`, one file per driver. Clocks, attempts and throughput are in no other file."""

    def __init__(self, root: Store) -> None:
        self._root = root
        self._path = f"log/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}.jsonl"
        self._lines: list[str] = []

    def add(self, event: Mapping[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **event})
        if self._root.local is not None:
            self._root.append_line(self._path, line)
        else:
            self._lines.append(line)   # an object store has no append

    def flush(self) -> None:
        if self._lines:
            self._root.write(self._path, "".join(f"{line}\n" for line in self._lines).encode())


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
        given_up, samples = [], 0
        began = time.monotonic()
        try:
            for outcome in self.executor.run(work, items):
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
            "workers": self.executor.workers,
        })
        self.events.flush()
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
