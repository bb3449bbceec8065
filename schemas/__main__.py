"""Writes schemas/json/*.schema.json from the Arrow schemas: `python -m schemas`. A test holds the two together."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas import columns, exports, tables

FOLDER = Path(__file__).parent / "json"


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
        "classes": tables.CLASSES,
        "class_ids": tables.CLASS_IDS,
        "knowledge_base": tables.KNOWLEDGE_BASE,
        "export": exports.EXPORT,
        "sample_json": exports.SAMPLE_JSON,
    }


def json_type(type: pa.DataType) -> dict[str, Any]:
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
    properties = {}
    for field in schema:
        doc = (field.metadata or {}).get(b"doc", b"").decode()
        described = {"description": doc} if doc else {}
        properties[field.name] = {**described, **json_type(field.type)}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": "object",
        "properties": properties,
    }
    return json.dumps(document, indent=2) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, schema in published().items():
        (FOLDER / f"{name}.schema.json").write_text(json_schema(name, schema))


if __name__ == "__main__":
    main()
