"""The JSON Schema of a recipe, for editors: keys with their types, limits, defaults and meanings. What takes the whole recipe to
see (which bound fits which column) is checked by `shardmill recipes show` and by every run."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from pipeline.recipe.reading.extending import EXTENDS
from pipeline.recipe.reading.presets import presets
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.rule_columns import COLUMNS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Untitled(GenerateJsonSchema):
    """Without a title for each key: its name says as much."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe file as JSON has it."""
    document = _in_one_line(Recipe.model_json_schema(schema_generator=_Untitled))
    rule = document["$defs"]["Rule"]
    del rule["required"]   # the rule's name is the column, unless it says otherwise
    rule["properties"]["column"]["examples"] = list(COLUMNS)
    for section in ("filters", "stages"):   # null removes a preset's rule, and is a stage with all its defaults
        shapes = document["properties"][section].pop("patternProperties")
        named = {pattern: {"anyOf": [shape, {"type": "null"}]} for pattern, shape in shapes.items()}
        document["properties"][section] |= {"patternProperties": named, "additionalProperties": False}
    extends = {"description": "the preset that this recipe changes; then it says only what is otherwise", "enum": presets()}
    document["properties"] = {EXTENDS: extends, **document["properties"]}
    document["required"] = ["name"]
    document["anyOf"] = [{"required": ["model"]}, {"required": [EXTENDS]}]
    return {"$schema": DIALECT, **document, "title": "recipe"}


def recipe_schema_text() -> str:
    """The schema as its file has it."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def _in_one_line(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: " ".join(part.split()) if key == "description" and isinstance(part, str) else _in_one_line(part)
                for key, part in value.items()}
    return [_in_one_line(part) for part in value] if isinstance(value, list) else value
