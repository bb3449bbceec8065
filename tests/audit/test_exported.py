"""What `verify` says of output shards that are not of the verdicts; it says the same however many files it reads at once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.audit.exported import RowId
from pipeline.audit.verify import verify
from pipeline.columns import row_name
from pipeline.plan import Plan
from pipeline.root.existing import open_root
from pipeline.select.stored import kept_rows
from pipeline.store.tables import facts_of, read_table, write_table
from tests.manifests import repair
from tests.mixed import mixed


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory, sample_folder: Path, tmp_path: Path) -> Path:
    made = mixed(tmp_path_factory.getbasetemp() / "mixed", sample_folder)
    return shutil.copytree(made / "root", tmp_path / "root", symlinks=True)


def test_samples_that_are_lost_strange_or_there_twice_are_counted_and_the_first_of_each_is_named(root: Path) -> None:
    plan = open_root(str(root))
    rejected = min((shard.shard_id, row) for shard in plan.shards for row in range(8)
                   if row not in kept_rows(plan.root, plan.verdicts, shard.shard_id))
    sources = changed(plan, "000000", lambda rows: [rows[3], rejected, (rows[2][0], 1_000_000), rows[3]])
    others = changed(plan, "000001", lambda rows: [("zz-of-no-run", 0), *rows[1:]])
    repair(plan.root, f"{plan.export}/000000.parquet", f"{plan.export}/000001.parquet")
    answers = [verify(str(root), workers=workers) for workers in (1, 7)]
    assert answers[0] == answers[1]
    assert answers[0].faults == (
        f"4 samples kept were not written, e.g. {row_name(*min([*sources[:3], others[0]]))}",
        f"3 samples were written that were not kept, e.g. {row_name(*min(rejected, (sources[2][0], 1_000_000)))}",
        f"1 samples were written more often than once, e.g. {row_name(*sources[3])}",
    )


def changed(plan: Plan, name: str, change: Callable[[list[RowId]], list[RowId]]) -> list[RowId]:
    """Another source for each row of a sidecar; returns what it was."""
    path = f"{plan.export}/{name}.parquet"
    table = read_table(plan.root, path)
    names = ("source_shard_id", "source_row")
    before = list(zip(*(table.column(column).to_pylist() for column in names), strict=True))
    for column, values in zip(names, zip(*change(before), strict=True), strict=True):
        field = table.schema.field(column)
        table = table.set_column(table.column_names.index(column), field, pa.array(values, field.type))
    write_table(plan.root, path, table, facts_of(table.schema))
    return before
