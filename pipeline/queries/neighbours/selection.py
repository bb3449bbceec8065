"""Which samples of a root may be found: by their verdict, by bounds on columns, or by a set of rows."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.plan import Plan
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.rows.where import Where, bounds, chosen
from pipeline.recipe.rule_columns import spelling_hint
from pipeline.recipe.rules import Bound
from pipeline.search.index.ids import by_number
from pipeline.select.ledger import Ledger
from pipeline.select.stored import has_ledger, stored_ledger
from pipeline.select.verdicts import FAILED, KEPT, REJECTED
from pipeline.vectors import Bools, Bytes, Ints

ANY = "any"
"""A verdict that all samples have."""
OUTCOMES = (KEPT, REJECTED.rstrip(":"), FAILED.rstrip(":"))


NO_BITS = np.zeros(0, np.uint8)


@dataclass(frozen=True, eq=False)
class RowSet:
    """Rows of a root, a bit each: 125 MB of a billion."""

    bits: Mapping[int, Bytes]
    """u8 [rows / 8], by the place of the shard in the plan"""

    @classmethod
    def of(cls, batches: Iterable[Ints]) -> "RowSet":
        """The rows of ids, i64 [n] each, as `Found` numbers them; in any order."""
        bits: dict[int, Bytes] = {}
        for ids in batches:
            for number, _, rows in by_number(ids):
                held = bits.get(number, NO_BITS)
                more = np.zeros(max(len(held), int(rows.max()) // 8 + 1), np.uint8)
                more[: len(held)] = held
                np.bitwise_or.at(more, rows >> 3, (1 << (rows & 7)).astype(np.uint8))
                bits[number] = more
        return cls(bits)

    def rows(self, number: int) -> Ints:
        """i64, ascending: those of a shard."""
        return np.flatnonzero(np.unpackbits(self.bits.get(number, NO_BITS), bitorder="little"))

    @cached_property
    def count(self) -> int:
        """How many."""
        return sum(int(np.bitwise_count(bits).sum()) for bits in self.bits.values())

    @property
    def bytes(self) -> int:
        """That they take in memory."""
        return sum(bits.nbytes for bits in self.bits.values())

    def has(self, ids: Ints) -> Bools:
        """bool of the shape of the ids: whether each is among them; False for -1."""
        flat, found = ids.ravel(), np.zeros(ids.size, bool)
        for number, places, rows in by_number(flat):
            bits = self.bits.get(number, NO_BITS)
            inside = rows >> 3 < len(bits)
            places, rows = places[inside], rows[inside]
            found[places] = (bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
        return found.reshape(ids.shape)


@dataclass(frozen=True)
class Selection:
    """Samples that meet all of these; as a value it can be compared."""

    verdicts: tuple[str, ...] | None = None
    """One of these; None: any, or none yet."""
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    """Of each column."""
    listed: RowSet | None = None
    """Of these; None: any."""

    @property
    def everything(self) -> bool:
        """Whether all samples are meant."""
        return self.verdicts is None and not self.bounds and self.listed is None

    @property
    def kept_alone(self) -> bool:
        """Whether nothing but kept samples can be found."""
        return self.verdicts == (KEPT,)

    def alone(self, of: str) -> bool:
        """Whether the kept samples are meant, or all, and nothing more is asked of them."""
        return not self.bounds and self.listed is None and (self.kept_alone if of == KEPT else self.verdicts is None)

    @property
    def key(self) -> Hashable:
        """The same for selections that mean the same."""
        return self.verdicts, tuple((name, bound.model_dump_json()) for name, bound in self.bounds.items()), id(self.listed)

    def rows(self, columns: RootColumns, shard_id: str) -> Ints | None:
        """i64, ascending: the rows of a shard that are meant; None: all. Reads the columns that are asked about, no others."""
        if self.everything:
            return None
        listed = None if self.listed is None else self.listed.rows(columns.places[shard_id])
        if listed is not None and not len(listed):
            return listed
        rows: Ints | None = None
        wanted = [*self.bounds, *(["verdict"] if self.verdicts is not None else [])]
        if wanted:
            stored = columns.read(shard_id, wanted)
            met = np.ones(len(stored[wanted[0]]), bool)
            if self.bounds:
                met[:] = False
                met[chosen(stored, self.bounds)] = True
            if self.verdicts is not None:
                met &= np.asarray(pc.is_in(stored["verdict"], pa.array(self.verdicts, pa.string())))
            rows = np.flatnonzero(met)
        if listed is not None:
            rows = listed if rows is None else np.intersect1d(rows, listed)
        return rows


def selection(
    columns: RootColumns, where: Where | None = None, verdict: str | None = KEPT, listed: RowSet | None = None
) -> Selection:
    """What is meant by a verdict (kept, rejected, failed, one as rejected:tiny, or any) and bounds {column: bound}. A bound on
    `verdict` takes the place of the verdict; before there are verdicts, `kept` means all. Raises InputError for a verdict that no
    sample can have, an unknown column (it names the nearest), and a bound that does not fit its column."""
    where = dict(where or {})
    columns.check(list(where))
    checked = bounds(where, columns.schema)
    names = None if "verdict" in where else verdicts_named(columns.plan, verdict or ANY)
    return Selection(names, checked, listed)


def verdicts_named(plan: Plan, wanted: str) -> tuple[str, ...] | None:
    """The verdicts of the root that are meant; None for any. Raises InputError for one that no sample can have, and for another
    than `kept` or `any` before there are verdicts."""
    if wanted == ANY:
        return None
    if not has_ledger(plan.root, plan.verdicts):
        if wanted == KEPT:
            return None
        raise InputError(f"{plan.root.url} has no verdicts yet, so none of its samples is {wanted}: run its command again first")
    return named_verdicts(plan, stored_ledger(plan.root, plan.verdicts), wanted)


def named_verdicts(plan: Plan, ledger: Ledger, wanted: str | None) -> tuple[str, ...]:
    """The verdicts of a root that are meant: all (None), an outcome, or one by its full name. Raises InputError for one that no
    sample can have."""
    counts = ledger.verdicts
    if wanted is None:
        return tuple(counts)
    if wanted in OUTCOMES:
        return tuple(name for name in counts if name.partition(":")[0] == wanted)
    possible = [KEPT, *(REJECTED + rule for rule in plan.recipe.filters), *(name for name in counts if name.startswith(FAILED))]
    if wanted not in possible:
        hint = spelling_hint(wanted, possible) or f"; there are {', '.join([*OUTCOMES[1:], *possible])}"
        raise InputError(f"{plan.root.url} has no verdict {wanted!r}{hint}")
    return (wanted,)
