import pyarrow as pa
import pytest

from schemas.__main__ import FOLDER, json_schema, published


@pytest.mark.parametrize("name", sorted(published()))
def test_committed_json_schema_is_the_one_generated_from_arrow(name):
    assert (FOLDER / f"{name}.schema.json").read_text() == json_schema(name, published()[name]), "run: python -m schemas"


def test_no_json_schema_is_left_over():
    assert {path.name.removesuffix(".schema.json") for path in FOLDER.iterdir()} == set(published())


@pytest.mark.parametrize("name", ["samples", "image", "caption", "language", "hashes", "clip", "mentions", "entities"])
def test_stage_columns_start_with_uid_and_end_with_the_stage_error(name):
    schema = published()[name]
    assert schema.names[0] == "uid"
    assert schema.names[-1] == f"{name}_error"
    assert schema.field(f"{name}_error").type == pa.string()
    assert all(field.metadata and field.metadata[b"doc"] for field in schema)
