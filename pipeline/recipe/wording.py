"""Rules in words."""

from pipeline.recipe.lists.uids import parted
from pipeline.recipe.rules import CONDITIONS, Bound, Rule, Threshold


def bound_in_words(bound: Bound, threshold: Threshold | None = None) -> str:
    """A bound for people: `at least 0.28`, `below 3, or caption_words at most 1`. A relative bound is followed by its threshold
    of the run, where there is one."""
    parts = []
    for name, value in bound.conditions.items():
        parts.append(CONDITIONS[name].phrase.format(_value_text(value)))
        if threshold is not None and CONDITIONS[name].relative:
            parts[-1] += f" (here {threshold.value:.4g})"
    alternatives = [f"{name} {bound_in_words(other)}" for name, other in bound.unless.items()] if isinstance(bound, Rule) else []
    return ", or ".join([" and ".join(parts), *alternatives])


def _value_text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else parted(str(value))[0]
