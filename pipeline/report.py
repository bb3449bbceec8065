"""The report of a run as one HTML page that loads nothing. The only jinja2 import.

Whoever builds a `ReportData` counts and picks; this module lays out. Captions, keys, shard names and error messages
come from the open web: every string is cleaned of control and direction characters and escaped on its way into the
page, and the page's policy forbids scripts, requests and any style but its own.
"""

import base64
import hashlib
import io
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from pipeline.charts import Histogram, plot

T = TypeVar("T")

# What is shown at most of each list, so that the page stays at a few MB however large the run is.
LIMITS = {
    "pictures": 12, "pairs": 24, "classes": 60, "exemplars": 6, "class_entities": 5, "entities": 60, "rows": 100,
    "inputs": 20,
}
THUMBNAIL_BYTES = 6144


@dataclass(frozen=True)
class Top(Generic[T]):
    """The first items of a list that has `total`."""

    shown: tuple[T, ...] = ()
    total: int = 0

    def __post_init__(self) -> None:
        if self.total < len(self.shown):
            raise ValueError(f"{len(self.shown)} items are shown of a list of {self.total}")


@dataclass(frozen=True)
class Picture:
    """A sample as the report shows it: JPEG bytes made by `thumbnail`, None where there are no pixels."""

    caption: str
    key: str
    shard: str
    thumbnail: bytes | None = None
    value: str = ""
    """What decided about it, e.g. `clip_similarity -0.12`."""


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
        return self.reason.partition(":")[0]

    @property
    def name(self) -> str:
        return self.reason.partition(":")[2]


@dataclass(frozen=True)
class Gap:
    """A part of a shard that nobody can read."""

    shard: str
    kind: str
    detail: str


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
    name: str
    lift: float


@dataclass(frozen=True)
class ClassCard:
    """A pseudo-class. `size` counts the samples nearest to it; `labelled` those that carry it among their labels,
    with `mean_weight`."""

    class_id: int
    name: str
    named: bool
    size: int
    mean_similarity: float
    entities: tuple[ClassEntity, ...] = ()
    exemplars: tuple[Picture, ...] = ()
    labelled: int = 0
    mean_weight: float | None = None


@dataclass(frozen=True)
class EntityRow:
    """An entity, the samples in which it is confirmed, and the mean z of those."""

    entity_id: str
    name: str
    confirmed: int
    mean_z: float
    example: Picture | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds that a stage, a pass or a shard took. `attempts` above 1: it was tried again."""

    name: str
    seconds: float
    samples: int
    attempts: int = 1


@dataclass(frozen=True)
class Run:
    """The facts of a run that stand at the head of its report."""

    recipe: str
    root: str
    inputs: tuple[str, ...]
    shards: int
    model: str
    started: datetime
    seconds: float
    versions: tuple[tuple[str, str], ...] = ()
    finished: bool = True


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows. `steps` stand in the order in which they decide; the first histogram is drawn large."""

    run: Run
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
    shards: tuple[Timing, ...] = ()
    recipe_yaml: str = ""
    notes: tuple[str, ...] = ()

    def removed(self, outcome: str) -> int:
        return sum(step.count for step in self.steps if step.outcome == outcome)

    @property
    def unaccounted(self) -> int:
        """Samples that were read and are neither kept, rejected nor failed; anything but 0 is a defect."""
        return self.read - self.kept - sum(step.count for step in self.steps)

    @property
    def largest(self) -> list[Step]:
        """The three reasons that removed most, largest first."""
        return sorted((step for step in self.steps if step.count), key=lambda step: -step.count)[:3]


def thumbnail(pixels: NDArray[np.uint8], side: int = 112) -> bytes:
    """A JPEG of uint8 [rows, columns, 3] whose longest side is at most `side` pixels, at most THUMBNAIL_BYTES long."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    for quality in (80, 60, 40, 20):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= THUMBNAIL_BYTES:
            return file.getvalue()
    raise ValueError(f"side {side} is too large for a thumbnail of {THUMBNAIL_BYTES} bytes")



# Control characters but tab and line ends, direction marks and overrides, lone surrogates, non-characters.
UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
LONGEST = 100_000


def showable(value: object) -> object:
    """Any string that the template prints, without what could end it, reorder its surroundings or not be encoded."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", cut(value, LONGEST))
    return value


def cut(text: str, length: int = 160) -> str:
    """At most `length` characters, the last an ellipsis if any are missing."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def percent(part: float, whole: float) -> str:
    """A share in words that never rounds something to nothing nor a part to everything."""
    if not whole:
        return "\N{EN DASH}"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99.9 < share < 100:
        return ">99.9 %"
    return f"{share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as 0.42 s, 8.3 s, 4 min 10 s or 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def image_url(jpeg: bytes) -> str:
    """A data URL; only for what `thumbnail` made."""
    if not jpeg.startswith(b"\xff\xd8\xff") or len(jpeg) > THUMBNAIL_BYTES:
        raise ValueError(f"{len(jpeg)} bytes that report.thumbnail did not make")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def status(data: ReportData) -> tuple[str, str]:
    """Did it work? One of good, warn, bad, and a sentence."""
    parts = [
        f"{len(items):,} {noun}{'s' if len(items) > 1 else ''}"
        for items, noun in ((data.quarantined, "quarantined shard"), (data.gaps, "unreadable part")) if items
    ]
    if data.unaccounted:
        return "bad", f"Does not balance: {data.unaccounted:+,} samples are unaccounted for"
    if not data.run.finished:
        return "warn", "Stopped before the end; run the same command again to continue"
    if parts:
        return "warn", f"Finished with {' and '.join(parts)}"
    if not data.read:
        return "warn", "Finished, but there was no sample to read"
    return "good", "Complete: every sample is accounted for"


def render(data: ReportData) -> str:
    """The page. Raises ValueError for a picture that `thumbnail` did not make."""
    loader = jinja2.PackageLoader("pipeline", "assets/report")
    env = jinja2.Environment(
        loader=loader, autoescape=True, finalize=showable, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )
    env.filters.update(cut=cut, duration=duration, image_url=image_url, plot=plot, count="{:,}".format)
    env.filters["rate"] = lambda r: f"{r:,.0f}" if r >= 10 else f"{r:.2g}"
    style = loader.get_source(env, "report.css")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    left, funnel = data.read, []
    for step in data.steps:
        left -= step.count
        funnel.append((step, left))
    return env.get_template("report.html.jinja").render(
        data=data, run=data.run, limits=LIMITS, percent=percent, style=Markup(style), style_hash=digest,
        status=status(data), funnel=funnel,
    )
