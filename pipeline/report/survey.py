"""One look at every sample of a run (or of evenly spread shards of it): histograms, and examples of each verdict.

Only scalar columns are read, shard by shard; what is held between shards does not grow with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.input.discovery import Shard
from pipeline.plan import Plan
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rule_columns import Column
from pipeline.recipe.rules import Rules, Thresholds
from pipeline.report.charts import Histogram, trimmed
from pipeline.report.data import LIMITS
from pipeline.report.distributions import SIMILARITY, charted_columns, empty_chart, numbers, rule_limits, with_counts
from pipeline.report.pictures import RowId
from pipeline.select.verdicts import FAILED, KEPT, REJECTED
from pipeline.store.tables import read_columns

NEAREST = LIMITS["pictures"] // 2
"""Of a step's pictures so many are the nearest to the bound; the others are drawn by uid, which is a hash."""


class Example(NamedTuple):
    """A sample with some verdict, by the distance of its value from the rule's bound (infinite where there is none)."""

    distance: float
    row: RowId
    uid: str
    value: str
    """What decided, in words."""


@dataclass
class Examples:
    """The best few examples of one verdict so far. Equal contents may be among them, so more are held than are shown."""

    near: list[Example] = field(default_factory=list)
    drawn: list[Example] = field(default_factory=list)

    def add(self, examples: Sequence[Example]) -> None:
        """Takes in further examples; keeps those nearest to the bound and those with the lowest uids."""
        self.near = sorted([*self.near, *examples])[: 4 * LIMITS["pictures"]]
        self.drawn = sorted([*self.drawn, *examples], key=lambda example: (example.uid, example.row))[: 4 * LIMITS["pictures"]]

    def chosen(self) -> list[Example]:
        """The examples that are shown, LIMITS["pictures"] at most, no content twice; where there is a bound, the nearest to it
        first."""
        chosen: dict[str, Example] = {}
        for example in self.near:
            if example.distance < np.inf and len(chosen) < NEAREST:
                chosen.setdefault(example.uid, example)
        for example in self.drawn:
            if len(chosen) < LIMITS["pictures"]:
                chosen.setdefault(example.uid, example)
        return sorted(chosen.values())


@dataclass(frozen=True)
class Deciding:
    """The columns behind a verdict, the first with the bounds that its values are away from."""

    columns: tuple[str, ...]
    bounds: tuple[float, ...] = ()

    @classmethod
    def of(cls, verdict: str, rules: Rules, thresholds: Thresholds, columns: Mapping[str, Column]) -> "Deciding":
        """The columns behind a verdict: those of the rule that rejected, the length of the image for a failure, else the
        similarity."""
        if verdict.startswith(FAILED):
            return cls(("image_length",))
        if not verdict.startswith(REJECTED):
            return cls((SIMILARITY,))
        name = verdict.removeprefix(REJECTED)
        rule = rules[name]
        return cls(rule.reads, tuple(limit.value for limit in rule_limits(name, rule, thresholds, columns)))

    def examples(self, shard_id: str, table: pa.Table) -> list[Example]:
        """The examples of a table of samples with this verdict (with the column `row`) that may still be among the chosen ones."""
        distances = np.full(table.num_rows, np.inf)
        if self.bounds:
            away = np.abs(numbers(table.column(self.columns[0]))[:, None] - np.array(self.bounds)).min(axis=1)
            distances = np.where(np.isnan(away), np.inf, away)
        limit = 4 * LIMITS["pictures"]
        by_uid = np.asarray(pc.sort_indices(table.column("uid")), np.int64)
        positions = np.unique(np.concatenate([np.argsort(distances, kind="stable")[:limit], by_uid[:limit]]))
        rows = table.select([*dict.fromkeys(["uid", "row", *self.columns])]).take(pa.array(positions)).to_pylist()
        return [
            Example(
                float(distance), (shard_id, row["row"]), row["uid"], values_in_words({name: row[name] for name in self.columns}))
            for distance, row in zip(distances[positions], rows, strict=True)
        ]


def values_in_words(values: Mapping[str, Any]) -> str:
    """`language de, language_confidence 0.93`; what is true or false says nothing that the rule's name does not say."""
    parts = []
    for name, value in values.items():
        if name == "image_length":
            parts.append(f"{value:,} bytes" if value else "no image bytes")
        elif not isinstance(value, bool):
            number = f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
            parts.append(f"{name} {'none' if value is None else number}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Survey:
    """Histograms of the charted columns, and examples of each verdict."""

    histograms: tuple[Histogram, ...]
    examples: Mapping[str, list[Example]]
    """The chosen examples of each verdict."""


def survey_samples(plan: Plan, shards: Sequence[Shard], thresholds: Thresholds, null: tuple[float, ...]) -> Survey:
    """The survey of these shards, read one after another. `null`: shares of the null distribution of clip_similarity over
    distributions.FINE; empty without one."""
    rules = plan.recipe.filters
    columns = plan.recipe.columns
    charts = {name: empty_chart(name, rules, thresholds, columns) for name in charted_columns(rules, columns)}
    charts[SIMILARITY] = replace(charts[SIMILARITY], null=null)
    names = read_by_origin(plan.recipe, charts)
    source, best = plan.rule_columns, dict[str, Examples]()
    for shard in shards:
        table = source.table([shard.shard_id], names)
        table = table.append_column("row", pa.array(np.arange(table.num_rows)))
        verdict = read_columns(plan.root, plan.verdicts, shard.shard_id, ["verdict"]).column("verdict")
        kept = np.asarray(pc.equal(verdict, KEPT))
        charts = {name: with_counts(chart, table.column(name), kept) for name, chart in charts.items()}
        for outcome in verdict.unique().to_pylist():
            rows = table.filter(pc.equal(verdict, outcome))
            deciding = Deciding.of(outcome, rules, thresholds, columns)
            best.setdefault(outcome, Examples()).add(deciding.examples(shard.shard_id, rows))
    drawn = tuple(trimmed(chart) for chart in charts.values() if sum(chart.kept) + sum(chart.removed))
    return Survey(drawn, {outcome: examples.chosen() for outcome, examples in best.items()})


def read_by_origin(recipe: Recipe, charts: Mapping[str, Histogram]) -> dict[str, tuple[str, ...]]:
    """The columns that the rules, the charts and the examples read, by who writes them."""
    names = {origin: list(columns) for origin, columns in recipe.read_by_rules().items()}
    for name in (SIMILARITY, "image_length", *charts):
        names.setdefault(recipe.columns[name].origin, []).append(name)
    return {origin: tuple(dict.fromkeys(columns)) for origin, columns in names.items()}
