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
from pipeline.report.distributions import SIMILARITY, charted, counted, empty_chart, numbers, rule_limits
from pipeline.report.pictures import RowId
from pipeline.select.columns import RuleColumns
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

    def add(self, found: Sequence[Example]) -> None:
        self.near = sorted([*self.near, *found])[: 4 * LIMITS["pictures"]]
        self.drawn = sorted([*self.drawn, *found], key=lambda one: (one.uid, one.row))[: 4 * LIMITS["pictures"]]

    def chosen(self) -> list[Example]:
        """No content twice; where there is a bound, the nearest to it first."""
        chosen: dict[str, Example] = {}
        for one in self.near:
            if one.distance < np.inf and len(chosen) < NEAREST:
                chosen.setdefault(one.uid, one)
        for one in self.drawn:
            if len(chosen) < LIMITS["pictures"]:
                chosen.setdefault(one.uid, one)
        return sorted(chosen.values())


@dataclass(frozen=True)
class Deciding:
    """The columns behind a verdict, the first with the bounds that its values are away from."""

    columns: tuple[str, ...]
    bounds: tuple[float, ...] = ()

    @classmethod
    def of(cls, verdict: str, rules: Rules, thresholds: Thresholds, columns: Mapping[str, Column]) -> "Deciding":
        if verdict.startswith(FAILED):
            return cls(("image_length",))
        if not verdict.startswith(REJECTED):
            return cls((SIMILARITY,))
        name = verdict.removeprefix(REJECTED)
        rule = rules[name]
        return cls(rule.reads, tuple(limit.value for limit in rule_limits(name, rule, thresholds, columns)))

    def examples(self, shard_id: str, table: pa.Table) -> list[Example]:
        """Of a table of samples with this verdict (with `row`): those that may be among the chosen."""
        distances = np.full(table.num_rows, np.inf)
        if self.bounds:
            away = np.abs(numbers(table.column(self.columns[0]))[:, None] - np.array(self.bounds)).min(axis=1)
            distances = np.where(np.isnan(away), np.inf, away)
        most = 4 * LIMITS["pictures"]
        by_uid = np.asarray(pc.sort_indices(table.column("uid")), np.int64)
        wanted = np.unique(np.concatenate([np.argsort(distances, kind="stable")[:most], by_uid[:most]]))
        rows = table.select([*dict.fromkeys(["uid", "row", *self.columns])]).take(pa.array(wanted)).to_pylist()
        return [
            Example(float(distance), (shard_id, row["row"]), row["uid"], in_words({name: row[name] for name in self.columns}))
            for distance, row in zip(distances[wanted], rows, strict=True)
        ]


def in_words(values: Mapping[str, Any]) -> str:
    """`language de, language_confidence 0.93`; what is true or false says nothing that the rule's name does not say."""
    shown = []
    for name, value in values.items():
        if name == "image_length":
            shown.append(f"{value:,} bytes" if value else "no image bytes")
        elif not isinstance(value, bool):
            number = f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
            shown.append(f"{name} {'none' if value is None else number}")
    return ", ".join(shown)


@dataclass(frozen=True)
class Survey:
    histograms: tuple[Histogram, ...]
    examples: Mapping[str, list[Example]]
    """By verdict."""


def survey(plan: Plan, shards: Sequence[Shard], thresholds: Thresholds, null: tuple[float, ...]) -> Survey:
    """`null`: shares of the null distribution of clip_similarity over distributions.FINE; empty without one."""
    rules = plan.recipe.filters
    columns = plan.recipe.columns
    charts = {name: empty_chart(name, rules, thresholds, columns) for name in charted(rules, columns)}
    charts[SIMILARITY] = replace(charts[SIMILARITY], null=null)
    names = read_by_origin(plan.recipe, charts)
    source, found = RuleColumns(plan.columns, plan.run_columns), dict[str, Examples]()
    for shard in shards:
        table = source.table(shard.shard_id, names)
        table = table.append_column("row", pa.array(np.arange(table.num_rows)))
        verdict = read_columns(plan.root, plan.verdicts, shard.shard_id, ["verdict"]).column("verdict")
        kept = np.asarray(pc.equal(verdict, KEPT))
        charts = {name: counted(chart, table.column(name), kept) for name, chart in charts.items()}
        for each in verdict.unique().to_pylist():
            some = table.filter(pc.equal(verdict, each))
            found.setdefault(each, Examples()).add(Deciding.of(each, rules, thresholds, columns).examples(shard.shard_id, some))
    drawn = tuple(trimmed(chart) for chart in charts.values() if sum(chart.kept) + sum(chart.removed))
    return Survey(drawn, {each: examples.chosen() for each, examples in found.items()})


def read_by_origin(recipe: Recipe, charts: Mapping[str, Histogram]) -> dict[str, tuple[str, ...]]:
    """What the rules, the charts and the examples read, by who writes it."""
    names = {origin: list(found) for origin, found in recipe.read_by_rules().items()}
    for name in (SIMILARITY, "image_length", *charts):
        names.setdefault(recipe.columns[name].origin, []).append(name)
    return {origin: tuple(dict.fromkeys(found)) for origin, found in names.items()}
