"""A fleet in this process: for rows that fit one machine, for arrays, and for tests of what the distributed one must equal."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np

from pipeline.models.matrices.torch_or_numpy import loaded_for
from pipeline.reduce.kmeans.fleet import AssignmentStep, Fleet
from pipeline.reduce.kmeans.owner import Owner, slices
from pipeline.reduce.kmeans.partition import Block, Partition
from pipeline.reduce.kmeans.seeding import Slice
from pipeline.search.nearest import Centres, kernel
from pipeline.search.threads import eager_switches, loaded_libraries, single_threaded
from pipeline.vectors import Floats, Ids

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class LocalFleet(Fleet[Floats]):
    """Partitions, as many at a time as there are `threads`, and owners of slices. A handle is the value itself.

    Threads of Python, each with single-threaded kernels, also share the work between the products of matrices.
    """

    partitions: Sequence[Partition]
    owners: int = 1
    threads: int = 1
    _slices: list[Owner] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.parts = len(self.partitions)
        self.rows = sum(len(partition) for partition in self.partitions)
        self.dimension = self.partitions[0].dimension if self.partitions else 0
        loaded_for(sum(partition.work for partition in self.partitions))

    @classmethod
    def of(cls, blocks: Sequence[Block], *, partitions: int = 1, owners: int = 1, threads: int = 1) -> Self:
        """The fleet whose partitions hold these blocks, in order: as many partitions as asked for, or as there are blocks."""
        parts: list[Partition] = []
        for run in runs(blocks, partitions):
            parts.append(Partition(run, sum(len(part) for part in parts)))
        return cls(parts, owners, threads)

    def each_partition(self, function: Callable[..., Any], *arguments: Any, items: Sequence[Any] | None = None) -> list[Any]:
        """See `Fleet`."""
        if items is None:
            return self._map(lambda partition: function(partition, *arguments), self.partitions)
        return self._map(lambda at: function(self.partitions[at % self.parts], items[at], *arguments), range(len(items)))

    def each_owner(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """See `Fleet`."""
        return [function(owner, *arguments) for owner in self._slices]

    def alone(self, function: Callable[..., Any], *arguments: Any, outputs: int = 1) -> Any:
        """See `Fleet`."""
        return self._map(lambda _: function(*arguments), [None])[0]

    def value(self, handle: Any) -> Any:
        """See `Fleet`."""
        return handle

    def reduced(
        self, step: AssignmentStep[Floats], bounds: Sequence[Slice], function: Callable[..., Any], *arguments: Any
    ) -> list[Any]:
        """See `Fleet`."""
        self._slices = [Owner(*part) for part in bounds]
        for owner in self._slices:
            owner.begin(step.turn, step.centres)
        answers = self.each_partition(function, *arguments, bounds)
        for number, (_, *sums) in enumerate(answers):
            for owner, part_sums in zip(self._slices, sums, strict=True):
                owner.add(step.turn, number, part_sums)
        return [fact for fact, *_ in answers]

    def packed(self, centres: Floats) -> Centres:
        """See `Fleet`."""
        return kernel()(centres)

    def assignment(self) -> Ids:
        """i32[n]: the centre of each row, over all partitions."""
        return np.concatenate([partition.assignment for partition in self.partitions if partition.assignment is not None])

    def _map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        if self.threads == 1:
            return [function(item) for item in items]
        # numpy's BLAS has one number of threads for the process; two callers with two threads each wait for each other
        one_thread = loaded_libraries().limit(limits=1, user_api="blas")
        with one_thread, eager_switches(), ThreadPoolExecutor(self.threads, initializer=single_threaded) as pool:
            return list(pool.map(function, items))


def runs(blocks: Sequence[Block], parts: int) -> list[Sequence[Block]]:
    """Runs of consecutive blocks: as many as asked for, or as there are blocks."""
    return [blocks[start:stop] for start, stop in slices(len(blocks), parts)] if blocks else []
