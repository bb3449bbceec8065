"""A verdict in plain words: what each rule saw in one sample and what it wanted."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.recipe.rules import Rules, Thresholds
from pipeline.recipe.wording import in_words
from pipeline.select.verdicts import passes


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




