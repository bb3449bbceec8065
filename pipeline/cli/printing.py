"""What the command line prints for people. Everything that comes from data is cleaned of control characters."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli.colours import coloured
from pipeline.quantities import clean, counted, duration, noun, size
from pipeline.timing.bottleneck import LEAST, word
from schemas.answers.base import Answer
from schemas.answers.packs import Packed
from schemas.answers.plans import PassEstimate, RunEstimate
from schemas.answers.runs import BalancedExport, PassTime, RunResult, Status
from schemas.answers.samples import Collected, Explanation, NamedSample, SampleList, Verification, Verified
from schemas.reasons import IgnoredKind

if TYPE_CHECKING:
    from pipeline.root.lifecycle import Result

COLUMN = 34
SHARDS_NAMED = 5
"""Shards whose ignored members are named, for each reason."""
PURPOSE = {"read": "waiting for the reader", "write": "committing", "wait": "for each other", "other": "computing of no stage"}


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
    ignored(answer)
    for gap in answer.gaps:
        line(f"gap:{gap.kind}", "" if gap.samples is None else gap.samples, f"{gap.shard_id}: {gap.detail}")
    for entry in answer.quarantined:
        line("quarantined", "", entry if isinstance(entry, str) else f"{entry.shard_id}: {entry.error}")


def ignored(answer: RunResult | Status | Verified) -> None:
    """Prints the archive members that belong to no sample: why, in which shards, and the names of some."""
    for reason, count in answer.ignored.items():
        words = IgnoredKind(reason).words if reason in set(IgnoredKind) else "archive members that belong to no sample"
        line(f"ignored:{reason}", f"{count:,}", words)
        shards = sorted((entry for entry in answer.ignored_in if entry.reason == reason), key=lambda entry: -entry.count)
        for entry in shards[:SHARDS_NAMED]:
            examples = f": {', '.join(entry.examples)}{', …' * (entry.count > len(entry.examples))}" if entry.examples else ""
            line("", f"{entry.count:,}", f"{entry.shard_id}{examples}")
        if len(shards) > SHARDS_NAMED:
            line("", "", f"and in {counted(len(shards) - SHARDS_NAMED, 'further shard')}; --json names them")


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
    exported = f"{counted(export['output_count'], 'sample')} in {counted(export['output_shard_count'], 'shard')}"
    print(f"  {exported}: {shards}")
    print(f"  report: {answer.root}/report.html")
    former(answer)
    for warning in answer.warnings:
        print(f"  warning: {clean(warning)}")
    if answer.retry:
        print(f"  {answer.retry}")
    if answer.nothing_kept:
        print(f"shardmill: {clean(answer.nothing_kept)}")


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
        missing = f"; {counted(lost, 'sample')} {'is' if lost == 1 else 'are'} missing" if lost else ""
        print(f"  {counted(answer.shards, 'shard')}: shardmill run RECIPE {clean(answer.output)} --output ROOT{missing}")


def status(answer: Status) -> None:
    """Prints the answer of `status`."""
    print(f"{clean(answer.root)}: {answer.state} (recipe {clean(answer.recipe)})")
    if answer.holder is not None:
        line("held by", answer.holder.pid or "?", f"process on {answer.holder.host}, since {answer.holder.since}")
    account(answer, answer.balance)
    for name, progress in answer.passes.items():
        total = "?" if progress.of is None else f"{progress.of:,}"
        line(f"pass {name}", f"{progress.done:,} of {total}", noun(progress.of, "shard"))
    time_spent(answer.time)
    for columns in answer.columns:
        note = size(columns.bytes) + ("" if columns.current else ", of another recipe or model")
        line(f"columns {columns.name}", f"{columns.shards:,}", f"{noun(columns.shards, 'shard')}, {note}")
    if not all(columns.current for columns in answer.columns):
        print(f"  shardmill gc {clean(answer.root)} --dry-run lists what this recipe does not need")
    former(answer)
    if answer.retry:
        print(f"  {answer.retry}")
    if answer.nothing_kept:
        print(f"  {clean(answer.nothing_kept)}")


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
        line(unused.folder, f"{unused.files:,}", f"{noun(unused.files, 'file')}, {size(unused.bytes)}, {unused.reason}")
    for path in answer.links:
        line(path, "", "a link: neither followed nor removed")
    if answer.uploads:
        line("unfinished uploads", f"{answer.uploads:,}", "aborted")
    outcome = "removed" if answer.removed else "would be removed"
    print(f"gc: {counted(answer.files, 'file')}, {size(answer.bytes)} {outcome}")


def verify(answer: Verification) -> None:
    """Prints the answer of `verify`, every fault first."""
    for fault in answer.faults:
        print(f"{coloured('FAULT', 'FAULT')} {clean(fault)}")
    if isinstance(answer, Verified):
        account(answer)
        line("accounted for", f"{answer.accounted:,}", share(answer.accounted, answer.read) + " of the readable samples"
             + (f", {counted(len(answer.gaps), 'named gap')}" if answer.gaps else ""))
        if answer.compared is not None:
            line("compared with the inputs", f"{answer.compared:,}", "samples of the output")
    empty = " (the run kept nothing: `shardmill status` says why)" if isinstance(answer, Verified) and not answer.kept else ""
    print("verify: " + (counted(len(answer.faults), "fault") if answer.faults else f"{coloured('ok', 'ok')}{empty}"))


def names(sample: NamedSample) -> str:
    """Every name of a sample in one line, each of which any command takes."""
    source = f"  source uid {sample.source_uid}" if sample.source_uid else ""
    return clean(f"{sample.uid}  {sample.shard_id}:{sample.row}  key {sample.key}{source}")


def samples(answer: SampleList) -> None:
    """Prints the answer of `samples`: a block for each, of its names, its caption, its verdict and its values."""
    for sample in answer.samples:
        print(names(sample))
        print(f"  {clean(sample.caption)}" if sample.caption else "  (no caption)")
        unnamed = f"class {sample.class_id}"
        of_class = "" if sample.class_id is None else f"  {unnamed}"
        named = f" {sample.class_name}" if sample.class_name not in (None, unnamed) else ""
        print(f"  {clean(sample.verdict + of_class + named)}")
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
            print("  labels " + ", ".join(
                f"{label.class_id} {clean(label.name or '')} ({label.weight:.2f})" for label in sample.labels))


def _passes(passes: Sequence[PassEstimate]) -> None:
    """A line for each pass of a run."""
    print(f"  {'pass':<{COLUMN}} {'time':>22} {'driver':>10} {'worker':>10} {'files':>12} {'requests':>12} {'bytes':>10}")
    for part in passes:
        worker = size(part.worker_bytes) if part.worker_bytes else "none"
        print(f"  {clean(part.name):<{COLUMN}} {duration(part.seconds):>22} {size(part.driver_bytes):>10} {worker:>10} "
              f"{part.files:>12,} {part.requests:>12,} {size(part.moved_bytes):>10}")


def plan(answer: RunEstimate) -> None:
    """Prints the answer of `plan`."""
    for name in ("recipe", "model", "route", "precision", "shards", "input", "samples", "rate", "start", "time", "columns",
                 "export", "classes", "work", "memory", "wire", "fit", "index"):
        if name in answer.text:
            print(f"  {name:<10} {clean(answer.text[name])}")
    _passes(answer.passes)
    for sentence in answer.refused:
        print(f"  refused    {clean(sentence)}")
    for condition in answer.conditions:
        print(f"  not checked here: {clean(condition)}")
    for warning in answer.warnings:
        print(f"  warning: {clean(warning)}")
