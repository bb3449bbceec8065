"""What a report shows, as values: whoever builds a `ReportData` counts and picks, `report/page.py` lays it out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pipeline.report.charts import Histogram

T = TypeVar("T")

# What is shown at most of each list, so that the page stays at a few MB however large the run is.
LIMITS = {
    "caption": 4000, "pictures": 12, "pairs": 48, "classes": 32, "exemplars": 16, "outliers": 16, "strip": 6, "confusable": 12,
    "class_entities": 5, "entities": 60, "rows": 100,
    "inputs": 20, "spendings": 6, "activities": 12,
}


@dataclass(frozen=True)
class Top(Generic[T]):
    """The first items of a list that has `total`."""

    items: tuple[T, ...] = ()
    total: int = 0

    def __post_init__(self) -> None:
        if self.total < len(self.items):
            raise ValueError(f"{len(self.items)} items are shown of a list of {self.total}")


@dataclass(frozen=True)
class Picture:
    """A sample as the report shows it: JPEG bytes made by `thumbnail`, None where there are no pixels."""

    caption: str
    key: str
    shard: str
    thumbnail: bytes | None = None
    value: str = ""
    """What decided about it, e.g. `clip_similarity -0.12`."""
    uid: str = ""


@dataclass(frozen=True)
class Step:
    """One reason of the funnel: `rejected:<rule>` or `failed:<code>`, and the rule's bound in words."""

    reason: str
    count: int
    explanation: str
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        if self.outcome not in ("rejected", "failed") or not self.name:
            raise ValueError(f"{self.reason!r} is neither rejected:<rule> nor failed:<code>")

    @property
    def outcome(self) -> str:
        """`rejected` or `failed`."""
        return self.reason.partition(":")[0]

    @property
    def name(self) -> str:
        """The rule, or the code of the fault."""
        return self.reason.partition(":")[2]


@dataclass(frozen=True)
class Gap:
    """A part of a shard that nobody can read."""

    shard: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Ignored:
    """Members of a shard that belong to no sample, for one reason."""

    shard: str
    reason: str
    count: int
    detail: str
    """The reason in words, and the names of some."""


@dataclass(frozen=True)
class Quarantined:
    """A shard that was given up, with its last error."""

    shard: str
    attempts: int
    error: str


@dataclass(frozen=True)
class Pair:
    """A sample that was found to duplicate a preferred one."""

    duplicate: Picture
    preferred: Picture
    kind: str
    measures: str
    """E.g. `hamming 2, correlation 0.991`."""
    removed: bool = True


@dataclass(frozen=True)
class ClassEntity:
    """An entity that stands out in a class, and by how much: its share in the class / its share in all."""

    name: str
    lift: float


@dataclass(frozen=True)
class ClassCard:
    """A pseudo-class. `size` counts the samples nearest to it; `labelled` those that carry it among their labels (None:
    not counted), with `mean_weight` (None: none was seen)."""

    class_id: int
    name: str
    named: bool
    size: int
    mean_similarity: float
    entities: tuple[ClassEntity, ...] = ()
    exemplars: tuple[Picture, ...] = ()
    """Nearest to the centroid, nearest first."""
    outliers: tuple[Picture, ...] = ()
    """Members farthest from it, farthest first."""
    confidence: float | None = None
    """Chance that the name describes the class; None without a name."""
    parent: str | None = None
    """Name of the coarser class it belongs to."""
    labelled: int | None = None
    mean_weight: float | None = None


@dataclass(frozen=True)
class Confusable:
    """Two classes, the share of their samples that are between them, and the cosine of their centres."""

    name: str
    other: str
    share: float
    cosine: float


@dataclass(frozen=True)
class EntityRow:
    """An entity, the samples in which it is confirmed, and the mean z of those (None: not measured)."""

    entity_id: str
    name: str
    confirmed: int
    mean_z: float | None
    example: Picture | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds that a stage, a pass or a shard took. `attempts` above 1: it was tried again."""

    name: str
    seconds: float
    samples: int
    attempts: int = 1


@dataclass(frozen=True)
class Spending:
    """Where the seconds of a pass went: the share of each activity, largest first, and what to change."""

    name: str
    thread_seconds: float
    shares: tuple[tuple[str, float], ...]
    advice: str


@dataclass(frozen=True)
class RunFacts:
    """The facts of a run that stand at the head of its report."""

    recipe: str
    root: str
    inputs: tuple[str, ...]
    shards: int
    model: str
    started: datetime | None
    seconds: float
    facts: tuple[tuple[str, str], ...] = ()
    """Name and value: what was written, versions of what computed."""
    finished: bool = True


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows. `steps` stand in the order in which they decide; the first histogram is drawn large."""

    run: RunFacts
    read: int
    kept: int
    steps: tuple[Step, ...] = ()
    kept_pictures: tuple[Picture, ...] = ()
    gaps: tuple[Gap, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    duplicates: Top[Pair] = Top()
    classes: Top[ClassCard] = Top()
    entities: Top[EntityRow] = Top()
    stages: tuple[Timing, ...] = ()
    shards: Top[Timing] = Top()
    retried: int = 0
    """Shards that were tried more than once."""
    recipe_yaml: str = ""
    conditions: tuple[str, ...] = ()
    """What the recipe's source asks for and nobody checked."""
    notes: tuple[str, ...] = ()
    """How the numbers were made."""
    class_facts: tuple[tuple[str, str], ...] = ()
    """Name and value: how good the classes are."""
    confusable: tuple[Confusable, ...] = ()
    spendings: tuple[Spending, ...] = ()
    """Where the time of the longest passes went."""
    ignored: tuple[Ignored, ...] = ()
    nothing_kept: str = ""
    """Why nothing was kept; empty where something was."""

    def removed(self, outcome: str) -> int:
        """How many samples an outcome (`rejected` or `failed`) removed."""
        return sum(step.count for step in self.steps if step.outcome == outcome)

    @property
    def unaccounted(self) -> int:
        """Samples that were read and are neither kept, rejected nor failed; anything but 0 is a defect."""
        return self.read - self.kept - sum(step.count for step in self.steps)

    @property
    def largest(self) -> list[Step]:
        """The three reasons that removed most, largest first."""
        return sorted((step for step in self.steps if step.count), key=lambda step: -step.count)[:3]
