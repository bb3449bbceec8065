"""What a run would take, pass by pass: by the table of what was measured, at any size."""

from dataclasses import replace
from pathlib import Path

from pipeline.queries.plans.measured import DRIVER_BYTES, MEASURED, PARTITION_ROWS, WORKER_BYTES, Measured
from pipeline.queries.plans.run_costs import ANNOTATE, Extent, estimated, pass_estimates, passes_of, refusals
from pipeline.recipe.recipe import load
from pipeline.reduce.kmeans.costs import Machines
from tests.scale.document import written

EXTENT = Extent(rows=1_000_000, shards=100, dimension=768)
MACHINES = Machines(nodes=2, actors=8, rate=1e9, memory=16 << 30)


def test_the_tables_of_the_document_are_what_the_formulas_say() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    assert text == written(text)


def test_a_pass_costs_what_its_samples_and_its_shards_cost_and_workers_share_it_unless_it_is_alone() -> None:
    kind = Measured("x", row=8.0, shard=80.0, files=2, requests=3, moved=10, vectors=1, partition=100)
    found = estimated(kind, EXTENT, 8)
    assert found.seconds == (8.0 + 8.0) / 8
    assert (found.files, found.requests) == (16, 300), "two for each of the eight blocks that a hundred shards become"
    assert [estimated(kind, replace(EXTENT, shards=few), 8).files for few in (50, 65)] == [100, 16]
    assert estimated(kind, replace(EXTENT, rows=100 * 16_385), 8).files == 200, "large shards keep their files"
    assert found.moved_bytes == 1_000_000 * (10 + 2 * 768)
    assert found.driver_bytes == DRIVER_BYTES
    assert found.worker_bytes == WORKER_BYTES + 6 * 768 * 10_000 + 100_000_000
    assert estimated(kind, replace(EXTENT, rows=10**9, shards=100_000), 8).worker_bytes == (
        WORKER_BYTES + 6 * 768 * 10_000 + 100 * PARTITION_ROWS)
    alone = estimated(replace(kind, alone=True), EXTENT, 8)
    assert (alone.seconds, alone.worker_bytes, alone.alone) == (16.0, 0, True)
    more = estimated(kind, replace(EXTENT, shards=1_000), 8)
    assert more.seconds == (8.0 + 80.0) / 8
    assert more.worker_bytes < found.worker_bytes


def test_passes_are_those_of_the_recipe() -> None:
    def titles(*overrides: str) -> set[str]:
        return {kind.title for kind in passes_of(load("sample", overrides))}

    everything = titles("export.balance=10", "filters.pair_duplicate.equals=false")
    assert everything == {kind.title for kind in MEASURED}
    assert everything - titles() == {"balance", "counts over the run"}
    assert titles() - titles("classes.k=null") == {"label", "names of the classes"}
    exact = titles() - titles("duplicates.find=exact", "filters.near_duplicate=null")
    assert exact == {"near duplicates"}


def test_what_does_not_fit_is_refused_by_name_with_what_to_set() -> None:
    recipe = load("sample", ["export.shard_size=10000"])
    passes = pass_estimates(recipe, EXTENT, MACHINES, 100.0, None)
    assert passes[0].name == ANNOTATE
    assert passes[0].seconds == 1_000_000 / 100 / 8
    assert refusals(passes, MACHINES) == ()
    assert [part.files for part in passes if part.name == "export"] == [300], "a hundred output shards of 10,000"
    driver = passes[1].model_copy(update={"driver_bytes": 17 << 30})
    workers = passes[1].model_copy(update={"name": "select", "worker_bytes": 5 << 30})
    endless = passes[1].model_copy(update={"name": "report", "seconds": 1e9})
    first, second, third = refusals((driver, workers, endless), MACHINES)
    assert first.startswith(f"{passes[1].name} would hold 18.3 GB in the driver, on a machine of 17.2 GB")
    assert second.startswith("select would hold 5.4 GB in each of 4 workers")
    assert third.startswith("report would take 31 years")
