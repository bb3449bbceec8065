"""The work in this process, one item after another: for small sets, tests, debugging and probes. No Ray here."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pipeline.distributed.attempts import Blame
from pipeline.process.share import usable_memory
from pipeline.reduce.kmeans.fleet import Fleet
from pipeline.reduce.kmeans.local_fleet import LocalFleet
from pipeline.reduce.kmeans.partition import Block
from pipeline.store.blocks.groups import undone
from pipeline.store.store import Store
from pipeline.work import Item, Outcome, Work

log = logging.getLogger(__name__)


class LocalExecutor:
    """Runs items in this process. Nothing is tried again: a store that does not answer for a while is waited for below, and all
    else would fail again."""

    gives_up = False
    """An item that raises is given up by name and the others go on, as on a cluster; its traceback goes to Python's log. Else the
    error comes through, for here it is a defect to be seen. What is no item's fault (`Blame`) always does."""
    workers = 1
    actors_per_gpu = 1

    def __init__(self, *, gives_up: bool = False) -> None:
        self.gives_up = gives_up

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """Runs the items one after another; opens the work once."""
        if not items:
            return
        blame = Blame()
        with work.open() as run:
            left = deque[Any](items)
            while left:
                item = left.popleft()
                try:
                    facts, error = run(item), None
                    left.extendleft(reversed(undone(item, facts)))
                    blame.done()
                except Exception as raised:
                    if not self.gives_up:
                        raise
                    blame.check(work.name(item), raised)
                    log.warning("%s: given up", work.name(item), exc_info=True)
                    facts, error = {}, f"{type(raised).__name__}: {raised}"
                yield Outcome(item, facts, error)

    def machines(self) -> tuple[int, int | None]:
        """This machine, and the bytes of its memory that this process may use."""
        return 1, usable_memory()

    def fleet(
        self, blocks: Sequence[Block], store: Store, scratch: str, *, alone: bool
    ) -> AbstractContextManager[Fleet[Any]]:
        """A fleet of one partition in this process."""
        return nullcontext(LocalFleet.of(blocks))
