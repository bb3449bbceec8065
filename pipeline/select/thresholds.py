"""Relative bounds become numbers: a share of the run, a quantile of its null distribution. Exact, over the whole run."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import ContractViolation
from pipeline.recipe.rules import Rule, Rules, Threshold


def relative(rules: Rules) -> dict[str, Rule]:
    """The rules whose bound depends on the run: a share or a quantile."""
    return {name: rule for name, rule in rules.items() if rule.relative}


def resolve(rules: Rules, run: pa.Table, null_similarities: NDArray[np.float32] | None = None) -> dict[str, Threshold]:
    """A threshold for each relative rule, by the rule's name.

    `run` holds the columns that `fraction` rules read and every `<stage>_error`, of the whole run in row-id order;
    `null_similarities` (float32 [pairs]) the cosines of the run's shuffled pairs, which `null_quantile` needs. A share counts
    readable rows: no stage failed and the value is neither null nor NaN. Raises ContractViolation where the cosines are needed and
    missing."""
    thresholds = {}
    for name, rule in relative(rules).items():
        if rule.fraction is not None:
            values, readable = _values(run[rule.column]), _unfailed(run)
            thresholds[name] = top_share(values, readable & ~np.isnan(values), rule.fraction, rule.ties == "datacomp")
        elif rule.null_quantile is not None:
            thresholds[name] = Threshold(null_threshold(null_similarities, rule.null_quantile))
    return thresholds


def top_share(values: NDArray[np.float64], readable: NDArray[np.bool_], share: float, as_datacomp: bool = False) -> Threshold:
    """The threshold that keeps floor(n x share) of the n readable rows, the highest ones, ties by row. `values` are float64
    [rows], `readable` is bool [rows].

    The product is exact in decimals: 0.29 of 100 rows is 29, not 28. `as_datacomp` gives the value at rank int(n x share) of the
    descending order and lets all its equals through, as the `get_threshold` of DataComp's baselines does (one row more than asked
    for, and ties)."""
    rows = np.flatnonzero(readable)
    if not len(rows):
        return Threshold(0.0, last_tie=-1)
    kept = values[rows]
    if as_datacomp:
        return Threshold(_at_rank(kept, min(int(len(rows) * share), len(rows) - 1)))
    count = int(len(rows) * Decimal(str(share)))
    if count == 0:
        return Threshold(float(kept.max()), last_tie=-1)
    value = _at_rank(kept, count - 1)
    ties = rows[kept == value]
    return Threshold(value, last_tie=int(ties[count - int(np.count_nonzero(kept > value)) - 1]))


def _at_rank(values: NDArray[np.float64], rank: int) -> float:
    """The value at this rank (from 0) of the descending order."""
    return float(np.partition(values, len(values) - 1 - rank)[len(values) - 1 - rank])


def null_threshold(similarities: NDArray[np.float32] | None, quantile: float) -> float:
    """The quantile of the null distribution, linear between its values, as float32 like the column it bounds.

    Fewer than two readable samples cannot be shuffled: then the bound is -1, which every similarity meets.
    """
    if similarities is None:
        raise ContractViolation("a null_quantile rule needs the similarities of the run's shuffled pairs")
    if not len(similarities):
        return -1.0
    return float(np.float32(np.quantile(similarities.astype(np.float64), quantile)))


def _values(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """float64 [n], NaN for null."""
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64)


def _unfailed(run: pa.Table) -> NDArray[np.bool_]:
    sound = np.ones(run.num_rows, bool)
    for name in run.column_names:
        if name.endswith("_error"):
            sound &= run[name].is_null().to_numpy()
    return sound
