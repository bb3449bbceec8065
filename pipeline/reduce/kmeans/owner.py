"""The owner of a slice of the centres: adds up what the partitions send and closes a pass."""

from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.reduce.kmeans.sums import Sums, objective, over_relaxed, updated_centres
from pipeline.vectors import Floats, Ints


@dataclass
class Owner:
    """The owner of the centres start..stop - 1. It holds their sums (8 bytes a value) and two copies of the slice."""

    start: int
    stop: int
    _centres: Floats = field(init=False)
    _sums: Sums = field(init=False)
    _turn: int = field(default=-1, init=False)
    _from: set[int] = field(default_factory=set, init=False)

    def begin(self, turn: int, centres: Floats) -> None:
        """Starts the sums of a new pass, in which the rows were assigned to these centres (f32[k, d], all of them)."""
        self._turn, self._from = turn, set()
        self._centres = centres[self.start : self.stop]
        self._sums = Sums.zero(*self._centres.shape)

    def add(self, turn: int, partition: int, sums: Sums) -> None:
        """Adds what one partition's rows add to this slice. Sums that come twice, or late from another pass, change nothing."""
        if turn == self._turn and partition not in self._from:
            self._sums.add(sums)
            self._from.add(partition)

    def counted(self, partitions: int) -> tuple[Ints, int]:
        """Rows of each centre of the slice, i64[stop - start], and their summed similarity (`sums.OBJECTIVE_SCALE`). Raises
        ValueError where the sums of one of so many partitions did not come."""
        if len(self._from) != partitions:
            raise ValueError(f"sums of {len(self._from)} partitions came, not of {partitions}")
        return self._sums.counts, objective(self._sums, self._centres)

    def updated(self, ids: Ints, rows: Floats | None, beyond: float = 0.0) -> Floats:
        """The slice's next centres: the means, over-relaxed by `beyond` of the way to them; those of `ids` (of all centres) become
        these rows."""
        result = over_relaxed(updated_centres(self._sums, self._centres), self._centres, beyond)
        if rows is not None:
            inside = (ids >= self.start) & (ids < self.stop)
            result[ids[inside] - self.start] = rows[inside]
        return result


def slices(k: int, owners: int) -> list[tuple[int, int]]:
    """(start, stop) of even slices of k centres, one for each owner; at most k of them."""
    bounds = [k * i // min(owners, k) for i in range(min(owners, k) + 1)]
    return list(pairwise(bounds))
