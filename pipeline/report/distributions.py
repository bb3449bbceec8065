"""Which columns a report draws, over which edges, and where the rules' bounds stand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.recipe.rule_columns import COLUMNS, Column
from pipeline.recipe.rules import CONDITIONS, Bound, Rule, Rules, Threshold, Thresholds
from pipeline.report.charts import Histogram, growing_edges, histogram

SIMILARITY = "clip_similarity"
USUAL = (SIMILARITY, "caption_words", "longest_side", "aspect_ratio")
MOST = 7
"""Histograms that a report draws."""
FINE = tuple(np.linspace(-1, 1, 201).tolist())
"""The edges over which a run stores its null distribution; also those of cosines."""
LEAST, MOST_OF_A_SCORE = 1e-3, 1e6
SHARES = tuple(np.linspace(0, 1, 41).tolist())

Known = Mapping[str, Column]


class Limit(NamedTuple):
    """A number at which a rule decides. `at` is where it stands on the axis: whole values up to it lie left of it."""

    value: float
    at: float
    words: str


def charted_columns(rules: Rules, columns: Known = COLUMNS) -> list[str]:
    """The numeric columns that a report draws, MOST at most: similarity first, then what the rules read, then the usual ones."""
    direct = [rule.column for rule in rules.values()]
    besides = [name for rule in rules.values() for name in rule.unless]
    names = dict.fromkeys([SIMILARITY, *direct, *USUAL, *besides])
    return [name for name in names if columns[name].kind == "number"][:MOST]


def limits(column: str, bound: Bound, threshold: Threshold | None = None, columns: Known = COLUMNS) -> Iterator[Limit]:
    """The numbers at which a bound on this column decides."""
    integers = pa.types.is_integer(columns[column].type)
    for name, value in bound.conditions.items():
        condition = CONDITIONS[name]
        if condition.relative and threshold is not None:
            yield Limit(threshold.value, threshold.value, f"at least {threshold.value:.3g}")
        elif condition.holds is not None and condition.side is not None and isinstance(value, int | float):
            yield Limit(value, value + int(integers and condition.past_value), condition.phrase.format(f"{value:,}"))


def rule_limits(name: str, rule: Rule, thresholds: Thresholds, columns: Known = COLUMNS) -> list[Limit]:
    """The numbers at which a rule decides on its own column, with its threshold of this run; `unless` aside."""
    return list(limits(rule.column, rule, thresholds.get(name), columns))


def bounds_on(column: str, rules: Rules, thresholds: Thresholds, columns: Known = COLUMNS) -> list[tuple[float, str]]:
    """Where the rules decide on a column, each with the rule's name unless that is the column's."""
    bounds = []
    for name, rule in rules.items():
        if rule.column == column:
            prefix = "" if name == column else f"{name}: "
            bounds += [(limit.at, prefix + limit.words) for limit in rule_limits(name, rule, thresholds, columns)]
        if column in rule.unless:
            bounds += [(limit.at, f"{name}: unless {limit.words}") for limit in limits(column, rule.unless[column], None, columns)]
    return bounds


def empty_chart(column: str, rules: Rules, thresholds: Thresholds, columns: Known = COLUMNS) -> Histogram:
    """A histogram of nothing, with the edges and bounds of this column."""
    bounds = bounds_on(column, rules, thresholds, columns)
    if column == SIMILARITY:
        edges: Sequence[float] = FINE
    elif pa.types.is_integer(columns[column].type):
        edges = growing_edges(0.0, True, [at for at, _ in bounds])
    elif column.endswith("aspect_ratio"):
        edges = growing_edges(1.0, False, [at for at, _ in bounds])
    elif column in COLUMNS:
        edges = SHARES
    else:   # of a stage that not every run has: any number
        above = growing_edges(LEAST, False, [at for at, _ in bounds if at > 0], MOST_OF_A_SCORE)
        below = growing_edges(LEAST, False, [-at for at, _ in bounds if at < 0], MOST_OF_A_SCORE)
        edges = [*(-edge for edge in reversed(below)), 0.0, *above]
    nothing = (0,) * (len(edges) - 1)
    return Histogram(column, tuple(edges), nothing, nothing, bounds=tuple(bounds))


def with_counts(chart: Histogram, column: pa.ChunkedArray, kept: NDArray[np.bool_]) -> Histogram:
    """The chart with the n values of a column counted in; `kept` is bool [n]. Null counts as `without`."""
    values = numbers(column)
    return chart + histogram(chart.column, chart.edges, values[kept], values[~kept])


def numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """The column as float64 [n], NaN for null."""
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64)
