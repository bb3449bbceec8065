"""One run at a time in a root: a lock of small files under `log/lock/`, on any store that can create a file conditionally.

`<n>.json` says who holds the root; whoever creates the next number holds it, so n is a fencing token that only grows. The
holder counts in `<n>.beat`, and leaves `<n>.released`. No clock is compared with another: a holder is passed over when it
said so, when its process is provably dead on this machine, or when its counter stood still while this process watched it
for STALE seconds of its own monotonic time. A holder that was passed over (stopped, cut off from the store) finds the
higher number at its next beat or before its next write of a file that others are told by, and stops.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import OutputError, RootError
from pipeline.root.holder import Holder
from pipeline.store.store import Store

log = logging.getLogger(__name__)

FOLDER = "log/lock"
NUMBERED = re.compile(r"([0-9]+)\.(json|beat|released)")


@dataclass(frozen=True)
class Pace:
    """How often the holder of a lock shows a sign of life, and when it counts as gone; in seconds."""

    beat: float = 5.0
    """Between two beats: one small write and one listing."""
    look: float = 1.0
    """Between two looks at another's beat."""
    stale: float = 30.0
    """Six beats: a busy machine or a store that has to be asked again misses some of them."""

    @property
    def looks(self) -> int:
        """How many looks in a row must see the same beat. They are counted, not timed: time in which this process itself was
        stopped, or waited for the store, tells nothing of the other."""
        return max(1, round(self.stale / self.look))


PACE = Pace()


class LockState(NamedTuple):
    """The lock as its files show it; number 0: nobody ever held it."""

    number: int
    holder: Holder
    released: bool


NOBODY = LockState(0, Holder.read(b""), True)


class Lock:
    """A lock that is held. `check` is the fence before every write of a file that is replaced or that others are told by."""

    def __init__(self, store: Store, number: int, pace: Pace) -> None:
        self.number = number
        self._store, self._pace = store, pace
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises RootError when this process no longer holds the root."""
        numbers = _numbers(self._store)
        if numbers and numbers[-1] > self.number:
            holder = lock_state(self._store).holder
            raise RootError(f"{self._store.url}: another run ({holder}) has taken over, this one stops; what is done is kept")
        if self.number not in numbers:
            raise RootError(f"{self._store.url}/{FOLDER}/{self.number}.json was removed: this run can no longer keep others out")
        if not self._thread.is_alive():   # whatever ended it is on stderr; others will soon think that nobody is here
            raise RootError(f"{self._store.url}: the heartbeat of this run's lock has ended; run the same command again")

    def _beat(self) -> None:
        count, is_failing = 0, False
        while True:
            count += 1
            try:
                numbers = _numbers(self._store)
                if not numbers or numbers[-1] != self.number:
                    return   # lost: `check` says it to who can act
                self._store.write(f"{FOLDER}/{self.number}.beat", b"%d\n" % count)
                is_failing = False
            except (OSError, OutputError) as error:   # nobody may have taken over: the run goes on and so does this
                if not is_failing:
                    log.warning("the lock's heartbeat cannot be written, trying again: %s", error)
                is_failing = True
            if self._end.wait(self._pace.beat):
                return

    def release(self) -> None:
        """Says that the root is free, so that the next holder need not wait."""
        self._end.set()
        self._thread.join(self._pace.stale)   # a store may take long; then the lock is stale at worst
        try:
            numbers = _numbers(self._store)
            if numbers and numbers[-1] == self.number:
                self._store.write(f"{FOLDER}/{self.number}.released", b"")
        except (OSError, OutputError) as error:
            log.warning("the lock cannot be released, the next run may wait for %.0f s: %s", self._pace.stale, error)


@contextmanager
def held(store: Store, pace: Pace = PACE) -> Iterator[Lock]:
    """Holds the root while the block runs. Raises RootError, which says who holds it, when another run does.

    Waits for as long as it takes to see the other's beat change, at most `pace.stale` seconds; not at all when the last
    holder released it or its process is dead.
    """
    number = _acquired(store, pace)
    lock = Lock(store, number, pace)
    try:
        lock.check()   # this number may be below the newest: its file was free because a later holder has already tidied up
        _tidy(store, number)
        yield lock
    finally:
        lock.release()


def lock_state(store: Store) -> LockState:
    """Who holds the lock or held it last. Takes one listing and one small read."""
    while True:
        names = set(store.names(FOLDER))
        number = max(_of(names, "json"), default=0)
        if not number:
            return NOBODY
        try:
            return LockState(number, Holder.read(store.read(f"{FOLDER}/{number}.json")), f"{number}.released" in names)
        except FileNotFoundError:   # a later holder has just tidied up
            continue


def _acquired(store: Store, pace: Pace) -> int:
    state = lock_state(store)
    if not state.released and state.holder.standing != "dead":
        log.warning("%s: looking whether another run (%s) is still at work, for up to %.0f s", store.url, state.holder, pace.stale)
        _watch(store, state, pace)
    number = state.number + 1
    if not store.create_new(f"{FOLDER}/{number}.json", Holder.this_process().as_bytes()):
        raise _in_use(store, lock_state(store).holder)
    return number


def _watch(store: Store, first: LockState, pace: Pace) -> None:
    """Returns when the holder has released the lock or counts as gone; raises RootError when it, or another, is at work."""
    beat = _count(store, first.number)
    for _ in range(pace.looks):
        time.sleep(pace.look)
        state = lock_state(store)
        if state.number != first.number:
            raise _in_use(store, state.holder)
        if state.released:
            return
        if _count(store, first.number) != beat:
            raise _in_use(store, first.holder)
    log.warning("%s: %s has shown no sign of life for %.0f s; taking over", store.url, first.holder, pace.stale)


def _in_use(store: Store, holder: Holder) -> RootError:
    return RootError(
        f"{store.url} is in use by another run: {holder}. Wait for it or stop it (Ctrl-C or SIGTERM; what is done is kept), "
        "or choose another --output. `shardmill status` shows how far it is"
    )


def _tidy(store: Store, number: int) -> None:
    """Removes what earlier holders left. The highest number stays for good, so that no token is given out twice."""
    for name in store.names(FOLDER):
        match = NUMBERED.fullmatch(name)
        if match and int(match[1]) < number:
            store.remove(f"{FOLDER}/{name}")


def _of(names: set[str], kind: str) -> list[int]:
    return sorted(int(match[1]) for match in map(NUMBERED.fullmatch, names) if match and match[2] == kind)


def _numbers(store: Store) -> list[int]:
    """The numbers of the lock files, ascending."""
    return _of(set(store.names(FOLDER)), "json")


def _count(store: Store, number: int) -> bytes | None:
    """The beat as it stands; None before the first."""
    try:
        return store.read(f"{FOLDER}/{number}.beat")
    except FileNotFoundError:
        return None
