"""The roots of a service by name, each replaced by its next publication while requests go on."""

import asyncio
import logging
import re
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import BoundedSemaphore

from pipeline.errors import InputError, ShardmillError
from pipeline.serve.metrics import Metrics
from pipeline.serve.problems import Refused
from pipeline.serve.roots.opened import OpenedRoot
from pipeline.serve.roots.publication import publication, publication_or_none
from pipeline.serve.settings import Settings
from pipeline.store.store import Store

log = logging.getLogger("pipeline.serve")
NAME = re.compile(r"[^A-Za-z0-9._-]+")


def named(urls: Sequence[str]) -> dict[str, str]:
    """The URL of each root by its name: the last part of its path, or what stands before `=` in NAME=ROOT; a number is added where
    two have one name. Raises InputError where there is no root."""
    if not urls:
        raise InputError("give a root to serve: shardmill serve ROOT")
    by_name: dict[str, str] = {}
    for text in urls:
        given, equals, url = text.partition("=")
        if not equals or NAME.search(given) or not given:
            given, url = "", text
        name = given or NAME.sub("-", Store(url).url.rstrip("/").rpartition("/")[2]).strip("-") or "root"
        numbered = (f"{name}-{number}" if number > 1 else name for number in range(1, len(urls) + 1))
        by_name[next(one for one in numbered if one not in by_name)] = url
    return by_name


@dataclass
class Roots:
    """The roots that are served. Requests take the one they need once, and keep it to their end."""

    settings: Settings
    metrics: Metrics
    urls: dict[str, str]
    _opened: dict[str, OpenedRoot] = field(default_factory=dict)
    _scans: BoundedSemaphore = field(init=False)

    def __post_init__(self) -> None:
        self._scans = BoundedSemaphore(self.settings.scans)

    def open(self) -> None:
        """Opens every root. Raises RootError or InputError for one that cannot be served."""
        for name, url in self.urls.items():
            self._opened[name] = OpenedRoot.open(url, name, publication(Store(url)), self.settings, self._scans)

    def warm(self) -> None:
        """Loads what the first requests would wait for. Raises InputError where a model cannot be had."""
        for root in self._opened.values():
            root.warm(encoder=self.settings.encoder)

    @property
    def names(self) -> tuple[str, ...]:
        """The first is the one of requests that name none."""
        return tuple(self.urls)

    def all(self) -> tuple[OpenedRoot, ...]:
        """Every root, as it is published now."""
        return tuple(self._opened[name] for name in self.urls)

    def get(self, name: str | None, *, field: str = "root") -> OpenedRoot:
        """A root by its name, the first for None. Raises Refused for another name."""
        if name is None:
            return self._opened[self.names[0]]
        if name not in self._opened:
            raise Refused(404, f"no root of this name is served: there is {', '.join(self.names[:20])}", field=field,
                          code="unknown_root")
        return self._opened[name]

    async def watch(self, pool: Executor) -> None:
        """Looks for new publications until it is cancelled. A root that cannot be opened stays as it was, and is tried again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.settings.watch_seconds)
            for name in self.names:
                await loop.run_in_executor(pool, self.refresh, name)

    def refresh(self, name: str) -> bool:
        """Takes over the newest publication of a root, warm; False where there is none, or it cannot be served."""
        root = self._opened[name]
        version = publication_or_none(root.store)
        if version is None or version == root.version:
            return False
        try:
            newer = OpenedRoot.open(self.urls[name], name, version, self.settings, self._scans)
            newer.warm(encoder=self.settings.encoder)
        except (ShardmillError, OSError) as error:
            log.warning("%s has a publication that cannot be served yet: %s", name, error)
            return False
        self._opened[name] = newer
        self.metrics.publications.labels(name).inc()
        log.info("%s: publication %s is served now", name, version)
        return True
