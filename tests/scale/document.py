"""`python -m tests.scale.document docs/scale.md`: writes the tables of the passes at a billion samples into the document, from the
formulas that `plan` uses. A test holds them together."""

import sys
from pathlib import Path

from pipeline.quantities import size
from pipeline.queries.plans.fit_costs import as_answer, fit_costs
from pipeline.queries.plans.run_costs import Extent, pass_estimates, refusals
from pipeline.recipe.recipe import Recipe, load
from pipeline.reduce.kmeans.costs import Machines
from pipeline.reduce.kmeans.schedule import PRESETS
from schemas.answers.plans import PassEstimate

ROWS, SHARDS, DIMENSION, CLASSES = 1_000_000_000, 100_000, 768, 1_000_000
EXTENT = Extent(ROWS, SHARDS, DIMENSION, column_bytes=ROWS * (2 * 2 * DIMENSION + 1_300), input_bytes=ROWS * 40_000)
"""Shards of 10,000 samples of 40 kB; two embeddings, a thumbnail and what else is stored of a sample."""
SETTINGS = (f"classes.k={CLASSES}", "classes.levels=[1000]", "export.balance=300000000",
            "export.shard_size=10000", "filters.pair_duplicate.equals=false")


def places() -> dict[str, tuple[Machines, str, float]]:
    """Marker in the document -> machines, the preset of the fit, pairs a second of a worker that annotates."""
    return {
        "gpus": (Machines(8, 64, 150e12, 1 << 40), "sample", 1_605.0),
        "cpus": (Machines(32, 256, 8 * 130e9, 256 << 30), "two_level", 48.0),
    }


def recipe() -> Recipe:
    """Every kind of pass."""
    return load("sample", SETTINGS)


def passes(place: str) -> tuple[PassEstimate, ...]:
    """Of a billion samples there."""
    machines, preset, rate = places()[place]
    costs = fit_costs(PRESETS[preset], (ROWS, DIMENSION, CLASSES), machines)
    return pass_estimates(recipe(), EXTENT, machines, rate, as_answer(costs, preset, None))


def table(place: str) -> str:
    """The passes as a table, and what cannot be made."""
    lines = ["| pass | hours | driver | worker | files | requests | bytes |", "|---|---|---|---|---|---|---|"]
    for part in passes(place):
        where = f"{part.name}, one process" if part.alone else part.name
        worker = size(part.worker_bytes) if part.worker_bytes else ""
        cells = (where, hours(part.seconds), size(part.driver_bytes), worker, f"{part.files:,}", f"{part.requests:,}",
                 size(part.moved_bytes))
        lines.append(f"| {' | '.join(cells)} |")
    refused = refusals(passes(place), places()[place][0])
    return "\n".join([*lines, "", "Refused: " + ("; ".join(refused) or "nothing") + "."])


def hours(seconds: float) -> str:
    """Hours to a hundredth."""
    return f"{seconds / 3600:,.2f}"


def written(text: str) -> str:
    """The document with its tables made anew."""
    for place in places():
        begin, end = f"<!-- {place} -->\n", f"\n<!-- /{place} -->"
        head, rest = text.split(begin)
        _, tail = rest.split(end)
        text = f"{head}{begin}{table(place)}{end}{tail}"
    return text


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written(path.read_text()))
