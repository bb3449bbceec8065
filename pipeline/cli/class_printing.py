"""What the command line prints of classes. Everything that comes from data is cleaned of control characters."""

from collections.abc import Sequence

from pipeline.cli.printing import line
from pipeline.quantities import clean
from schemas.answers.classes import ClassComparison, ClassDetails, ClassRow, NumberOfClasses

SURE = 0.5
"""A name of less confidence is marked: it is more likely to be wrong than right."""


def classes(answer: Sequence[ClassRow]) -> None:
    """Prints the answer of `classes`, a line for each class."""
    for row in answer:
        entities = ", ".join(f"{entity.name} ×{entity.lift:.1f}" for entity in row.entities[:4])
        sure = "no good name" if row.confidence is None else f"{100 * row.confidence:.0f} % sure"
        doubt = "?" if row.confidence is not None and row.confidence < SURE else ""
        line(f"{row.class_id:>6} {row.name}{doubt}", f"{row.size:,}", f"{sure:>12}  {entities}")


def class_details(answer: ClassDetails) -> None:
    """Prints the answer of `classes ROOT CLASS`."""
    sure = "no entity stands out: the name is only a handle" if not answer.named else f"confidence {answer.confidence:.2f}"
    if answer.confidence is not None and answer.confidence < SURE:
        sure += ": rather a guess"
    print(f"{answer.class_id} {clean(answer.name)} ({sure})")
    line("samples", f"{answer.size:,}")
    if answer.mean_similarity is not None:
        line("mean similarity to the centroid", f"{answer.mean_similarity:.3f}")
    if answer.parent is not None:
        line("parent", answer.parent, answer.parent_name or "")
    for child in answer.children:
        line("below it", child.class_id, f"{child.name} ({child.size:,})")
    for entity in answer.entities:
        says = f"{100 * entity.share:.0f} % of its samples, ×{entity.lift:.1f}, confidence {entity.confidence:.2f}"
        line(f"entity {entity.id}", "", f"{entity.name}: {says}")
    for other in answer.confusable:
        line("easily taken for", other.class_id, f"{other.name} (cosine {other.cosine:.3f})")
    for title, samples in (("nearest", answer.exemplars), ("farthest", answer.outliers)):
        for sample in samples:
            line(title, f"{sample.similarity:.3f}", f"{sample.uid}  {sample.shard_id}:{sample.row}")


def comparison(answer: ClassComparison) -> None:
    """Prints the answer of `classes --compare`."""
    line("classes matched", f"{answer.matched:,}")
    line("samples in both", f"{answer.common_samples:,}")
    for name, index in (("ARI", answer.ari), ("AMI", answer.ami)):
        if index is not None:
            line(f"{name} over them", f"{index:.3f}", "1: the same classes, 0: no more than chance")
    for row in answer.classes:
        sides = [_side(row.class_id, row.name, row.size), _side(row.other_id, row.other_name, row.other_size)]
        measured = (("cosine", row.cosine), ("overlap", row.overlap))
        measures = [f"{name} {value:.3f}" for name, value in measured if value is not None]
        line(f"{sides[0]} = {sides[1]}", "", ", ".join(measures) or "no partner")


def _side(class_id: int | None, name: str | None, size: int | None) -> str:
    return "-" if class_id is None else f"{class_id} {name or ''} ({size:,})"


def suggestion(answer: NumberOfClasses) -> None:
    """Prints the answer of `classes --suggest`."""
    advice = answer.advice
    print(f"  {'k':>8} {'stability':>20} {'by chance':>10} {'evidence':>10} {'by chance':>10}   of {advice.rows:,} samples")
    for judged in advice.judged:
        stability = f"{judged.stability:.3f} ± {judged.spread:.3f}"
        print(f"  {judged.k:>8,} {stability:>20} {judged.stability_by_chance:>10.3f} {judged.evidence:>10.3f} "
              f"{judged.evidence_by_chance:>10.3f}")
    between = f", between {advice.between[0]} and {advice.between[1]}" if advice.between and len(set(advice.between)) > 1 else ""
    print(f"advice: {advice.reason}" if advice.k is None else f"advice: {advice.k}{between}. {advice.reason}")
    if answer.estimate is not None:
        estimate = answer.estimate
        print(f"estimate from {clean(answer.reference_column)}: {estimate.k} classes, {estimate.known} known and "
              f"{estimate.new} new, of {estimate.rows:,} samples. {clean(estimate.reason)}")
