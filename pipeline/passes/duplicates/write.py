"""The steps in order, each as far as it is not done, and the table at the end."""

from pipeline.columns import Run
from pipeline.driver import Driver
from pipeline.passes.duplicates.alike import CROWD, Alike
from pipeline.passes.duplicates.decided import Decide, Decided
from pipeline.passes.duplicates.equal import Equal
from pipeline.passes.duplicates.files import BandPart, Cut
from pipeline.passes.duplicates.pictures import PictureRows
from pipeline.passes.duplicates.table import PairsOfGroup
from pipeline.passes.duplicates.thumbnails import Thumbnails
from pipeline.plan import Plan
from pipeline.shuffle.exchange import Partition, Scatter
from pipeline.shuffle.parts import read_part
from pipeline.store.tables import parquet_file, write_table
from schemas.tables import DUPLICATES

TITLE = "duplicates"


def write_duplicates(plan: Plan, run: Run, driver: Driver) -> None:
    """Writes `duplicates.parquet` in `plan.duplicates`, where it is not yet. What the recipe does not look for costs nothing: the
    table is empty, or without near pairs, and thumbnails are not read."""
    path = f"{plan.duplicates}/duplicates.parquet"
    if plan.root.exists(path):
        return
    settings = plan.recipe.duplicates
    if settings.find == "none" or not run.rows.total:
        write_table(plan.root, path, DUPLICATES.empty_table(), {"rows": run.rows.total})
        return
    cut = Cut(plan.root, plan.duplicates, run.rows, settings.radius, settings.correlation, settings.find == "near")
    write_pairs(cut, run, driver, path)


def write_pairs(cut: Cut, run: Run, driver: Driver, path: str) -> None:
    """Writes the table of a run that is cut like this to `path`, a row group for each group of shards that has pairs."""
    exchange, alone = cut.exchange, len(cut.groups) == 1
    partitions = [Partition(number) for number in range(exchange.partitions)]
    rows = PictureRows(run.columns, cut.near, exchange.partitions)
    equal = cut.done("equal")
    if len(equal) < len(partitions):
        driver.complete(TITLE, Scatter(exchange, rows), cut.groups, exchange.done("rows"), alone=alone)
        driver.complete(f"{TITLE}, equal ones", Equal(cut), partitions, equal, alone=alone)
    for group in cut.groups:   # the largest of these files; each name is asked for, so none of another search
        cut.store.remove(exchange.scattered(group))
    if cut.near:
        _near(cut, run, driver, alone)
    driver.complete(f"{TITLE}, their pairs", PairsOfGroup(cut, run), cut.groups, cut.done("table"), alone=alone)
    with parquet_file(cut.store, path, DUPLICATES, {"rows": run.rows.total}) as add:
        written = 0
        for group in cut.groups:
            table = read_part(cut.store, cut.path("table", group.number), 0)
            if table.num_rows or (group is cut.groups[-1] and not written):
                add(table)
            written += table.num_rows
    exchange.remove()


def _near(cut: Cut, run: Run, driver: Driver, alone: bool) -> None:
    band_parts = tuple(BandPart(band, part) for band in range(max(1, len(cut.bands))) for part in range(1 << cut.fixed))
    driver.complete(f"{TITLE}, alike", Alike(cut), band_parts, cut.done("pairs"), alone=alone)
    thumbnails = Thumbnails(cut, run.columns, band_parts)
    driver.complete(f"{TITLE}, thumbnails", thumbnails, cut.groups, cut.done("looks"), alone=alone)
    driver.complete(f"{TITLE}, who goes", Decide(cut, band_parts), [Decided()], cut.done("near"), alone=alone)
    crowded = crowded_in(cut, band_parts)
    if crowded:
        driver.reporter.note(f"{TITLE}: {crowded:,} pictures may be like more than {CROWD} others each: compared one after another")


def crowded_in(cut: Cut, band_parts: tuple[BandPart, ...]) -> int:
    """Pictures that are crowded in some part of a band, the most that one part has."""
    return max(int(read_part(cut.store, cut.path("pairs", *part), 1).num_rows) for part in band_parts)
