"""How much a k-means fit compares: its passes, their samples and when it stops. Presets, and which one suits."""

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import RecipeError

SAMPLE, COARSE, EXACT, NEAR = "sample", "coarse", "exact", "near"
"""Kinds of pass: all centres for a sample of the rows; the centres around a row's coarse cell; all centres; those around the
row's centre of the pass before."""


@dataclass(frozen=True)
class Schedule:
    """The passes of a fit, in this order: seeding, `sample`, `coarse`, `exact`, `near`, and a last exact one that moves nothing,
    so that every reported assignment is exact."""

    sample: int = 0
    """Passes over `sample_rows` rows per centre."""
    coarse: int = 0
    exact: int = 25
    near: int = 0
    cells: bool = False
    """Seed two-level: k-means++ within coarse cells of a sample; else k-means++ over a sample."""
    seed_rows: int = 32
    """Rows per centre (expected) of the sample that the seeds are drawn from."""
    sample_rows: int = 256
    neighbours: int = 32
    tolerance: float = 1e-4
    """A phase ends when a pass gains at most this share of the objective,"""
    changed: float = 0.0
    """or when at most this share of the rows changed their centre."""
    relaxation: float = 0.0
    """How far centres move beyond their means between passes, of the way to them; 1 doubles each step. Not at the end of a phase,
    so that centres which are kept are means."""
    closing: bool = True
    """End with an exact pass that moves nothing, so that sizes and assignment are exact and no cluster is empty. Without it a
    fit ends with its last centres, as FAISS's does."""
    min_size: int = 0
    """Clusters with fewer rows at the end are dropped, and their rows given to the others."""

    def __post_init__(self) -> None:
        counts = (self.sample, self.coarse, self.exact, self.near)
        if not 0 <= self.relaxation <= 1:
            raise RecipeError(f"centres may overshoot by 0 to 1 of their way, not {self.relaxation}")
        if min(counts) < 0 or self.neighbours < 1 or self.seed_rows < 1 or self.sample_rows < 1:
            raise RecipeError(f"a schedule of k-means needs pass counts of 0 or more, and samples of 1 or more, not {self}")
        if self.near and not (self.exact or self.coarse):
            raise RecipeError("near passes need an exact or coarse pass before them")
        if not self.closing and (self.min_size or not sum(counts)):
            raise RecipeError("only after a closing pass is it known which clusters are too small")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of every pass, in order."""
        last = [EXACT] if self.closing else []
        return (*[SAMPLE] * self.sample, *[COARSE] * self.coarse, *[EXACT] * self.exact, *[NEAR] * self.near, *last)

    def next_phase(self, position: int) -> int:
        """The position of the first pass of another kind after this one; of the last pass where there is none."""
        kinds = self.kinds
        return next((i for i in range(position, len(kinds)) if kinds[i] != kinds[position]), len(kinds) - 1)

    def beyond(self, position: int, stop: bool) -> float:
        """By how much of their way the centres are over-relaxed after the pass at this position; `stop`: it is the last of its
        phase."""
        moving = len(self.kinds) - self.closing
        return 0.0 if stop or position >= moving - 1 else self.relaxation

    def describe(self) -> dict[str, Any]:
        """The fields as JSON-able values, as `fit.json` records them."""
        return asdict(self)


PRESETS: dict[str, Schedule] = {
    "full": Schedule(changed=0.005),
    "fast": Schedule(exact=1, near=3, neighbours=48, cells=True, relaxation=1.0),
    "sample": Schedule(sample=20, exact=0, cells=True, changed=0.005),
    "two_level": Schedule(coarse=1, exact=0, near=0, cells=True),
}
FULL_FLOPS = 2e13
"""25 exact passes of so much work take minutes on a few CPUs."""
CPU_FLOPS = 2e17
"""An exact pass of so much work takes a day and a half of 32 CPUs."""
SAMPLE_SHARE = 2
"""The sample must be this much smaller than the rows to be worth its name."""


def schedule_for(n: int, k: int, d: int, gpus: int) -> tuple[str, str]:
    """The preset for n rows of d values and k classes, and why."""
    flops = 2.0 * n * k * d
    size = f"{n:,} rows x {k:,} classes x {d} values: {flops:.1e} FLOP per exact pass"
    if 26 * flops <= FULL_FLOPS:
        return "full", f"{size}: every pass can be exact"
    if gpus and n > SAMPLE_SHARE * PRESETS["sample"].sample_rows * k:
        return "sample", f"{size}: a fit on {PRESETS['sample'].sample_rows} rows per class and one exact pass, on {gpus} GPUs"
    if gpus or flops <= CPU_FLOPS:
        return "fast", f"{size}: two-level seeds, one exact pass, passes among neighbours, and an exact assignment"
    return "two_level", f"{size}, without a GPU: two-level seeds, passes among neighbours, and one exact assignment"
