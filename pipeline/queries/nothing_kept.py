"""Why a run kept nothing, in one sentence with what to do: for the last line of a run, for its report, and for `plan` before it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.input.aside.look import LOOKED_AT, Fields, fields_of
from pipeline.input.discovery import Shard
from pipeline.input.reader import ShardReader, read
from pipeline.plan import Plan
from pipeline.quantities import counted
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.wording import bound_in_words
from pipeline.select.ledger import Ledger, balanced, ignored_of
from pipeline.select.verdicts import FAILED, KEPT, REJECTED
from schemas.reasons import IgnoredKind, ImageFault, SampleFault

NAMES_SHOWN = 20
"""Columns or fields that are named."""


def nothing_kept(plan: Plan, ledger: Ledger) -> str:
    """Why the run of a plan kept nothing; empty where it kept something. Looks into an input shard where captions are missing."""
    if ledger.kept:
        return ""
    return f"nothing was {'kept' if ledger.read else 'read'}: {likely_cause(plan.shards, ledger, plan.recipe)}"


def failed_shards(plan: Plan, ledger: Ledger) -> str:
    """What is likely wrong with shards all of whose samples failed for the same reason while others of the run were kept; empty
    where there are none, or where nothing was kept (`nothing_kept`). Looks into an input shard where captions are missing."""
    if not ledger.kept:
        return ""
    only = {shard.shard_id: next(iter(counts.items())) for shard in plan.shards
            if len(counts := ledger.shards.get(shard.shard_id, {})) == 1}
    failed = {shard_id: verdict for shard_id, (verdict, _) in only.items() if verdict.startswith(FAILED)}
    if not failed:
        return ""
    (verdict, shards), = Counter(failed.values()).most_common(1)
    shard = shard_with_most([shard for shard in plan.shards if failed.get(shard.shard_id) == verdict], ledger, verdict)
    count = only[shard.shard_id][1]
    cause = likely_cause([shard], Ledger(count, {verdict: count}), plan.recipe)
    return f"nothing was kept of {counted(shards, 'shard')}, e.g. {shard.relative}: {cause}"


def unpromising(plan: Plan, probed: Ledger, shards: Sequence[Shard]) -> Iterator[str]:
    """What a run of a plan would keep nothing of, each with the likely cause: the samples that were probed, and the first ones of
    these other shards. Names every shard of which only gaps are known."""
    if not probed.kept:
        which = f"would be kept of the first {probed.read:,} samples" if probed.read else "could be read"
        yield f"nothing {which}: {likely_cause(plan.shards, probed, plan.recipe)}"
    for shard in shards:
        ledger = first_samples(shard, plan.recipe)
        if not ledger.kept:
            yield f"{shard.relative}: {likely_cause([shard], ledger, plan.recipe)}"


def first_samples(shard: Shard, recipe: Recipe) -> Ledger:
    """The account of the first samples of a shard, of what the source says of them: no stage has seen them."""
    reader = read(shard, batch_rows=LOOKED_AT, reading=recipe.reading)
    batches = iter(reader)
    batch = next(batches, None)
    codes = [] if batch is None else batch.column("samples_error").to_pylist()
    batches.close()
    return probed_ledger([(reader, Counter(codes))])


def probed_ledger(read_of: Iterable[tuple[ShardReader, Mapping[str | None, int]]]) -> Ledger:
    """An account of what readers have read so far: of each, how many samples have which error code (None: no error)."""
    shards, gaps, ignored, ignored_in = dict[str, dict[str, int]](), list[dict[str, Any]](), Counter[str](), list[dict[str, Any]]()
    for reader, codes in read_of:
        shard_id = reader.shard.shard_id
        shards[shard_id] = {KEPT if code is None else f"{FAILED}{code}": count for code, count in codes.items()}
        gaps += [{"shard_id": shard_id, **gap.as_dict()} for gap in reader.gaps]
        ignored.update(reader.ignored)
        ignored_in += ignored_of({"shard_id": shard_id, "ignored": reader.ignored, "ignored_examples": reader.ignored.examples})
    rows = {shard_id: sum(counts.values()) for shard_id, counts in shards.items()}
    return balanced(rows, shards, (gaps, ignored), (), ignored_in)


def shard_with_most(shards: Sequence[Shard], ledger: Ledger, verdict: str) -> Shard:
    """The shard that has most samples of a verdict."""
    return max(shards, key=lambda shard: ledger.shards.get(shard.shard_id, {}).get(verdict, 0))


def likely_cause(shards: Sequence[Shard], ledger: Ledger, recipe: Recipe) -> str:
    """Why nothing of these shards was kept, by the account of them. Where captions are missing it looks into one of them."""
    if not ledger.read:
        return _unread(ledger)
    verdict, count = max(ledger.verdicts.items(), key=lambda item: item[1])
    head = f"{count:,} of {counted(ledger.read, 'sample')} {'is' if count == 1 else 'are'} {verdict}"
    if verdict.startswith(REJECTED):
        return head + _rejected(recipe, verdict.removeprefix(REJECTED))
    if verdict == f"{FAILED}{SampleFault.MISSING_CAPTION}":
        return head + _without_captions(ledger, recipe, fields_of(shard_with_most(shards, ledger, verdict)))
    return head + _failed(ledger, recipe, verdict.removeprefix(FAILED))


def _unread(ledger: Ledger) -> str:
    if ledger.ignored:
        return _most_ignored(ledger)
    if ledger.quarantined:
        return f"{counted(len(ledger.quarantined), 'shard')} could not be read and went to quarantine"
    if ledger.gaps:
        gap = ledger.gaps[0]
        further = f", and {counted(len(ledger.gaps) - 1, 'further gap')}" if len(ledger.gaps) > 1 else ""
        return f"{gap['kind']}: {gap['detail']} ({gap['shard_id']}{further})"
    return "the input shards are empty"


def _most_ignored(ledger: Ledger) -> str:
    """The reason for which most members are ignored, in words, with an example."""
    reason, count = max(ledger.ignored.items(), key=lambda item: item[1])
    words = IgnoredKind(reason).words if reason in set(IgnoredKind) else ""
    examples = [name for entry in ledger.ignored_in if entry["reason"] == reason for name in entry["examples"]]
    example = f", e.g. {examples[0]}" if examples else ""
    members = f"{counted(count, 'archive member')} {'is' if count == 1 else 'are'}"
    return f"{members} ignored for {reason}{example}{f': {words}' if words else ''}"


def _rejected(recipe: Recipe, name: str) -> str:
    rule = recipe.filters.get(name)
    wants = f", which wants {rule.column} {bound_in_words(rule)}" if rule is not None and not rule.relative else ""
    return f"{wants}: `shardmill simulate ROOT --set filters.{name}=null` counts what would be kept without it"


def _failed(ledger: Ledger, recipe: Recipe, code: str) -> str:
    if code == ImageFault.FORMAT_NOT_ALLOWED:
        return f": image.allowed_formats is {', '.join(recipe.image.allowed_formats)}; add the format of these images to it"
    if code == SampleFault.MISSING_IMAGE and ledger.ignored:
        return f"; {_most_ignored(ledger)}"
    return ""


def _without_captions(ledger: Ledger, recipe: Recipe, fields: Fields) -> str:
    keys = ", ".join(recipe.caption.keys)
    shown = ", ".join(fields.names[:NAMES_SHOWN]) + ", …" * (len(fields.names) > NAMES_SHOWN)
    others = [name for name in fields.texts if name not in recipe.caption.keys]
    if others:
        reads = f"--set 'caption.keys=[{others[0]}]' reads that one"
        return f": there are the fields {shown}, and caption.keys is {keys}; {reads}"
    if fields.names:
        empty = ", ".join(name for name in fields.texts if name in recipe.caption.keys)
        why = f"{empty} has no text" if empty else "none of them is text"
        return f": there are the fields {shown}, and caption.keys is {keys}; {why}"
    if ledger.ignored:
        return f": caption.keys is {keys}, and no sample has one; {_most_ignored(ledger)}"
    return f": caption.keys is {keys}, and no sample has one, nor another text"
