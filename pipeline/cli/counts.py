"""What `simulate` prints for people: counts beside counts."""

from pipeline.cli.printing import COLUMN
from pipeline.quantities import clean
from schemas.answers.samples import Simulation


def simulation(answer: Simulation) -> None:
    """Prints the answer of `simulate`: counts under the stored rules beside those under the others."""
    old, new = answer.old, answer.new
    print(f"  {'':<{COLUMN}} {'now':>12} {'then':>12}")
    rows = [("kept", old.kept, new.kept)]
    for kind, old_counts, new_counts in (("rejected", old.rejected, new.rejected), ("failed", old.failed, new.failed)):
        names = dict.fromkeys([*old_counts, *new_counts])
        rows += [(f"{kind}:{name}", old_counts.get(name, 0), new_counts.get(name, 0)) for name in names]
    for name, old_count, new_count in rows:
        print(f"  {clean(name):<{COLUMN}} {old_count:>12,} {new_count:>12,}")
    if answer.uncompared:
        print(f"  {answer.uncompared:,} of those kept then were never compared for semantic duplicates: a run may find some")
