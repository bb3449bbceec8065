"""The passes of a curation in order (design decision 4), nothing else. Each does only what is missing, so that the same plan
continues a stopped run.
"""

from pipeline.driver import Driver
from pipeline.passes.balance import balance_export
from pipeline.passes.classes import fit_classes
from pipeline.passes.duplicates.write import write_duplicates
from pipeline.passes.entities import calibrate_entities, count_entities
from pipeline.passes.export import export
from pipeline.passes.index.build import build_index
from pipeline.passes.labels import label
from pipeline.passes.names import name_classes
from pipeline.passes.semantic.find import find_semantic_duplicates
from pipeline.passes.shards.compaction import compact
from pipeline.passes.stages import annotate, link
from pipeline.passes.verdicts.on_classes import select_on_classes
from pipeline.passes.verdicts.run_columns import write_run_columns
from pipeline.passes.verdicts.select import select
from pipeline.plan import Plan
from pipeline.root.existing import gathered
from pipeline.root.lifecycle import Result, given_up
from pipeline.store.remote.footers import footers_kept


def curate(plan: Plan, driver: Driver, *, threads: int = 1, retry_quarantined: bool = False) -> Result:
    """Runs what is missing of a plan, in a root that it has claimed (`root/lifecycle.py`), and publishes the export.

    `threads`: batches that a worker has in work at once; `retry_quarantined`: shards in quarantine are tried again. Raises
    ShardmillError; Ctrl-C and SIGTERM come through as KeyboardInterrupt, and the same plan continues from there. Where an input
    shard can no longer be read for the export, the passes are made once more without it.
    """
    with footers_kept():
        result = once(plan, driver, threads, retry_quarantined)
        while result is None:
            result = once(plan, driver, threads, retry_quarantined=False)
    return result


def once(plan: Plan, driver: Driver, threads: int, retry_quarantined: bool) -> Result | None:
    """The passes over the shards that are not in quarantine; None where the export has put some of them there."""
    active = annotate(plan, driver, threads=threads, retry_quarantined=retry_quarantined)
    with driver.phase("rows of the run"):
        run = gathered(active)
    compact(active.root, driver, run.rows, [active.columns.folders[name] for name in active.annotated])
    with driver.phase("duplicates"):
        write_duplicates(active, run, driver)
    with driver.phase("columns over the run"):
        write_run_columns(active, run, driver)
    with driver.phase("entities of the captions"):
        calibrate_entities(active, run, driver)
    link(active, driver)
    compact(active.root, driver, run.rows, [active.run_columns, *(active.columns.folders[name] for name in active.linked)])
    with driver.phase("counts of the entities"):
        count_entities(active, run, driver)
    ledger = select(active, run, driver, given_up(plan, active))
    compact(active.root, driver, run.rows, [active.selected])
    fit_classes(active, run, driver)
    label(active, run, driver)
    compact(active.root, driver, run.rows, [active.labels, active.tallies])
    with driver.phase("names of the classes"):
        name_classes(active, run, driver)
    find_semantic_duplicates(active, run, driver)
    compact(active.root, driver, run.rows, [active.semantic_columns])
    ledger = select_on_classes(active, run, driver, ledger)
    compact(active.root, driver, run.rows, [active.verdicts])
    balance_export(active, run, driver)
    compact(active.root, driver, run.rows, [active.balance])
    build_index(active, run, driver)
    return Result(active, ledger) if export(active, run, driver, ledger) else None
