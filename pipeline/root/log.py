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
        return advised(self.usage, self.means)


def pass_usages(root: Store) -> dict[str, PassUsage]:
    """By pass, in the order in which they ran. What is no line of ours counts nothing."""
    found: dict[str, PassUsage] = {}
    for paths in driver_logs(root):
        for one in found.values():
            one.at_work = False
        for path in paths:
            for event in read_events(root, path):
                if isinstance(event.get("pass"), str):
                    _use(found.setdefault(event["pass"], PassUsage()), event)
    return {name: one for name, one in found.items() if one.usage.total > 0 or one.at_work}


def _use(one: PassUsage, event: Event) -> None:
    if event.get("begun"):
        one.at_work, one.means = True, _means(event.get("means"))
    elif event.get("done"):
        one.at_work = False   # its sums are those of its items, which were counted
    else:
        one.usage.add(event)


def _means(found: Any) -> Means:
    named = found if isinstance(found, dict) else {}
    return Means(**{key: named[key] for key, value in asdict(Means()).items() if type(named.get(key)) is type(value)})


def driver_logs(root: Store) -> list[list[str]]:
    """The log files of each driver, in the order of time; only an object store has several of one."""
    names = [name for name in root.names("log") if name.endswith(".jsonl")]
    names.sort(key=lambda name: (name.partition(".")[0], name.count("."), name))
    return [[f"log/{name}" for name in group] for _, group in groupby(names, key=lambda name: name.partition(".")[0])]


def read_events(root: Store, path: str) -> Iterator[Event]:
    with root.open(path) as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("time"), int | float):
                yield event


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
