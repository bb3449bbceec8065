"""Whether a recipe asks for more classes than the samples are worth, and how many there could be."""

import numpy as np

from pipeline.export.class_table import has_class_table, stored_class_table
from pipeline.plan import Plan
from pipeline.quantities import counted
from pipeline.recipe.sections import FITTED_HERE
from pipeline.select.ledger import Ledger

SAMPLES_PER_CLASS = 20
"""With fewer a class is hardly more than its samples; `classes --suggest` judges no number that gives fewer."""


def thin_classes(plan: Plan, ledger: Ledger) -> str:
    """What is wrong with the number of classes of a run that fitted its own, and what would suit; empty where nothing is."""
    settings, folder = plan.recipe.classes, plan.classes
    if settings.k is None or settings.fit_on not in FITTED_HERE or folder is None or not has_class_table(plan.root, folder):
        return ""
    sizes = np.asarray(stored_class_table(plan.root, folder, ["size", "level"], level=0).column("size"))
    samples = ledger.kept if settings.fit_on == "kept" else ledger.read
    return too_many_classes(settings.k, samples, int((sizes <= 1).sum()), len(sizes))


def too_many_classes(k: int, samples: int, single: int = 0, classes: int = 0) -> str:
    """What is wrong with k classes of so many samples, and what would suit; empty where nothing is. `single`: how many of the
    `classes` that came of it have one sample or none."""
    if not samples or (k <= samples and 2 * single <= classes):
        return ""
    number = max(1, samples // SAMPLES_PER_CLASS)
    suits = f"--set classes.k={number} or fewer would give each class {SAMPLES_PER_CLASS} samples or more"
    if number == 1:
        suits = "--set classes.k=1, or null for none, suits so few"
    what = f"classes.k is {k:,} for {counted(samples, 'sample')}"
    if k <= samples:
        what = f"{single:,} of {counted(classes, 'class', 'classes')} have one sample or none ({what})"
    return f"{what}: {suits}"
