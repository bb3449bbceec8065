"""A stage that shares its model with other processes. In a file of its own: it brings torch, which most works do without."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pipeline.stage import Transform
from pipeline.stages.clip import ClipStage, clip_columns


@dataclass(frozen=True)
class SharedClip(ClipStage):
    """The clip stage by the server that the workers of a GPU share, on this machine's processor."""

    @property
    def overlap(self) -> int:
        return 3

    @contextmanager
    def open(self) -> Iterator[Transform]:
        from pipeline.models.device.client import connected

        yield partial(clip_columns, connected(self.spec, self.route, self.micro_batch, idle=12.0))
