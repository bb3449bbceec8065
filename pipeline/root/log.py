"""What happened when: `log/`, the only place of clocks."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from pipeline.store.store import Store
from pipeline.timing.bottleneck import Means, Usage, advised

Event = Mapping[str, Any]


@dataclass
class PassUsage:
    """Where the seconds of a pass went so far, over all drivers that worked on it."""

    usage: Usage = field(default_factory=Usage)
    means: Means = field(default_factory=Means)
    at_work: bool = False
    """It began and did not end, by the log of the newest driver; whether that one still lives is not known here."""

    @property
    def advice(self) -> str:
        """What holds the pass up and what to change, in one sentence; empty where there is nothing to say."""
        return advised(self.usage, self.means)


def pass_usages(root: Store) -> dict[str, PassUsage]:
    """Where the time of each pass went, in the order in which the passes ran. Lines that are none of ours count nothing."""
    by_pass: dict[str, PassUsage] = {}
    for paths in driver_logs(root):
        for spent in by_pass.values():
            spent.at_work = False
        for path in paths:
            for event in read_events(root, path):
                if isinstance(event.get("pass"), str):
                    _add(by_pass.setdefault(event["pass"], PassUsage()), event)
    return {name: spent for name, spent in by_pass.items() if spent.usage.total > 0 or spent.at_work}


def _add(spent: PassUsage, event: Event) -> None:
    if event.get("begun"):
        spent.at_work, spent.means = True, _means(event.get("means"))
    elif event.get("done"):
        spent.at_work = False   # its sums are those of its items, which were counted
    else:
        spent.usage.add(event)


def _means(stored: Any) -> Means:
    fields = stored if isinstance(stored, dict) else {}
    return Means(**{key: fields[key] for key, value in asdict(Means()).items() if type(fields.get(key)) is type(value)})


def driver_logs(root: Store) -> list[list[str]]:
    """The paths of the log files of each driver, in the order of time; only an object store has several of one."""
    names = [name for name in root.names("log") if name.endswith(".jsonl")]
    names.sort(key=lambda name: (name.partition(".")[0], name.count("."), name))
    return [[f"log/{name}" for name in group] for _, group in groupby(names, key=lambda name: name.partition(".")[0])]


def read_events(root: Store, path: str) -> Iterator[Event]:
    """The events of a log file. Lines that are cut or no event are skipped."""
    with root.open(path) as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("time"), int | float):
                yield event


LOGGED = ("rows", "shards", "seconds", "bytes_read", "bytes", "threads", "spent", "beside")


FLUSHED = 60.0
"""Seconds after which an object store gets the lines that it has not: what `status` sees of a run is at most so old."""


SEGMENT = 1 << 20
"""Bytes of a log file on an object store, which has no append: beyond them the next line begins another file, so that no flush
writes more than that again."""


class EventLog:
    """The log of a driver: `log/<start>.jsonl`; on an object store `log/<start>.0002.jsonl` and so on after it. Clocks, attempts
    and throughput are in no other file."""

    def __init__(self, root: Store) -> None:
        self._root = root
        self._name = f"log/{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.getpid()}"
        self._lines: list[str] = []
        self._segment, self._unsaved, self._flushed = 1, False, time.monotonic()

    def add(self, event: Mapping[str, Any]) -> None:
        """Appends an event with the time. An object store gets it with the next flush, at the latest FLUSHED seconds later if
        events go on."""
        line = json.dumps({"time": round(time.time(), 3), **event})
        if self._root.local is not None:
            self._root.append_line(f"{self._name}.jsonl", line)
            return
        self._lines.append(line)
        self._unsaved = True
        if time.monotonic() - self._flushed >= FLUSHED:
            self.flush()

    def flush(self) -> None:
        """Writes the lines that an object store has not got yet; a local file has them all."""
        self._flushed = time.monotonic()
        if not self._unsaved:
            return
        content = "".join(f"{line}\n" for line in self._lines).encode()
        number = "" if self._segment == 1 else f".{self._segment:04d}"
        self._root.write(f"{self._name}{number}.jsonl", content)
        self._unsaved = False
        if len(content) >= SEGMENT:
            self._lines, self._segment = [], self._segment + 1
