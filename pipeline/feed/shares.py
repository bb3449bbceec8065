"""Who feeds which positions of an epoch's order, and which are left. Pure: lists of intervals [start, stop) of positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Interval = tuple[int, int]
Intervals = tuple[Interval, ...]
Tail = Literal["uneven", "drop", "pad", "wrap"]
TAILS: tuple[Tail, ...] = ("uneven", "drop", "pad", "wrap")


@dataclass(frozen=True)
class Share:
    """What one reader feeds."""

    own: Intervals
    """Positions that it alone feeds, in this order."""
    again: Intervals = ()
    """Positions that are fed a second time so that all readers feed equally many; after its own."""

    def __len__(self) -> int:
        return size(self.own) + size(self.again)

    def after(self, done: int) -> "Share":
        """What is left of it when so many positions are fed."""
        own = size(self.own)
        return Share(rest(self.own, min(done, own)), rest(self.again, max(0, done - own)))


def size(intervals: Intervals) -> int:
    """How many positions these are."""
    return sum(stop - start for start, stop in intervals)


def first(intervals: Intervals, count: int) -> Intervals:
    """The first `count` of these positions; all where there are fewer."""
    taken = []
    for start, stop in intervals:
        if count <= 0:
            break
        taken.append((start, min(stop, start + count)))
        count -= stop - start
    return tuple(taken)


def rest(intervals: Intervals, count: int) -> Intervals:
    """These positions without the first `count`."""
    left = []
    for start, stop in intervals:
        begin = min(stop, start + max(count, 0))
        count -= stop - start
        if begin < stop:
            left.append((begin, stop))
    return tuple(left)


def merged(parts: Sequence[Intervals]) -> Intervals:
    """The positions of all parts in their order; intervals that touch become one."""
    joined: list[Interval] = []
    for interval in (interval for part in parts for interval in part):
        if joined and joined[-1][1] == interval[0]:
            joined[-1] = joined[-1][0], interval[1]
        else:
            joined.append(interval)
    return tuple(joined)


def split(left: Intervals, readers: int, tail: Tail = "uneven") -> tuple[Share, ...]:
    """Shares of consecutive positions for so many readers; the sizes differ by one at most.

    `tail`, where they do not come out even: `uneven` feeds every position once; `drop` leaves out the last ones, fewer than
    `readers`; `pad` has a reader feed its last position again; `wrap` feeds the first positions again. Raises ValueError for
    another word."""
    if tail not in TAILS:
        raise ValueError(f"tail={tail!r}: choose one of {', '.join(TAILS)}")
    total = size(left)
    least, more = divmod(total, readers)
    shares, begun = list[Share](), 0
    for reader in range(readers):
        count = least + (reader < more and tail != "drop")
        own = first(rest(left, begun), count)
        begun += count
        again: Intervals = ()
        if more and count == least and total and tail in ("pad", "wrap"):
            last = own[-1][1] if own else left[0][1]   # a reader with nothing of its own repeats what another feeds
            again = ((last - 1, last),) if tail == "pad" else first(rest(left, (reader - more) % total), 1)
        shares.append(Share(own, again))
    return tuple(shares)
