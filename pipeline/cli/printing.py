"""What the command line prints for people. Everything that comes from data is cleaned of control characters."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli.colours import coloured
from pipeline.quantities import size
from pipeline.timing.bottleneck import LEAST, word
from schemas.answers.base import Answer
from schemas.answers.classes import ClassComparison, ClassDetails, ClassRow, NumberOfClasses
from schemas.answers.packs import Packed
from schemas.answers.plans import RunEstimate
from schemas.answers.runs import BalancedExport, PassTime, RunResult, Status
from schemas.answers.samples import Collected, Explanation, NamedSample, SampleList, Verification, Verified

if TYPE_CHECKING:
    from pipeline.root.lifecycle import Result

COLUMN = 34
PURPOSE = {"read": "waiting for the reader", "write": "committing", "wait": "for each other", "other": "computing of no stage"}


def clean(value: Any) -> str:
    """The value as text that is safe for a terminal: one line without escape sequences, whatever the open web put there."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def as_json(answer: Answer | Sequence[Answer]) -> str:
    """The answer as JSON, in which every character that no terminal should get (C1, marks of direction) is escaped."""
    value = answer.as_json() if isinstance(answer, Answer) else [part.as_json() for part in answer]
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def line(name: str, value: Any = "", note: str = "") -> None:
    """Prints one line of a table: a name, a value on the right, and a note."""
    first = coloured(f"{clean(name):<{COLUMN}}", name.partition(":")[0])
    print(f"  {first} {clean(value):>12}  {clean(note)}".rstrip())


def share(part: int, total: int) -> str:
    """A share in percent; nothing where there is no total."""
    return f"{100 * part / total:.1f} %" if total else ""


def account(answer: RunResult | Status | Verified, balance: BalancedExport | None = None) -> None:
    """Prints what became of the samples: one line for each reason, gap and quarantined shard; `balance` is of a balanced export."""
    line("read", f"{answer.read:,}")
    if answer.kept is not None:
        line("kept", f"{answer.kept:,}", share(answer.kept, answer.read))
    if balance is not None:
        line("exported", f"{balance.output_count:,}", balanced(balance))
    for kind, counts in (("rejected", answer.rejected), ("failed", answer.failed)):
        for reason, count in counts.items():
            line(f"{kind}:{reason}", f"{count:,}", share(count, answer.read))
    for reason, count in answer.ignored.items():
        line(f"ignored:{reason}", f"{count:,}", "archive members that belong to no sample")
    for gap in answer.gaps:
        line(f"gap:{gap.kind}", "" if gap.samples is None else gap.samples, f"{gap.shard_id}: {gap.detail}")
    for entry in answer.quarantined:
        line("quarantined", "", entry if isinstance(entry, str) else f"{entry.shard_id}: {entry.error}")


def balanced(export: BalancedExport) -> str:
    """What the balance of an export left out and repeated, in words."""
    return f"balanced over the classes: {export.left_out:,} of the kept are left out, {export.repeats:,} are repeats"


def run(answer: RunResult, result: "Result") -> None:
    """Prints the answer of `run` and `label`."""
    from pipeline.export.stored import stored_meta
    from pipeline.queries.status import balanced_export  # slow to import, and every command imports this module

    print(f"shardmill: {'finished before' if result.finished_before else 'finished'} in {answer.seconds:,.1f} s")
    account(answer, balanced_export(result.plan))
    export = stored_meta(result.plan.root, result.plan.export)
    shards = f"{answer.root}/shards" if result.plan.root.local else answer.published   # only a local store has links
    print(f"  {export['output_count']:,} samples in {export['output_shard_count']:,} shards: {shards}")
    print(f"  report: {answer.root}/report.html")
    former(answer)
    retry_hint(len(answer.quarantined))


def former(answer: RunResult | Status) -> None:
    """Says how much the exports of former thresholds hold; nothing where there are none."""
    held = answer.former_exports
    if held.exports:
        print(f"  former exports: {held.exports:,}, {size(held.bytes)}; shardmill gc {clean(answer.root)} --dry-run lists them")


def packed(answer: Packed) -> None:
    """Prints the answer of `pack`."""
    line("samples", f"{answer.samples:,}", size(answer.bytes))
    for name, count in (("without a caption", answer.without_caption), ("caption not UTF-8", answer.not_utf8)):
        if count:
            line(name, f"{count:,}", share(count, answer.samples))
    for reason, left in answer.left_out.items():
        line(f"left out:{reason}", f"{left.count:,}", f"{left.meaning}; {', '.join(left.examples)}")
    if answer.hint:
        print(f"  {clean(answer.hint)}")
    lost = sum(left.count for left in answer.left_out.values() if left.lost)
    if not answer.samples:
        print(f"  nothing was packed: {clean(answer.output)} holds no shards")
    else:
        missing = f"; {lost:,} samples are missing" if lost else ""
        print(f"  {answer.shards:,} shards: shardmill run RECIPE {clean(answer.output)} --output ROOT{missing}")


def progress(text: str) -> None:
    """Says on stderr how far something is."""
    print(clean(text), file=sys.stderr, flush=True)


def retry_hint(count: int) -> None:
    """Prints, as the last line, how shards in quarantine are tried again; nothing where there are none."""
    if count:
        shards = "1 shard is" if count == 1 else f"{count:,} shards are"
        print(f"  {shards} in quarantine and not in the output: the same `run` with --retry-quarantined tries them again")


def status(answer: Status) -> None:
    """Prints the answer of `status`."""
    print(f"{clean(answer.root)}: {answer.state} (recipe {clean(answer.recipe)})")
    if answer.holder is not None:
        line("held by", answer.holder.pid or "?", f"process on {answer.holder.host}, since {answer.holder.since}")
    account(answer, answer.balance)
    for name, progress in answer.passes.items():
        line(f"pass {name}", f"{progress.done:,} of {'?' if progress.of is None else format(progress.of, ',')}", "shards")
    time_spent(answer.time)
    for columns in answer.columns:
        note = size(columns.bytes) + ("" if columns.current else ", of another recipe or model")
        line(f"columns {columns.name}", f"{columns.shards:,}", f"shards, {note}")
    if not all(columns.current for columns in answer.columns):
        print(f"  shardmill gc {clean(answer.root)} --dry-run lists what this recipe does not need")
    former(answer)
    retry_hint(len(answer.quarantined))


def time_spent(passes: Sequence[PassTime]) -> None:
    """Prints where the time of a pass went: of the pass at work, or of the one that took most when none is."""
    chosen = [spent for spent in passes if spent.at_work] or sorted(passes, key=lambda spent: -spent.thread_seconds)[:1]
    for spent in chosen:
        if not spent.shares:
            line(f"time {spent.name}", "", "at work; no shard is done yet")
        for activity, part in spent.shares.items():
            if part >= LEAST:
                line(f"time {spent.name}: {word(activity)}", f"{100 * part:.1f} %", PURPOSE.get(activity, ""))
        if spent.gpu_busy is not None:
            line(f"time {spent.name}: GPU busy", f"{100 * spent.gpu_busy:.1f} %")
        if spent.advice:
            print(f"  {clean(spent.advice)}")


def gc(answer: Collected) -> None:
    """Prints the answer of `gc`."""
    for unused in answer.folders:
        line(unused.folder, f"{unused.files:,}", f"files, {size(unused.bytes)}, {unused.reason}")
    for path in answer.links:
        line(path, "", "a link: neither followed nor removed")
    if answer.uploads:
        line("unfinished uploads", f"{answer.uploads:,}", "aborted")
    outcome = "removed" if answer.removed else "would be removed"
    print(f"gc: {answer.files:,} files, {size(answer.bytes)} {outcome}")


def verify(answer: Verification) -> None:
    """Prints the answer of `verify`, every fault first."""
    for fault in answer.faults:
        print(f"{coloured('FAULT', 'FAULT')} {clean(fault)}")
    if isinstance(answer, Verified):
        account(answer)
        line("accounted for", f"{answer.accounted:,}", share(answer.accounted, answer.read) + " of the readable samples"
             + (f", {len(answer.gaps)} named gaps" if answer.gaps else ""))
        if answer.compared is not None:
            line("compared with the inputs", f"{answer.compared:,}", "samples of the output")
    print("verify: " + (f"{len(answer.faults)} faults" if answer.faults else coloured("ok", "ok")))


def names(sample: NamedSample) -> str:
    """Every name of a sample in one line, each of which any command takes."""
    source = f"  source uid {sample.source_uid}" if sample.source_uid else ""
    return clean(f"{sample.uid}  {sample.shard_id}:{sample.row}  key {sample.key}{source}")


def samples(answer: SampleList) -> None:
    """Prints the answer of `samples`: a block for each, of its names, its caption, its verdict and its values."""
    for sample in answer.samples:
        print(names(sample))
        print(f"  {clean(sample.caption)}" if sample.caption else "  (no caption)")
        of_class = "" if sample.class_id is None else f"  class {sample.class_id} {sample.class_name}"
        print(f"  {clean(sample.verdict + of_class)}")
        print("    " + clean(", ".join(f"{name} {_value(value)}" for name, value in sample.values.items())))
    shown = len(answer.samples)
    if not shown:
        print("no such sample")
    elif answer.matching is not None:
        print(f"{shown:,} of {answer.matching:,}" + (": -n shows more" if shown < answer.matching else ""))


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def explanation(answer: Sequence[Explanation]) -> None:
    """Prints the answer of `explain`, one block for each row that has the name."""
    for sample in answer:
        print(names(sample))
        print(f"  {clean(sample.verdict)}  in {clean(sample.url)}")
        for check in sample.rules:
            mark = "pass  " if check.passes else "REJECT"
            says = f"{check.column} = {clean(check.value)}, wants {clean(check.bound)}"
            print(f"  {coloured(mark, mark)} {check.rule:<{COLUMN}} {says}")
        for stage, columns in sample.columns.items():
            print(f"  {stage}")
            for name, value in columns.items():
                print(f"    {name:<{COLUMN}} {clean(value)}")
        if sample.labels is not None:
            print("  labels " + ", ".join(f"{label.class_id} ({label.weight:.2f})" for label in sample.labels))


def plan(answer: RunEstimate) -> None:
    """Prints the answer of `plan`."""
    for name in ("recipe", "model", "route", "precision", "shards", "input", "samples", "rate", "start", "time", "columns",
                 "export", "classes", "work", "memory", "wire", "fit", "refused"):
        if name in answer.text:
            print(f"  {name:<10} {clean(answer.text[name])}")
    for condition in answer.conditions:
        print(f"  not checked here: {clean(condition)}")


def classes(answer: Sequence[ClassRow]) -> None:
    """Prints the answer of `classes`, a line for each class."""
    for row in answer:
        entities = ", ".join(f"{entity.name} ×{entity.lift:.1f}" for entity in row.entities[:4])
        line(f"{row.class_id:>6} {row.name}", f"{row.size:,}", entities)


def class_details(answer: ClassDetails) -> None:
    """Prints the answer of `classes ROOT CLASS`."""
    sure = "no entity stands out: the name is only a handle" if not answer.named else f"confidence {answer.confidence:.2f}"
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
        class_text, other_text = _side(row.class_id, row.size), _side(row.other_id, row.other_size)
        measured = (("cosine", row.cosine), ("overlap", row.overlap))
        measures = [f"{name} {value:.3f}" for name, value in measured if value is not None]
        line(f"{class_text:>16} = {other_text}", "", ", ".join(measures) or "no partner")


def _side(class_id: int | None, size: int | None) -> str:
    return "-" if class_id is None else f"{class_id} ({size:,})"


def suggestion(answer: NumberOfClasses) -> None:
    """Prints the answer of `classes --suggest`."""
    advice = answer.advice
    print(f"  {'k':>8} {'stability':>20} {'by chance':>10} {'evidence':>10} {'by chance':>10}   of {advice.rows:,} samples")
    for judged in advice.judged:
        stability = f"{judged.stability:.3f} ± {judged.spread:.3f}"
        print(f"  {judged.k:>8,} {stability:>20} {judged.stability_by_chance:>10.3f} {judged.evidence:>10.3f} "
              f"{judged.evidence_by_chance:>10.3f}")
    between = f", between {advice.between[0]} and {advice.between[1]}" if advice.between else ""
    print(f"advice: {advice.k or 'no number stands out'}{between}. {advice.reason}")
    if answer.estimate is not None:
        estimate = answer.estimate
        print(f"estimate from {clean(answer.reference_column)}: {estimate.k} classes, {estimate.known} known and "
              f"{estimate.new} new, of {estimate.rows:,} samples. {clean(estimate.reason)}")
