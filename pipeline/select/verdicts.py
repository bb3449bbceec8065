"""Rules over columns give one verdict per sample. Pure: tables in, arrays and counts out; no pixels, no files."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ContractViolation
from pipeline.recipe.rules import CONDITIONS, Bound, Rule, Rules, Threshold, Thresholds, scalar_of
from pipeline.vectors import Bools

KEPT, REJECTED, FAILED = "kept", "rejected:", "failed:"


def verdicts(table: pa.Table, rules: Rules, thresholds: Thresholds, first_row: int = 0) -> pa.Array:
    """string [n]: `failed:<code>` of the first stage error in the table's column order, else `rejected:<rule>` of the
    first rule that the row does not pass, else `kept`.

    `table` joins the stages' columns of consecutive rows, `first_row` is the global number of the first of them
    (ties of a `fraction` rule go by it).
    """
    words = [KEPT, *(REJECTED + name for name in rules)]
    codes = np.zeros(table.num_rows, np.int32)
    for code, (name, rule) in enumerate(rules.items(), start=1):
        codes[(codes == 0) & ~passes(table, rule, thresholds.get(name), first_row)] = code
    verdict = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words)).dictionary_decode()
    return pc.coalesce(*_failures(table), verdict)


def _failures(table: pa.Table) -> list[pa.Array]:
    """For each stage error column, `failed:<code>` or null."""
    errors = [table[name].combine_chunks() for name in table.column_names if name.endswith("_error")]
    return [pc.binary_join_element_wise(FAILED, error.cast(pa.string()), "") for error in errors]


def passes(table: pa.Table, rule: Rule, threshold: Threshold | None = None, first_row: int = 0) -> Bools:
    """bool [n]: the row meets the rule's bounds, or one of `unless`. A null meets no bound."""
    passed = meets(_column(table, rule.column), rule)
    if rule.relative:
        if threshold is None:
            raise ContractViolation(f"the threshold of the rule on {rule.column} was not resolved")
        passed &= _reaches(_column(table, rule.column), threshold, first_row)
    for name, bound in rule.unless.items():
        passed |= meets(_column(table, name), bound)
    return passed


def meets(column: pa.ChunkedArray, bound: Bound) -> Bools:
    """bool [n]: the value is there and meets every absolute condition."""
    result: Bools = np.asarray(column.is_valid().to_numpy(), bool)
    for name, value in bound.conditions.items():
        holds = CONDITIONS[name].holds
        if holds is not None:
            result &= _truth(holds(column, value))
    return result


def _reaches(column: pa.ChunkedArray, threshold: Threshold, first_row: int) -> Bools:
    value = scalar_of(threshold.value, column.type)
    if threshold.last_tie is None:
        return _truth(pc.greater_equal(column, value))
    in_time = np.arange(first_row, first_row + len(column)) <= threshold.last_tie
    return _truth(pc.greater(column, value)) | (_truth(pc.equal(column, value)) & in_time)


def _truth(array: pa.ChunkedArray) -> Bools:
    return np.asarray(pc.fill_null(array, False).to_numpy(), bool)


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ContractViolation(f"the table lacks column {name}, which a rule reads")
    return table[name]


def counts(verdict: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """How many samples have each verdict, by verdict name."""
    return dict(sorted((item["values"], item["counts"]) for item in pc.value_counts(verdict).to_pylist()))


@dataclass(frozen=True)
class Selection:
    """The rules of a recipe with their thresholds in a run."""

    rules: Rules
    thresholds: Thresholds


@dataclass(frozen=True)
class MovedCounts:
    """What other rules would do: verdict counts, and how many samples change from which verdict to which."""

    old: Mapping[str, int]
    new: Mapping[str, int]
    moved: Mapping[tuple[str, str], int]

    def __add__(self, other: "MovedCounts") -> "MovedCounts":
        return MovedCounts(Counter(self.old) + Counter(other.old), Counter(self.new) + Counter(other.new),
                          Counter(self.moved) + Counter(other.moved))


def simulate(table: pa.Table, old: Selection, new: Selection, first_row: int = 0) -> MovedCounts:
    """Counts under both selections over the samples of a table. Sums over shards, so a run of any size needs one shard's columns
    at a time."""
    before = verdicts(table, old.rules, old.thresholds, first_row)
    after = verdicts(table, new.rules, new.thresholds, first_row)
    changed = pa.table({"before": before, "after": after}).filter(pc.not_equal(before, after))
    groups = changed.group_by(["before", "after"]).aggregate([([], "count_all")]).to_pylist()
    moved = {(group["before"], group["after"]): group["count_all"] for group in groups}
    return MovedCounts(counts(before), counts(after), dict(sorted(moved.items())))
