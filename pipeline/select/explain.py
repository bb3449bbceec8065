"""A verdict in plain words: what each rule saw in one sample and what it wanted."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.recipe.rules import Bound, Rule, Rules
from pipeline.select.thresholds import Threshold, Thresholds
from pipeline.select.verdicts import passes

PHRASES = {"min": "at least {}", "max": "at most {}", "above": "above {}", "below": "below {}", "equals": "is {}",
           "any_of": "one of {}", "none_of": "none of {}", "fraction": "among the highest {} of the run",
           "null_quantile": "at least the {} quantile of shuffled pairs"}


@dataclass(frozen=True)
class Explained:
    """One rule's view of one sample."""

    rule: str
    column: str
    value: object
    bound: str
    passes: bool


def explain(row: pa.Table, rules: Rules, thresholds: Thresholds, position: int = 0) -> list[Explained]:
    """Every rule on one sample (`row` has one row, `position` is its global number), in the recipe's order."""
    return [
        Explained(name, rule.column, row[rule.column][0].as_py(), in_words(rule, thresholds.get(name)),
                  bool(passes(row, rule, thresholds.get(name), position)[0]))
        for name, rule in rules.items()
    ]


def in_words(bound: Bound, threshold: Threshold | None = None) -> str:
    """A bound for people: `at least 0.28`, `below 3, or caption_words at most 1`."""
    parts = []
    for name, value in bound.given.items():
        parts.append(PHRASES[name].format(_shown(value)))
        if threshold is not None and name in ("fraction", "null_quantile"):
            parts[-1] += f" (here {threshold.value:.4g})"
    alternatives = [f"{name} {in_words(other)}" for name, other in bound.unless.items()] if isinstance(bound, Rule) else []
    return ", or ".join([" and ".join(parts), *alternatives])


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
