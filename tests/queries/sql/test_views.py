"""The views of a root: what they hold, in files of shards and in blocks, here and on a store, and what is read for a query."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.api import shardmill
from pipeline.api.opened import Root
from pipeline.api.progress import Silent
from pipeline.distributed.local import LocalExecutor
from pipeline.driver import Driver
from pipeline.errors import InputError, RootError
from pipeline.passes.shards import compaction
from pipeline.plan import Plan
from pipeline.queries.rows.columns import RootColumns
from pipeline.queries.sql.session import answer
from pipeline.queries.sql.source import sql_type
from pipeline.root.existing import gathered, open_root, readable
from pipeline.root.log import EventLog

QUESTIONS = (
    "SELECT verdict, count(*), sum(width), sum(clip_similarity::DECIMAL(9, 6)) FROM samples GROUP BY ALL ORDER BY ALL",
    "SELECT shard_id, row, caption, label_weights, image_embedding FROM samples WHERE verdict = 'kept' ORDER BY ALL LIMIT 9",
    "SELECT class_name, count(*), sum(weight) FROM labels GROUP BY ALL ORDER BY ALL",
    "SELECT alias, count(*), max(z) FROM mentions JOIN entities USING (shard_id, row) WHERE confirmed GROUP BY ALL ORDER BY ALL",
)
TABLES = "SELECT tar, kind, count(*), max(size) FROM exported LEFT JOIN duplicates USING (uid), classes GROUP BY ALL ORDER BY ALL"


@pytest.fixture(scope="module")
def root(demo_root: Path) -> Root:
    return shardmill.open(demo_root)


class Reads:
    """What is read of the samples of roots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[tuple[str, tuple[str, ...]]] = []
        real = RootColumns.read

        def read(columns: RootColumns, shard_id: str, names: list[str]) -> dict[str, pa.Array]:
            self.found.append((shard_id, tuple(names)))
            return real(columns, shard_id, names)

        monkeypatch.setattr(RootColumns, "read", read)

    @property
    def columns(self) -> set[str]:
        return {name for _, names in self.found for name in names}


def test_samples_are_those_that_python_gets_column_by_column(root: Root) -> None:
    names = [name for name in root.schema.names if name not in ("shard_id", "row")]
    stored = root.samples(["shard_id", "row", *names]).to_table()
    found = root.sql("SELECT * FROM samples")
    assert found.column_names == stored.column_names
    for name in stored.column_names:
        wanted = stored.column(name).cast(sql_type(stored.schema.field(name).type))
        assert found.column(name).to_pylist() == wanted.to_pylist(), name


def test_the_other_views_hold_what_the_files_do(root: Root, demo_root: Path) -> None:
    assert root.sql("FROM duplicates").to_pylist() == root.duplicates().to_pylist()
    tables = [pq.read_table(path) for path in sorted((demo_root / "shards").glob("*.parquet"))]
    centroids = np.load(next(demo_root.glob("tables/centroids@*/centroids.npy")))
    stored = root.sql("SELECT centroid, name FROM classes WHERE level = 0 ORDER BY class_id")
    assert (np.array(stored.column("centroid").to_pylist(), np.float32) == centroids).all()
    exported = root.sql("FROM exported")
    assert exported.column("uid").to_pylist() == pa.concat_tables(tables).column("uid").to_pylist()
    assert set(exported.column("tar").to_pylist()) == {path.name for path in (demo_root / "shards").glob("*.tar")}
    sizes = {row.class_id: row.size for row in root.classes()}
    nearest = root.sql("SELECT class_id, count(*) AS n FROM labels WHERE rank = 1 GROUP BY ALL").to_pylist()
    assert {row["class_id"]: row["n"] for row in nearest} == {class_id: size for class_id, size in sizes.items() if size}
    kept = root.sql("SELECT outcome, reason, count(*) AS n FROM verdicts GROUP BY ALL").to_pylist()
    wanted: dict[tuple[str, str | None], int] = {("kept", None): root.ledger.kept}
    wanted |= {("rejected", name): n for name, n in root.ledger.rejected.items()}
    wanted |= {("failed", name): n for name, n in root.ledger.failed.items()}
    assert {(row["outcome"], row["reason"]): row["n"] for row in kept} == wanted
    samples = root.samples(["entities", "mentions"]).to_table()
    for view, name in (("entities", "name"), ("mentions", "text")):
        stored = [part[name] for of_sample in samples.column(view).to_pylist() for part in of_sample or ()]
        assert root.sql(f"FROM {view}").column(name).to_pylist() == stored


def test_a_query_reads_the_columns_that_it_names_of_the_shards_that_can_have_its_rows(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = (shard.shard_id for shard in root._plan.shards)
    reads = Reads(monkeypatch)
    root.sql("DESCRIBE samples")
    assert reads.found == []
    root.sql("SELECT count(*) FROM samples")
    assert reads.columns == {"shard_id"}   # which is in no file
    reads.found.clear()
    root.sql(f"SELECT caption FROM samples WHERE shard_id IN ('{first}', '{second}') AND width > 100")
    assert reads.columns == {"shard_id", "width", "caption"}
    assert {shard_id for shard_id, _ in reads.found} == {first, second}
    reads.found.clear()
    assert root.sql("SELECT image_embedding FROM samples WHERE key = 'none such'").num_rows == 0
    assert reads.columns == {"key"}   # of no shard was anything else read
    reads.found.clear()
    root.sql("SELECT count(*) FROM mentions WHERE alias = 'car'")
    assert reads.columns == {"mentions"}


@pytest.fixture
def in_blocks(demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The same root, whose shards lie in blocks of a few."""
    copy = tmp_path / "root"
    shutil.copytree(demo_root, copy, symlinks=True)
    monkeypatch.setattr(compaction, "LEAST_SHARDS", 2)
    monkeypatch.setattr(compaction, "BLOCK_ROWS", 250)
    monkeypatch.setattr(compaction, "LARGE_ROWS", 250)
    plan = readable(open_root(str(copy)))
    driver = Driver(plan.root, LocalExecutor(), Silent(), EventLog(plan.root))
    folders = [*plan.columns.folders.values(), plan.run_columns, plan.verdicts, plan.labels]
    compaction.compact(plan.root, driver, gathered(plan).rows, folders)
    assert not list(copy.glob("columns/clip@*/0*.parquet"))
    assert 1 < len(list(copy.glob("columns/clip@*/block-*.parquet"))) < len(plan.shards)
    return readable(open_root(str(copy)))


def test_shards_in_blocks_give_the_same_answers(root: Root, in_blocks: Plan) -> None:
    for question in QUESTIONS:
        assert answer(RootColumns(in_blocks), question).read_all().equals(root.sql(question)), question


def test_a_root_on_an_object_store_gives_the_same_answers(root: Root, demo_root: Path, s3_server: str) -> None:
    store = fsspec.filesystem("s3")
    for folder in ("", "columns/clip*/", "columns/samples*/", "verdicts*/", "labels*/", "tables/*/", "exports/*/"):
        for path in demo_root.glob(f"{folder}*.*"):
            if path.suffix in (".json", ".parquet", ".npy"):
                store.put_file(str(path), f"bucket/asked/{path.relative_to(demo_root)}")
    remote = shardmill.open("s3://bucket/asked")
    for question in (QUESTIONS[1], TABLES):
        assert remote.sql(question).equals(root.sql(question)), question


def test_what_a_run_has_not_made_yet_is_said(demo_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "root"
    shutil.copytree(demo_root, copy, symlinks=True)
    for folder in ("verdicts@*", "labels@*", "exports", "tables/duplicates@*"):
        for path in copy.glob(folder):
            shutil.rmtree(path)
    begun = shardmill.open(copy)
    assert begun.sql("SHOW TABLES").column("name").to_pylist() == ["classes", "entities", "mentions", "samples"]
    assert begun.sql("SELECT count(*) AS n FROM mentions").to_pylist() == [{"n": 1427}]
    with pytest.raises(InputError, match="column 22: verdicts is not there: the run has no verdicts yet"):
        begun.sql("SELECT count(*) FROM verdicts")
    next(copy.glob("columns/clip@*/00004*.parquet")).unlink()
    with pytest.raises(RootError, match="has not all columns of shard 00004"):
        begun.sql("SELECT avg(clip_similarity) FROM samples")


@pytest.mark.parametrize(("query", "says"), [
    ("", "there is no statement"),
    ("SELECT captoin FROM samples", "SQL, column 8: no column captoin; did you mean caption?"),
    ("SELECT x FROM verdicts", "SQL, column 8: no column x; verdicts has shard_id, row, uid, verdict, outcome, reason"),
    ("SELECT * FROM nowhere", "SQL, column 15: no view nowhere; there are samples, classes, duplicates, exported, verdicts, "),
    ("SELECT 1;\nSELECT 'é',\n  foo FROM classes", "SQL, line 3, column 3: no column foo; classes has class_id, level"),
    ("SELEC 1", "SQL, column 1: syntax error at or near"),
    ("SELECT CAST(caption AS INTEGER) FROM samples", "SQL, column 8: Could not convert string"),
    ("INSTALL httpfs", "SQL: 'INSTALL httpfs' is not run here"),
    ("LOAD '/tmp/x.duckdb_extension'", "is not run here"),
    ("UPDATE EXTENSIONS", "is not run here"),
    ("SET autoinstall_known_extensions = true", "is not run here"),
    ("PRAGMA memory_limit = '1TB'", "is not run here"),
    ("SELECT * FROM 'https://example.org/x.parquet'", "needs an extension of DuckDB's, and none is loaded or fetched here"),
    ("SELECT * FROM statements", "no view statements"),   # no variable of this process
])
def test_wrong_sql_is_one_line_with_its_place(root: Root, query: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        root.sql(query)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_several_statements_may_use_tables_of_their_own_and_files(root: Root, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("tag\ntiny\n")
    query = f"""CREATE TABLE tags AS SELECT tag FROM '{tmp_path}/list.csv';
        SELECT count(*) AS n FROM verdicts JOIN tags ON reason = tag"""
    assert root.sql(query).to_pylist() == [{"n": root.ledger.rejected["tiny"]}]
