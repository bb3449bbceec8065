"""From a finished run's files to its report: who reads what, in which order. Nothing is computed anew but pictures and counts.

A run of many shards is looked at in SCANNED of them: whatever is counted is exact (it comes from the ledger and the tables),
distributions and examples are of those shards, and the page says so.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from pipeline.export.stored import has_export, stored_shardlist
from pipeline.input.discovery import Shard
from pipeline.plan import Plan
from pipeline.quantities import counted, size
from pipeline.queries.nothing_kept import nothing_kept
from pipeline.queries.thin_classes import thin_classes
from pipeline.recipe.rules import Rule, Threshold
from pipeline.recipe.sections import SemanticDuplicates
from pipeline.recipe.wording import bound_in_words
from pipeline.report.clocks import Clock, read_clock, spendings
from pipeline.report.data import Gap, Ignored, Quarantined, ReportData, RunFacts, Step
from pipeline.report.page import render
from pipeline.report.pairs import DuplicatePairs, find_classes, find_entities, find_pairs
from pipeline.report.pictures import Pictures, evenly_spread, read_pictures
from pipeline.report.survey import Survey, survey_samples
from pipeline.root.existing import semantic_account
from pipeline.select.ledger import Ledger
from pipeline.select.stored import require_ledger, stored_ledger, stored_null_distribution, stored_thresholds
from pipeline.select.verdicts import FAILED, KEPT, REJECTED
from schemas.reasons import ClipFault, IgnoredKind, ImageFault, SampleFault

SCANNED = 1024
"""Shards whose columns are read for distributions and examples: some minutes at most, however large the run is."""
FAULTS: dict[str, str] = {
    SampleFault.MISSING_IMAGE: "the sample has no image",
    SampleFault.MISSING_CAPTION: "the sample has no caption",
    SampleFault.DUPLICATE_KEY: "its key was there before in the same shard",
    SampleFault.NOT_ADJACENT: "its other members lie too far before in the shard",
    SampleFault.BAD_JSON: "its metadata is no JSON object",
    SampleFault.CAPTION_UNDECODABLE: "its caption is neither UTF-8 nor in the encoding that the recipe falls back on",
    SampleFault.UNREADABLE_MEMBER: "a part of it cannot be read or is too long",
    ImageFault.EMPTY: "the image has no bytes",
    ImageFault.NOT_AN_IMAGE: "the bytes are no image",
    ImageFault.FORMAT_NOT_ALLOWED: "the recipe does not allow this image format",
    ImageFault.TOO_MANY_PIXELS: "the image is larger than the recipe allows",
    ImageFault.TOO_COMPLEX: "the image file has more scans or parts than a picture needs",
    ImageFault.TRUNCATED: "the image ends early",
    ImageFault.UNDECODABLE: "the image is damaged",
    ImageFault.DECODER_CRASHED: "decoding the image ends the process",
    ImageFault.DECODER_HUNG: "decoding the image takes more than a minute",
    ClipFault.NOT_FINITE: "the model gave no finite embedding",
}
"""In the order in which they decide."""


def write_report(plan: Plan) -> None:
    """Writes ROOT/report.html. `plan` is over the readable shards. Raises RootError before the verdicts exist."""
    plan.root.write("report.html", render(report_data(plan)).encode())


def report_data(plan: Plan) -> ReportData:
    """Everything the report of a run shows, read from its root and its input shards. Raises RootError before the verdicts exist."""
    require_ledger(plan.root, plan.verdicts)
    ledger, times = stored_ledger(plan.root, plan.verdicts), read_clock(plan.root)
    scanned = evenly_spread(plan.shards, SCANNED)
    survey = survey_samples(plan, scanned, stored_thresholds(plan.root, plan.verdicts), null_shares(plan))
    rejected = [examples for verdict, examples in survey.examples.items() if verdict.startswith(REJECTED)]
    removed = [example.row for examples in rejected for example in examples]
    pairs, classes, entities = find_pairs(plan, removed), find_classes(plan, scanned), find_entities(plan, scanned)
    rows = [example.row for examples in survey.examples.values() for example in examples]
    large = [*rows, *pairs.row_ids]
    pictures = read_pictures(plan, [*large, *classes.row_ids, *entities.row_ids], large)
    return ReportData(
        run_facts(plan, times), ledger.read, ledger.kept,
        steps=tuple(steps(plan, ledger, survey, pictures, pairs)),
        kept_pictures=tuple(pictures.picture(example.row, example.value) for example in survey.examples.get(KEPT, ())),
        gaps=tuple(gaps(plan, ledger)), ignored=tuple(ignored(plan, ledger)), nothing_kept=nothing_kept(plan, ledger),
        quarantined=tuple(quarantined(plan, ledger)), histograms=survey.histograms,
        duplicates=pairs.cards(pictures), classes=classes.cards(pictures), entities=entities.cards(pictures),
        class_facts=classes.facts, confusable=classes.confusable,
        stages=times.passes, shards=times.shards, retried=times.retried, recipe_yaml=recipe_yaml(plan),
        spendings=spendings(plan.root), conditions=plan.recipe.conditions, notes=tuple(notes(plan, ledger, scanned, pictures)),
    )


def null_shares(plan: Plan) -> tuple[float, ...]:
    """The null distribution of the run: the share of its shuffled pairs in each bin of `distributions.FINE`, which sum to 1; empty
    where no pairs were shuffled."""
    counts = stored_null_distribution(plan.root, plan.verdicts).counts
    return tuple(count / sum(counts) for count in counts) if sum(counts) else ()


def steps(plan: Plan, ledger: Ledger, survey: Survey, pictures: Pictures, pairs: DuplicatePairs) -> Iterator[Step]:
    """The steps of the funnel in the order in which they decide: every fault that occurred, then every rule. A rule that rejected
    nothing stays on the list."""
    order = list(FAULTS)
    failed = sorted(ledger.failed, key=lambda code: (order.index(code) if code in order else len(order), code))
    explanations = {FAILED + code: FAULTS.get(code, "") for code in failed}
    thresholds = stored_thresholds(plan.root, plan.verdicts)
    explanations |= {REJECTED + name: rule_words(rule, thresholds.get(name)) for name, rule in plan.recipe.filters.items()}
    for verdict, explanation in explanations.items():
        examples = survey.examples.get(verdict, ())
        thumbnails = tuple(
            pictures.picture(example.row, example.value or pairs.measures.get(example.row, "")) for example in examples)
        yield Step(verdict, ledger.verdicts.get(verdict, 0), explanation, thumbnails)


def rule_words(rule: Rule, threshold: Threshold | None) -> str:
    """A rule as a sentence: `passes if language is one of en, or caption_words is below 2`."""
    main = rule.model_copy(update={"unless": {}})
    alternatives = ((name, bound_in_words(bound)) for name, bound in rule.unless.items())
    parts = [(rule.column, bound_in_words(main, threshold)), *alternatives]
    return "passes if " + ", or ".join(f"{name} is {words.removeprefix('is ')}" for name, words in parts)


def run_facts(plan: Plan, times: Clock) -> RunFacts:
    """The head of the report: recipe, root, inputs, model, start and seconds of the run, versions, and the size of its export."""
    root, recipe = plan.root, plan.recipe
    finished = has_export(root, plan.export)
    versions = root.read_json("run.json")["versions"]
    facts = [("numeric route", plan.route), ("seed", str(recipe.seed)), *sorted(versions.items())]
    if finished:
        shards = stored_shardlist(root, plan.export)
        written = sum(shard["filesize"] for shard in shards)
        exported = f"{counted(sum(s['nsamples'] for s in shards), 'sample')} in {counted(len(shards), 'shard')}"
        facts.insert(0, ("export", f"{exported}, {size(written)}"))
    return RunFacts(
        recipe.name, root.url, tuple(inputs(plan.shards)), len(plan.shards), recipe.model.label, times.started, times.seconds,
        tuple(facts), finished,
    )


def inputs(shards: Sequence[Shard]) -> Iterator[str]:
    """The folders of the input shards, with what was read of each."""
    folders: dict[str, list[Shard]] = {}
    for shard in shards:
        folders.setdefault(shard.url.rpartition("/")[0], []).append(shard)
    for folder, members in folders.items():
        name = f"{folder}/" if len(members) > 1 else members[0].url
        count = f"{len(members):,} shards, " if len(members) > 1 else ""
        yield f"{name} ({count}{size(sum(shard.size for shard in members))})"


def gaps(plan: Plan, ledger: Ledger) -> Iterator[Gap]:
    """The parts of input shards that could not be read, each under the name of its shard in the inputs."""
    names = {shard.shard_id: shard.relative for shard in plan.shards}
    for gap in ledger.gaps:
        missing = "" if gap["samples"] is None else f" ({counted(gap['samples'], 'sample')} missing)"
        yield Gap(names.get(gap["shard_id"], gap["shard_id"]), str(gap["kind"]), f"{gap['detail']}{missing}")


def ignored(plan: Plan, ledger: Ledger) -> Iterator[Ignored]:
    """What archives hold beside samples, the most first."""
    names = {shard.shard_id: shard.relative for shard in plan.shards}
    for entry in sorted(ledger.ignored_in, key=lambda entry: -int(entry["count"])):
        reason = str(entry["reason"])
        words = IgnoredKind(reason).words if reason in set(IgnoredKind) else ""
        examples = f" (e.g. {', '.join(entry['examples'])})" if entry["examples"] else ""
        yield Ignored(names.get(entry["shard_id"], entry["shard_id"]), reason, entry["count"], words + examples)


def quarantined(plan: Plan, ledger: Ledger) -> Iterator[Quarantined]:
    """The input shards that were given up, each with its number of attempts and its last error."""
    for shard_id in ledger.quarantined:
        entry = plan.root.read_json(f"quarantine/{shard_id}.json")
        yield Quarantined(entry["url"], entry["attempts"], str(entry["error"]))


def recipe_yaml(plan: Plan) -> str:
    """The recipe with all its defaults, as YAML."""
    stored = plan.recipe.model_dump(mode="json", exclude_none=True)
    return str(yaml.safe_dump(stored, sort_keys=False, allow_unicode=True, width=100))


def notes(plan: Plan, ledger: Ledger, scanned: Sequence[Shard], pictures: Pictures) -> Iterator[str]:
    """Sentences on how the numbers of the page were made, where a reader could take them for something else."""
    recipe = plan.recipe
    null = stored_null_distribution(plan.root, plan.verdicts).pairs
    if null:
        yield (f"Shuffled pairs: {null:,} images of this run, each with the caption of another. Similarities are this "
               "model's own: a bound for one model means nothing for another.")
    yield entity_note(plan.root.read_json(f"{plan.calibration}/calibration.json"), recipe.entities.min_count)
    if recipe.duplicates.find == "near":
        yield (f"Near duplicates: perceptual hashes that differ in at most {recipe.duplicates.radius} of 64 bits, and thumbnails "
               f"that correlate at {recipe.duplicates.correlation} or more. Crops and mirrored copies are not found; cosines are "
               "shown, not used.")
    else:
        sought = "those of the same bytes alone" if recipe.duplicates.find == "exact" else "none"
        yield f"Duplicates: the recipe looks for {sought}."
    if (semantic := semantic_account(plan)) is not None:
        yield semantic_note(semantic, recipe.semantic_duplicates)
    if plan.classes is not None:
        yield (f"Labels: the {recipe.classes.labels} nearest classes of each kept sample. Sizes count the nearest class alone. A "
               "name is sure as far as it is likely that a fifth of the pictures that fall into its class, and twice as many as "
               "of all, have the entity.")
    if thin := thin_classes(plan, ledger):
        yield thin
    if len(scanned) < len(plan.shards):
        yield (f"Distributions, examples, mean z and label weights are of {len(scanned):,} of the {len(plan.shards):,} shards, "
               "evenly spread over the input; all counts of verdicts, classes and entities are of the whole run.")
    if pictures.unread:
        yield (f"{len(pictures.unread):,} input shards were not read again for their pictures (gone, changed or compressed), "
               f"e.g. {pictures.unread[0]}.")


PREFERRED = {"hard": "least similar to the centroid", "easy": "most similar to the centroid", "random": "drawn first"}


def semantic_note(account: dict[str, Any], settings: SemanticDuplicates) -> str:
    """Some words on the duplicates by meaning; `account` is what was counted of them."""
    chained = "" if settings.greedy else f" {account['chained']:,} went in chains: none that stays is so near to them."
    return (f"Semantic duplicates: of {account['rows']:,} samples that the other rules keep, {account['removed']:,} have an "
            f"embedding whose cosine with a preferred one of their class is above {1 - (settings.epsilon or 0):.3g}; preferred is "
            f"the one {PREFERRED[settings.keep]}. Pairs of different classes are not compared.{chained}")


def entity_note(calibration: dict[str, Any], min_count: int) -> str:
    """One sentence on the calibrated bound of z; `calibration` is what calibration.json holds."""
    facts, threshold = calibration["facts"], calibration["threshold"]
    rate = f"{100 * facts['false_positive_rate']:.3g} %"
    if facts["null"] == "normal":
        origin = f"too few mentions for a null of this run's own, so z is taken as normal and {rate} are let through"
    else:
        origin = f"{rate} of the {facts['null_mentions']:,} mentions of shuffled pairs reach it"
    share = "" if facts["confirmed_share"] is None else f" {100 * facts['confirmed_share']:.1f} % of the run's own mentions do."
    rare = "" if min_count == 1 else f" Entities of fewer than {min_count} samples are dropped."
    return f"Entities are confirmed from z = {threshold:.2f}: {origin}.{share}{rare}"
