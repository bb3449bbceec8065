"""What every work gets: its opening without the collector, and the collector back."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pipeline.work import Accounted, Facts, Work, collector_paused


@dataclass(frozen=True)
class Watching(Work[int]):
    """Says at each step whether the collector is at work."""

    at: list[tuple[str, bool]]
    opens: bool = True

    def name(self, item: int) -> str:
        return str(item)

    @contextmanager
    def open(self) -> Iterator[Callable[[int], Facts]]:
        self.at.append(("opening", gc.isenabled()))
        if not self.opens:
            raise OSError
        yield lambda item: {"collecting": gc.isenabled()}
        self.at.append(("closing", gc.isenabled()))


def test_the_collector_rests_while_a_work_opens_and_not_while_it_runs() -> None:
    at: list[tuple[str, bool]] = []
    with Accounted(Watching(at)).open() as run:
        assert run(1)["collecting"]
    assert at == [("opening", False), ("closing", True)]


def test_a_work_that_does_not_open_leaves_the_collector_at_work() -> None:
    with pytest.raises(OSError), Accounted(Watching([], opens=False)).open():   # noqa: PT011 (of the work above)
        pass
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
