"""Rows of many callers, gathered into batches of one fixed shape, in a bounded number of buffers.

A row's values do not depend on its place or its neighbours (`server` checks that), so rows of different shards share a batch
and no bit changes. Buffers are all there is: a caller whose rows find none free waits, and so does whoever feeds it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from torch import Tensor

LINGER = 0.01
"""Seconds that an idle device waits for more rows before it computes a batch with room in it."""


@dataclass(eq=False)
class Slot:
    """The buffers of one batch in the host's memory. Lane and owner change it; readers look at it once `computed` is set."""

    inputs: Tensor
    """[rows, ...]"""
    outputs: Tensor
    """float32 [rows, dimension]"""
    seconds: float = 0.0
    """that the device spent on the last batch"""
    reserved: int = 0
    arriving: int = 0
    """shares whose rows are not all here"""
    held: int = 0
    """shares whose results were not fetched"""
    since: float = 0.0
    error: Exception | None = None
    computed: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Share:
    """Rows start..stop of a slot, which one caller fills and fetches."""

    slot: Slot
    start: int
    stop: int


Start = Callable[[Slot], Callable[[], None]]
"""Begins to compute a slot; what comes back waits for the end."""


class Lane:
    """One tower's batches: reserved and filled by many threads, begun by a second, ended by a third."""

    def __init__(self, slots: Sequence[Slot], start: Start, name: str) -> None:
        self._rows = len(slots[0].inputs)
        self._start = start
        self._free = deque(slots)
        self._filling: Slot | None = None
        self._full: deque[Slot] = deque()
        self._begun = 0
        self._changed = threading.Condition()
        self._ending: SimpleQueue[tuple[Slot, Callable[[], None]]] = SimpleQueue()
        for run, role in ((self._begin, "begin"), (self._end, "end")):
            threading.Thread(target=run, name=f"{name} {role}", daemon=True).start()

    def reserve(self, rows: int) -> list[Share]:
        """Room for so many rows, at most one batch of them, in one or two slots. Whoever reserves must call `arrived` and in the
        end `fetched` for each share. All at once or nothing: callers who held a part and waited for the rest would wait for each
        other."""
        with self._changed:
            while not self._room(rows):
                self._changed.wait()
            shares = []
            while rows:
                if self._filling is None:
                    self._filling = self._free.popleft()
                    self._filling.since = time.monotonic()
                slot = self._filling
                share = Share(slot, slot.reserved, min(self._rows, slot.reserved + rows))
                slot.reserved = share.stop
                slot.arriving += 1
                slot.held += 1
                rows -= share.stop - share.start
                shares.append(share)
                if slot.reserved == self._rows:
                    self._seal(slot)
            self._changed.notify_all()
            return shares

    def _room(self, rows: int) -> bool:
        rest = 0 if self._filling is None else self._rows - self._filling.reserved
        return bool(self._free) or rows <= rest

    def arrived(self, share: Share) -> None:
        """The rows of the share are in its slot (or never will be)."""
        with self._changed:
            share.slot.arriving -= 1
            self._changed.notify_all()

    def fetched(self, share: Share) -> None:
        """The results are not needed any more. The last one frees the slot, which then was computed."""
        slot = share.slot
        slot.computed.wait()
        with self._changed:
            slot.held -= 1
            if not slot.held:
                slot.reserved, slot.error = 0, None
                slot.computed.clear()
                self._free.append(slot)
                self._changed.notify_all()

    def _seal(self, slot: Slot) -> None:
        self._full.append(slot)
        self._filling = None
        self._changed.notify_all()

    def _begin(self) -> None:
        while True:
            with self._changed:
                while (slot := self._ready()) is None:
                    self._changed.wait(LINGER if self._filling is not None and not self._begun else None)
                self._begun += 1
            try:
                wait = self._start(slot)
            except Exception as error:  # noqa: BLE001 (whoever asked hears of it; the process goes on)
                slot.error, wait = error, no_wait
            self._ending.put((slot, wait))

    def _ready(self) -> Slot | None:
        """A full slot, or one with room that an idle device has waited on for long enough."""
        complete = next((slot for slot in self._full if not slot.arriving), None)
        if complete is not None:
            self._full.remove(complete)
            return complete
        slot = self._filling
        if slot is None or self._begun or self._full or slot.arriving or not slot.reserved:
            return None
        if time.monotonic() - slot.since < LINGER:
            return None
        self._filling = None
        return slot

    def _end(self) -> None:
        while True:
            slot, wait = self._ending.get()
            try:
                wait()
            except Exception as error:  # noqa: BLE001
                slot.error = error
            with self._changed:
                self._begun -= 1
                self._changed.notify_all()
            slot.computed.set()


def no_wait() -> None:
    """There is nothing to wait for."""
