"""What a run writes beside the columns of its stages: one declaration for each folder. Plan, manifest, gc, status, verify and
current.json go by this list; another table is one more entry.

Whatever changes a file's content is in its folder's name (design decision 1): what it is made from, the fingerprints of what it
reads, and the input shards with their versions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.recipe.recipe import (
    Recipe,
    balance_identity,
    classes_identity,
    export_identity,
    index_identity,
    labels_identity,
    names_identity,
    select_identity,
    semantic_identity,
)
from pipeline.recipe.rules import Rules
from pipeline.recipe.sections import FITTED_HERE
from pipeline.select.subset import SUBSET, SUBSET_SOURCE_UID, SUBSET_UID
from pipeline.stage import digest

Facts = list[Any]
INDEX_BASE = "index"
"""Among a plan's `others`: the folder of the index that the one of this plan goes on from."""


class Planned(Protocol):
    """What the folders of outputs follow from, as `plan.Plan` has it: the recipe, the inputs, fingerprints, and the folders of
    outputs that others are made from."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def versions(self) -> Mapping[str, int]: ...
    @property
    def inputs(self) -> str: ...
    @property
    def fingerprints(self) -> dict[str, str]: ...
    @property
    def entities_fingerprint(self) -> str: ...
    @property
    def added_fingerprints(self) -> dict[str, str]: ...
    @property
    def others(self) -> Mapping[str, str]: ...
    @property
    def duplicates(self) -> str: ...
    @property
    def selected(self) -> str: ...
    @property
    def verdicts(self) -> str: ...
    @property
    def centroids(self) -> str | None: ...
    @property
    def labels(self) -> str | None: ...
    @property
    def tallies(self) -> str | None: ...
    @property
    def classes(self) -> str | None: ...
    @property
    def semantic_columns(self) -> str | None: ...
    @property
    def balance(self) -> str | None: ...


@dataclass(frozen=True)
class ClassFolders:
    """Where the classes of a run are; there are all of them or none."""

    centroids: str
    """Centroids, levels and ids."""
    labels: str
    tallies: str
    """What the kept samples of each shard say of each class, as the search behind their labels finds it."""
    classes: str
    """The table of classes, and what is known of their quality."""


@dataclass(frozen=True)
class Output:
    """One folder of a root."""

    name: str
    """Its name in run.json."""
    folder_name: str
    """What stands before `@` in the folder's name."""
    version: int
    """Raised whenever the same input would give another table."""
    identity: Callable[[Planned], Facts | None]
    """What its content follows from, beside the input shards; None where the recipe asks for no such table."""
    place: str = ""
    """The folder that it is in, with `/`."""
    per_shard: bool = False
    """Has a file for each input shard."""
    published: bool = False
    """current.json names it once the export is whole."""
    counts: str | None = None
    """The pass that `status` counts by its files; None: it is made at once."""
    seldom: bool = False
    """run.json names it only where the recipe asks for it: roots of before it was there are as they would be made now."""

    def folder(self, plan: Planned) -> str | None:
        """The path of the folder in the root; None where the recipe asks for no such output."""
        facts = self.identity(plan)
        if facts is None:
            return None
        return f"{self.place}{self.folder_name}@{digest([self.folder_name, plan.versions[self.name], *facts, plan.inputs])}"


@dataclass(frozen=True)
class ExportFolder(Output):
    """The folder of an export: it follows from tables alone, whose names have the inputs in them."""

    def folder(self, plan: Planned) -> str:
        """The path of the folder in the root."""
        return f"{self.place}{digest([self.folder_name, plan.versions[self.name], *(self.identity(plan) or ())])}"


def _duplicates(plan: Planned) -> Facts:
    settings = plan.recipe.duplicates
    sought = settings.model_dump(exclude={"find"}) if settings.find == "near" else {"find": settings.find}
    return [sought, [plan.fingerprints[name] for name in ("samples", "image", "hashes", "clip")]]


def _run_columns(plan: Planned) -> Facts:
    """Which ones are made depends on the rules."""
    return [plan.duplicates, sorted(plan.recipe.read_by_rules().get("derived", ()))]


def _calibration(plan: Planned) -> Facts:
    settings = plan.recipe.entities.model_dump(exclude={"min_count", "knowledge_base", "ner"})
    return [settings, plan.recipe.seed, [plan.fingerprints[name] for name in ("caption", "clip", "mentions")]]


def _select(plan: Planned, rules: Rules) -> Facts:
    reads = [plan.fingerprints, plan.entities_fingerprint, plan.duplicates, *plan.added_fingerprints.values()]
    return [select_identity(plan.recipe, rules), reads]


def _selected(plan: Planned) -> Facts | None:
    """The folder that a recipe without the rules on classes has for its verdicts."""
    return _select(plan, plan.recipe.filters_on_columns) if plan.recipe.filters_on_classes else None


def _verdicts(plan: Planned) -> Facts:
    after = [plan.selected, plan.semantic_columns] if plan.recipe.filters_on_classes else []
    return [*_select(plan, plan.recipe.filters), *after]


def _semantic(plan: Planned) -> Facts | None:
    if plan.recipe.semantic_duplicates.epsilon is None:
        return None
    return [semantic_identity(plan.recipe), plan.labels, plan.fingerprints["clip"]]


def _centroids(plan: Planned) -> Facts | None:
    settings = plan.recipe.classes
    if settings.k is None and settings.fit_on in FITTED_HERE:
        return None
    fitted_on = plan.selected if settings.fit_on == "kept" else settings.fit_on
    others = sorted((key, folder) for key, folder in plan.others.items() if key != INDEX_BASE)
    return [classes_identity(plan.recipe), plan.fingerprints["clip"], fitted_on, others]


def _labels(plan: Planned) -> Facts | None:
    return None if plan.centroids is None else [labels_identity(plan.recipe), plan.centroids, plan.selected]


def _tallies(plan: Planned) -> Facts | None:
    return None if plan.labels is None else [plan.labels, plan.entities_fingerprint]


def _classes(plan: Planned) -> Facts | None:
    return None if plan.tallies is None else [names_identity(plan.recipe), plan.tallies]


def _copies(plan: Planned) -> Facts | None:
    if plan.recipe.export.balance is None or plan.labels is None:
        return None
    after = [plan.verdicts] if plan.recipe.filters_on_classes else []
    return [balance_identity(plan.recipe), plan.labels, *after]


def _index(plan: Planned) -> Facts | None:
    settings = plan.recipe.index
    if settings.of is None:
        return None
    verdicts = plan.verdicts if settings.of == "kept" else None
    return [index_identity(plan.recipe), plan.fingerprints["clip"], verdicts, plan.others.get(INDEX_BASE)]


def _export(plan: Planned) -> Facts:
    reads = [plan.verdicts, plan.labels, plan.classes, plan.recipe.entities.min_count, plan.balance]
    return [export_identity(plan.recipe), reads]


OUTPUTS = (
    Output("duplicates", "duplicates", 1, _duplicates, "tables/"),
    Output("run_columns", "run", 1, _run_columns, "columns/", per_shard=True),
    Output("calibration", "calibration", 2, _calibration, "tables/"),
    Output("counts", "counts", 1, lambda plan: [plan.entities_fingerprint], "tables/"),
    Output("verdicts", "verdicts", 1, _verdicts, per_shard=True, published=True, counts="select"),
    Output("centroids", "centroids", 1, _centroids, "tables/", published=True),
    Output("tallies", "tallies", 1, _tallies, per_shard=True),
    Output("classes", "classes", 2, _classes, "tables/", published=True),
    Output("labels", "labels", 2, _labels, per_shard=True, published=True, counts="label"),
    Output("selected", "verdicts", 1, _selected, per_shard=True, counts="rules on columns", seldom=True),
    Output("semantic_columns", "semantic", 1, _semantic, "columns/", per_shard=True, counts="semantic duplicates", seldom=True),
    Output("semantic_pairs", "semantic", 1, _semantic, "tables/", seldom=True),
    Output("balance", "copies", 1, _copies, per_shard=True, published=True, counts="balance"),
    Output("index", "index", 1, _index, "tables/", published=True, seldom=True),
    ExportFolder("export", "export", 4, _export, "exports/", published=True),
)
BEFORE_RECORDED = {"export": 2}
"""Versions that changed since run.json names them, as they were before: by these a root of that time is read."""
BY_NAME = {output.name: output for output in OUTPUTS}
BESIDE_SHARDS = (SUBSET, SUBSET_UID, SUBSET_SOURCE_UID, "cuts.npy")
"""Arrays of a whole run that lie in folders with arrays of each shard."""
