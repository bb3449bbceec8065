"""Every query of docs/sql.md is run."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.api import shardmill
from pipeline.api.opened import Root

DOCUMENT = (Path(__file__).parents[3] / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def root(demo_root: Path) -> Root:
    return shardmill.open(demo_root)


def test_there_are_ten_questions() -> None:
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize("query", [query for query in QUESTIONS if "json.url" not in query])
def test_a_question_has_an_answer(root: Root, query: str) -> None:
    assert root.sql(query).num_rows > 0


def test_the_views_have_the_columns_that_the_document_says(root: Root) -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert {view for view, _ in rows} == set(root.sql("SHOW TABLES").column("name").to_pylist())
    for view, columns in rows:
        there = root.sql(f"DESCRIBE {view}").column("column_name").to_pylist()
        named = [name for name in re.findall(r"`(\w+)`", columns) if name not in ("FLOAT",)]
        assert set(named) <= set(there), view


def test_the_programs_run(demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "curated").symlink_to(demo_root)
    monkeypatch.chdir(tmp_path)
    for program in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        scope: dict[str, Any] = {}
        exec(program, scope)
        assert scope["table"].num_rows > 1
        assert scope["batch"].num_columns == 2
