import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.__main__ import FOLDER, documents, published

DOCUMENTS = documents()
OF_THE_RECIPE = "recipe.schema.json"
"""Made from the recipe's own model; tests/recipe holds it to that."""


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_committed_json_schema_is_the_one_generated_from_its_source(name: str) -> None:
    assert (FOLDER / name).read_text() == DOCUMENTS[name], "run: python -m schemas"


def test_no_json_schema_is_left_over() -> None:
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} == {*DOCUMENTS, OF_THE_RECIPE}


@pytest.mark.parametrize("name", ["samples", "image", "caption", "language", "hashes", "clip", "mentions", "entities"])
def test_a_stages_file_has_the_columns_that_its_schema_says(name: str, demo_root: Path) -> None:
    stored = pq.read_schema(next(demo_root.glob(f"columns/{name}@*/*.parquet")))
    assert stored.names == list(json.loads(DOCUMENTS[f"{name}.schema.json"])["properties"])


@pytest.mark.parametrize("name", ["samples", "image", "caption", "language", "hashes", "clip", "mentions", "entities"])
def test_stage_columns_start_with_uid_and_end_with_the_stage_error(name: str) -> None:
    schema = published()[name]
    assert schema.names[0] == "uid"
    assert schema.names[-1] == f"{name}_error"
    assert schema.field(f"{name}_error").type == pa.string()
    assert all(field.metadata and field.metadata[b"doc"] for field in schema)
