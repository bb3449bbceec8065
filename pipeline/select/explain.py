"""A verdict in plain words: what each rule saw in one sample and what it wanted."""

import pyarrow as pa

from pipeline.recipe.rules import Rules, Thresholds
from pipeline.recipe.wording import bound_in_words
from pipeline.select.verdicts import passes
from schemas.answers.samples import RuleCheck


def explain(row: pa.Table, rules: Rules, thresholds: Thresholds, position: int = 0) -> list[RuleCheck]:
    """Every rule on one sample (`row` has one row, `position` is its global number), in the recipe's order."""
    return [
        RuleCheck(
            rule=name, column=rule.column, value=row[rule.column][0].as_py(), bound=bound_in_words(rule, thresholds.get(name)),
            passes=bool(passes(row, rule, thresholds.get(name), position)[0]))
        for name, rule in rules.items()
    ]
