"""One curation from start to end: the passes in order (design decision 4). Every pass does only what is missing, so that
the same command continues a stopped run and does nothing on a finished one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.columns import Rows, Run
from pipeline.driver import Driver
from pipeline.errors import InputError, RootError
from pipeline.export.shards import Export, plan_export, side_files
from pipeline.outputs import OUTPUTS
from pipeline.passes import balance as balancing
from pipeline.passes import classes as clustering
from pipeline.passes import entities as linking
from pipeline.passes import labels as labelling
from pipeline.passes import names as naming
from pipeline.passes.annotate import Annotate, Wanted, steps
from pipeline.passes.duplicates import find_duplicates, resolve_thresholds, write_run_columns, write_subset
from pipeline.plan import Plan
from pipeline.registry import producers
from pipeline.root.manifest import MANIFEST, damaged_sizes, discard, write_manifest
from pipeline.root.quarantine import quarantine, quarantined, release
from pipeline.root.versions import versions
from pipeline.select.columns import RuleColumns, Select
from pipeline.select.ledger import Ledger, balanced, from_dict
from pipeline.stage import Stage, digest
from pipeline.store.store import PARTIAL, Store
from pipeline.store.tables import read_many_facts, stored_shards

SUCCESS = "_SUCCESS"
OURS = {"run.json", MANIFEST, "log", "columns", "tables", "exports", "quarantine", PARTIAL}


@dataclass(frozen=True)
class Result:
    plan: Plan
    """Over the shards that could be read."""
    ledger: Ledger
    finished_before: bool = False


@dataclass(frozen=True)
class Choices:
    """What a call asks of a run beside its plan; none of it changes a byte of a sample that can be read."""

    threads: int = 1
    retry_quarantined: bool = False


DEFAULT_CHOICES = Choices()


def curate(plan: Plan, driver: Driver, choices: Choices = DEFAULT_CHOICES) -> Result:
    """Runs what is missing of a plan and publishes the export. Raises ShardmillError; Ctrl-C and SIGTERM come through as
    KeyboardInterrupt, and the same plan continues from there."""
    found = finished(plan, retry=choices.retry_quarantined)
    if found is not None:
        return found
    clustering.refuse_what_cannot_fit(plan, driver)   # before hours of reading
    driver.fence()
    claim(plan)
    active = annotate(plan, driver, choices)
    run = gathered(active)
    find_duplicates(active, run)
    write_run_columns(active, run)
    linking.calibrate(active, run, driver)
    link(active, driver)
    linking.count(active, run)
    ledger = select(active, run, driver, tuple(s.shard_id for s in plan.shards if s not in active.shards))
    clustering.fit(active, run, driver)
    labelling.label(active, run, driver)
    naming.name(active, run)
    balancing.draw(active, run, driver)
    export(active, run, driver, ledger)
    return Result(active, ledger)


def finished(plan: Plan, *, retry: bool = False) -> Result | None:
    """The result of an earlier run of this very plan, if it got to its end and all its files are still there; not when
    shards in quarantine are to be tried again (`retry`)."""
    if not plan.root.exists(SUCCESS) or (retry and quarantined(plan.root, plan.shards)):
        return None
    active = without_quarantined(plan)
    try:
        if plan.root.read_json(SUCCESS)["plan"] != identity(active) or damaged_sizes(plan.root):
            return None
        return Result(active, ledger_of(active), finished_before=True)
    except (ValueError, KeyError, FileNotFoundError):   # a damaged marker: the run makes it anew
        return None


def identity(plan: Plan) -> str:
    return digest([plan.describe(), plan.inputs])


def ledger_of(plan: Plan) -> Ledger:
    return from_dict(plan.root.read_json(f"{plan.verdicts}/ledger.json"))


def claim(plan: Plan) -> None:
    """Makes the root this plan's: clears what killed processes left, takes back what is damaged, writes run.json."""
    root = plan.root
    there = refuse_foreign(root)
    root.clear_partial()
    if MANIFEST in there:
        for path in damaged_sizes(root):
            discard(root, path)
    root.remove(SUCCESS)
    root.write_json("run.json", {
        "recipe": plan.recipe.model_dump(mode="json"), "outputs": plan.describe(), "versions": versions(),
        "precision": list(plan.distances), "settled": {"ner": plan.finds_names},
        "stages": {one.name: one.record() for one in plan.recipe.added},
        "inputs": [asdict(shard) for shard in plan.shards],
    })


def refuse_foreign(root: Store) -> set[str]:
    """What is directly in the root. Raises RootError when it is somebody else's folder."""
    there = set(root.names()) | set(root.folders())
    if there and "run.json" not in there and not there <= OURS:
        raise RootError(f"{root.url} is not empty and not a root of shardmill (no run.json): choose another --output")
    return there


def forget_changed(plan: Plan) -> None:
    """Removes what was made from other versions of the input files; the footer of `samples` says of which one it is."""
    folder = plan.columns.folders["samples"]
    names = set(plan.root.names(folder))
    stored = [shard for shard in plan.shards if f"{shard.shard_id}.parquet" in names]
    facts = read_many_facts(plan.root, [f"{folder}/{shard.shard_id}.parquet" for shard in stored])
    for shard, found in zip(stored, facts, strict=True):
        if found.get("version") != shard.version:
            forget(plan.root, shard.shard_id)


def forget(root: Store, shard_id: str) -> None:
    """Removes the columns of a shard whose file is not what it was, and what was said of it in quarantine. `samples` goes last:
    stopped half-way, the next run knows that the rest is to go."""
    release(root, shard_id)
    for folder in sorted(root.folders("columns"), key=lambda name: name.startswith("samples@")):
        for name in root.names(f"columns/{folder}"):
            if name.startswith(f"{shard_id}."):
                root.remove(f"columns/{folder}/{name}")


def annotate(plan: Plan, driver: Driver, choices: Choices) -> Plan:
    """The columns of every stage that needs no more than its shard. Returns the plan over the shards that could be read."""
    forget_changed(plan)
    missing = missing_columns(plan, plan.annotated)
    let_go(plan, missing)
    skipped = set() if choices.retry_quarantined else quarantined(plan.root, plan.shards).keys()
    todo = [one for one in missing if one.shard.shard_id not in skipped]
    if todo:
        work = columns_work(plan, plan.stages, todo, choices.threads)
        for outcome in driver.run("annotate", work, todo, there=len(plan.shards) - len(todo)):
            quarantine(plan.root, outcome.item.shard, outcome)
        if choices.retry_quarantined:
            let_go(plan, missing_columns(plan, plan.annotated))
    return without_quarantined(plan)


def columns_work(plan: Plan, stages: Sequence[Stage], todo: Sequence[Wanted], threads: int = 1) -> Annotate:
    """With those of the stages that some shard needs: where none needs the model, the pass needs no place for one."""
    brings = producers(plan.recipe.added)
    needed = steps(stages, frozenset[str]().union(*(one.missing for one in todo)), brings).stages
    return Annotate(plan.columns, tuple(stages[i] for i in needed), plan.recipe.caption.keys, threads, brings=brings)


def missing_columns(plan: Plan, names: Sequence[str]) -> list[Wanted]:
    """Shards that lack columns of some of these stages, in order. One listing a stage."""
    there = {name: stored_shards(plan.root, [plan.columns.folders[name]]) for name in names}
    missing = [Wanted(s, frozenset(name for name in names if s.shard_id not in there[name])) for s in plan.shards]
    return [one for one in missing if one.missing]


def let_go(plan: Plan, missing: Sequence[Wanted]) -> None:
    """A shard that is in quarantine and lacks nothing was read by a retry: it leaves it."""
    lacking = {one.shard.shard_id for one in missing}
    for shard_id in quarantined(plan.root, plan.shards).keys() - lacking:
        release(plan.root, shard_id)


def without_quarantined(plan: Plan) -> Plan:
    given_up = quarantined(plan.root, plan.shards)
    active = [shard for shard in plan.shards if shard.shard_id not in given_up]
    if not active and plan.shards:
        first = next(iter(given_up.items()))
        raise InputError(f"no shard could be read; {len(given_up)} are in quarantine, e.g. {first[0]}: {first[1]}")
    return plan.restricted(active)


def gathered(plan: Plan) -> Run:
    """The columns of a run whose annotate pass is done."""
    folder = plan.columns.folders["samples"]
    facts = read_many_facts(plan.root, [f"{folder}/{shard.shard_id}.parquet" for shard in plan.shards])
    return Run(plan.columns, Rows(tuple(s.shard_id for s in plan.shards), tuple(int(found["rows"]) for found in facts)))


def link(plan: Plan, driver: Driver) -> None:
    """Entities, and the stages that read them; from stored columns, unless one of those looks at pixels."""
    todo = missing_columns(plan, plan.linked)
    if todo:
        work = replace(columns_work(plan, plan.linked_stages, todo), linking=True)
        driver.must("entities", work, todo, there=len(plan.shards) - len(todo))


def select(plan: Plan, run: Run, driver: Driver, given_up: Sequence[str]) -> Ledger:
    """A verdict for every sample, and the balance of the run."""
    thresholds = resolve_thresholds(plan, run)
    there = stored_shards(plan.root, [plan.verdicts])
    offsets = run.rows.offsets
    todo = [(shard_id, int(offsets[i])) for i, shard_id in enumerate(run.rows.shard_ids) if shard_id not in there]
    source = RuleColumns(plan.columns, plan.run_columns)
    work = Select(source, plan.recipe.filters, plan.recipe.read_by_rules(), thresholds, plan.verdicts)
    driver.must("select", work, todo, there=len(there))
    ledger = balance(plan, run, given_up)
    plan.root.write_json(f"{plan.verdicts}/ledger.json", ledger.as_dict())
    write_subset(plan, run)
    return ledger


def balance(plan: Plan, run: Run, given_up: Sequence[str]) -> Ledger:
    samples = plan.columns.folders["samples"]
    shard_ids, gaps, ignored = run.rows.shard_ids, [], Counter[str]()
    judged = read_many_facts(plan.root, [f"{plan.verdicts}/{shard_id}.parquet" for shard_id in shard_ids])
    verdicts = {shard_id: facts["verdicts"] for shard_id, facts in zip(shard_ids, judged, strict=True)}
    read = read_many_facts(plan.root, [f"{samples}/{shard_id}.parquet" for shard_id in shard_ids])
    for shard_id, facts in zip(shard_ids, read, strict=True):
        gaps += [{"shard_id": shard_id, **gap} for gap in facts["gaps"]]
        ignored.update(facts["ignored"])
    return balanced(dict(zip(shard_ids, run.rows.counts, strict=True)), verdicts, (gaps, ignored), given_up)


def export(plan: Plan, run: Run, driver: Driver, ledger: Ledger) -> None:
    """Writes the output shards, then the side files, then points `shards` and current.json at them."""
    root, settings = plan.root, plan.recipe.export
    seed = plan.recipe.seed if settings.shuffle else None
    kept, account = {shard_id: counts.get("kept", 0) for shard_id, counts in ledger.shards.items()}, dict[str, int]()
    if plan.balance is not None:
        kept, account = balancing.taken(plan, run)
    planned = plan_export(plan.shards, kept, size=settings.shard_size, group=settings.group, seed=seed)
    names = set(root.names(plan.export))
    there = {item for item in planned if {f"{item.name}{end}" for end in (".tar", ".parquet", "_stats.json")} <= names}
    todo = [item for item in planned if item not in there]
    digits = max(4, len(str(settings.shard_size - 1)))
    driver.must("export", Export(plan.exported, plan.export, seed, digits, plan.balance), todo, there=len(there))
    side_files(root, plan.export, planned, {**export_facts(plan, ledger), **account})
    driver.fence()
    root.link("shards", plan.export)
    root.write_json("current.json", {output.name: plan.folders[output.name] for output in OUTPUTS if output.published})


def export_facts(plan: Plan, ledger: Ledger) -> dict[str, Any]:
    return {
        "recipe": plan.recipe.name, "processed_count": ledger.read, "seed": plan.recipe.seed,
        "shuffle": plan.recipe.export.shuffle, "columns": dict(plan.columns.folders),
        "verdicts": plan.verdicts, "labels": plan.labels,
    }


def succeed(result: Result, driver: Driver) -> None:
    """The last file of a run: readers may rely on everything else."""
    driver.fence()
    manifest = write_manifest(result.plan)
    result.plan.root.write_json(SUCCESS, {"plan": identity(result.plan), "manifest_sha256": manifest, **{
        key: value for key, value in result.ledger.as_dict().items() if key != "shards"
    }})
