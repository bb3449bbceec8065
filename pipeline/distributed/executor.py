"""What runs work, wherever: the passes know no more of it."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pipeline.reduce.kmeans.fleet import Fleet
    from pipeline.reduce.kmeans.partition import Block
    from pipeline.store.store import Store
from pipeline.work import Item, Outcome, Work


class Executor(Protocol):
    """Runs every item and yields each outcome as it comes, in no particular order."""

    @property
    def workers(self) -> int:
        """How many workers the last pass has."""

    @property
    def actors_per_gpu(self) -> int:
        """How many workers share a GPU; 1 where none has one."""

    def run(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """Runs every item, and yields each outcome as it comes."""

    def machines(self) -> tuple[int, int | None]:
        """Nodes, and the bytes of memory that the smallest has for workers (None: not known)."""

    def fleet(
        self, blocks: "Sequence[Block]", store: "Store", scratch: str, *, alone: bool
    ) -> "AbstractContextManager[Fleet[Any]]":
        """What a clustering of these rows runs on. `scratch`: a folder of the store for it; `alone`: it is little work, which this
        process may as well do. Where it runs changes no bit."""
