"""The work in this process, one item after another: for tests, debugging and probes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pipeline.reduce.kmeans.fit import Fleet
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import Block
from pipeline.store.store import Store
from pipeline.work import Item, Outcome, Work


class LocalExecutor:
    """Errors are not retried: here they are defects to be seen."""

    workers = 1
    actors_per_gpu = 1

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        if not items:
            return
        with work.open() as run:
            for item in items:
                yield Outcome(item, run(item))

    def machines(self) -> tuple[int, int | None]:
        return 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def fleet(
        self, blocks: Sequence[Block], store: Store, scratch: str, *, alone: bool
    ) -> AbstractContextManager[Fleet[Any]]:
        return nullcontext(LocalFleet.of(blocks))
