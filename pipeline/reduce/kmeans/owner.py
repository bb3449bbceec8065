"""The owner of a slice of the centres: adds up what the partitions send and closes a pass."""

from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.reduce.kmeans.sums import Sums, close, objective, overshot
from pipeline.vectors import Floats, Ints


@dataclass
class Owner:
    """Of centres [start, stop). Holds their sums (8 bytes a value) and two copies of the slice."""

    start: int
    stop: int
    _centres: Floats = field(init=False)
    _sums: Sums = field(init=False)
    _turn: int = field(default=-1, init=False)
    _from: set[int] = field(default_factory=set, init=False)

    def begin(self, turn: int, centres: Floats) -> None:
        """A new pass, in which the rows were given to these centres (f32[k, d], all of them)."""
        self._turn, self._from = turn, set()
        self._centres = centres[self.start : self.stop]
        self._sums = Sums.zero(*self._centres.shape)

    def add(self, turn: int, partition: int, sums: Sums) -> None:
        """What one partition adds to this slice. A second time, or of another pass, it changes nothing."""
        if turn == self._turn and partition not in self._from:
            self._sums.add(sums)
            self._from.add(partition)

    def counted(self, partitions: int) -> tuple[Ints, int]:
        """Rows of each centre of the slice, i64[stop - start], and their summed similarity (`sums.OBJECTIVE_SCALE`). Raises
        ValueError where the sums of one of so many partitions did not come."""
        if len(self._from) != partitions:
            raise ValueError(f"sums of {len(self._from)} partitions came, not of {partitions}")
        return self._sums.counts, objective(self._sums, self._centres)

    def moved(self, ids: Ints, rows: Floats | None, beyond: float = 0.0) -> Floats:
        """The slice's next centres: the means, overshot by `beyond` of the way to them; those of `ids` (of all centres) become
        these rows."""
        result = overshot(close(self._sums, self._centres), self._centres, beyond)
        if rows is not None:
            own = (ids >= self.start) & (ids < self.stop)
            result[ids[own] - self.start] = rows[own]
        return result


def slices(k: int, owners: int) -> list[tuple[int, int]]:
    """Even slices of k centres; at most k of them."""
    bounds = [k * i // min(owners, k) for i in range(min(owners, k) + 1)]
    return list(pairwise(bounds))
