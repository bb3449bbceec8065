"""Writes schemas/json/ from the Arrow schemas, answers/ and service/ there from the answers: `python -m schemas`. A test holds them
together."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from schemas import columns, exports, tables
from schemas.answers.published import ANSWERS
from schemas.answers.serving import SERVED
from schemas.indexes import IndexRecord

FOLDER = Path(__file__).parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def published() -> dict[str, pa.Schema]:
    """Every schema that readers of our files rely on, by file name."""
    return {
        "samples": columns.SAMPLES,
        "image": columns.IMAGE,
        "caption": columns.CAPTION,
        "language": columns.LANGUAGE,
        "hashes": columns.HASHES,
        "clip": columns.clip_schema(512),
        "mentions": columns.MENTIONS,
        "entities": columns.ENTITIES,
        "verdicts": columns.VERDICTS,
        "labels": columns.LABELS,
        "copies": columns.COPIES,
        "duplicates": tables.DUPLICATES,
        "semantic_duplicates": tables.SEMANTIC_DUPLICATES,
        "classes": tables.CLASSES,
        "class_ids": tables.CLASS_IDS,
        "knowledge_base": tables.KNOWLEDGE_BASE,
        "indexed_shards": tables.INDEXED_SHARDS,
        "manifest": tables.MANIFEST,
        "inputs": tables.INPUTS,
        "export": exports.EXPORT,
        "sample_json": exports.SAMPLE_JSON,
    }


def json_type(type: pa.DataType) -> dict[str, Any]:
    """The JSON Schema of one value of an Arrow type."""
    if pa.types.is_struct(type):
        return {"type": "object", "properties": {f.name: json_type(f.type) for f in type}}
    if pa.types.is_list(type) or pa.types.is_fixed_size_list(type):
        return {"type": "array", "items": json_type(type.value_type)}
    if pa.types.is_dictionary(type):
        return json_type(type.value_type)
    if pa.types.is_boolean(type):
        return {"type": "boolean"}
    if pa.types.is_integer(type):
        return {"type": "integer", "format": str(type)}
    if pa.types.is_floating(type):
        return {"type": "number", "format": str(type)}
    if pa.types.is_string(type):
        return {"type": "string"}
    return {"type": "string", "contentEncoding": "binary"}


def json_schema(name: str, schema: pa.Schema) -> str:
    """The JSON Schema of a row of a stored table, as text; the meaning of a column is its description. A vector is not in the
    table: whether the row has one is."""
    properties: dict[str, Any] = {}
    for field in schema:
        doc = (field.metadata or {}).get(b"doc", b"").decode()
        if pa.types.is_fixed_size_list(field.type) and pa.types.is_float16(field.type.value_type):
            where = f"its row of the matrix SHARD_ID.{field.name}.npy beside this file, float16 [rows, d]; zeros where false"
            said = f"whether the row has its {field.name}, {doc}: {where}"
            properties[f"{field.name}_valid"] = {"description": said, "type": "boolean"}
            continue
        described = {"description": doc} if doc else {}
        properties[field.name] = {**described, **json_type(field.type)}
    document = {
        "$schema": DIALECT,
        "title": name,
        "type": "object",
        "properties": properties,
    }
    return json.dumps(document, indent=2) + "\n"


class Untitled(GenerateJsonSchema):
    """Without a title for each field: its name says as much."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def answer_schema(name: str) -> str:
    """The schema of what `--json` prints, by a name of ANSWERS."""
    return document_schema(name, ANSWERS[name])


def document_schema(name: str, type: Any) -> str:
    """The schema of a JSON document that a type of pydantic describes."""
    document = TypeAdapter(type).json_schema(mode="serialization", schema_generator=Untitled)
    return json.dumps({"$schema": DIALECT, **document, "title": name}, indent=2) + "\n"


def documents() -> dict[str, str]:
    """Every published document, by its path in the folder."""
    return {
        **{f"{name}.schema.json": json_schema(name, schema) for name, schema in published().items()},
        **{f"answers/{name}.schema.json": answer_schema(name) for name in ANSWERS},
        "index.schema.json": document_schema("index", IndexRecord),
        **{f"service/{name}.schema.json": document_schema(name, SERVED[name]) for name in SERVED},
    }


def main() -> None:
    """Writes every document."""
    for name, text in documents().items():
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
