"""The processes of a fleet on Ray: thin shells around a partition and an owner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from pipeline.distributed.worker import WATCH
from pipeline.models.matrices.torch_or_numpy import loaded_for
from pipeline.reduce.kmeans.device import Accelerator
from pipeline.reduce.kmeans.owner import Owner
from pipeline.reduce.kmeans.partition import Block, Partition
from pipeline.reduce.kmeans.sums import Sums
from pipeline.search.kernels import use_device
from pipeline.vectors import Floats
from pipeline.work import beats


@dataclass(frozen=True)
class Seats:
    """How many actors, and what each gets."""

    workers: int | None = None
    """None: as many as fit."""
    cpus: int = 1
    gpus: float = 0
    device: str | None = None
    """Where its passes run, as torch names it. None: on the CPU, or on the GPU that it has."""

    @property
    def place(self) -> str | None:
        return self.device or ("cuda" if self.gpus else None)


class PartitionActor:
    """Holds one partition in its own process."""

    def __init__(self, blocks: Sequence[Block], threads: int, device: str | None = None) -> None:
        """`device` is the actor's own, as torch names it. Without one it uses no GPU, though it may see some: Ray hides them from
        actors without GPUs only until `RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO` says otherwise."""
        from pipeline.models.process import limit_threads, tune

        tune()
        self._held = Partition(blocks, accelerator=Accelerator.of(device) if device and use_device(device) else None)
        if loaded_for(self._held.work):   # while the driver waits for an opening: in a pass its seconds look like a hang
            limit_threads(threads)

    @ray.method(concurrency_group=WATCH)
    def beats(self) -> tuple[int, int]:
        """How often this process got somewhere; of an item there are no rows here."""
        return beats(), 0

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(partition, *arguments): any of the fleet's own."""
        return function(self._held, *arguments)


class OwnerActor:
    """Owns a slice of the centres, another one in every pass if need be."""

    def begin(self, bounds: tuple[int, int], turn: int, centres: Floats) -> None:
        self._held = Owner(*bounds)
        self._held.begin(turn, centres)

    def add(self, turn: int, partition: int, sums: Sums) -> None:
        self._held.add(turn, partition, sums)

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(owner, *arguments)."""
        return function(self._held, *arguments)


def size(partition: Partition) -> tuple[int, int]:
    """Rows, and values of each."""
    return len(partition), partition.dimension


def number(partition: Partition, first_row: int) -> None:
    """The global number of its first row."""
    partition.first_row = first_row
