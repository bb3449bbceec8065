"""The generated parts of docs/recipes.md: keys, rules, columns, presets. `python -m pipeline.recipe.reference docs/recipes.md`
rewrites what stands between its markers, and schemas/json/recipe.schema.json; tests hold the files to it."""

import re
import sys
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.recipe.messages import expected, keys
from pipeline.recipe.reading.json_schema import recipe_schema_text
from pipeline.recipe.reading.presets import presets
from pipeline.recipe.recipe import Recipe, load
from pipeline.recipe.rule_columns import COLUMNS
from pipeline.recipe.rules import Rule
from pipeline.recipe.wording import bound_in_words


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value) if value != "" and value != {} else "empty"


def _rows(model: type[BaseModel]) -> Iterable[tuple[str, ...]]:
    for path, field in keys(model):
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        default = "" if is_section else _default(field)
        yield f"`{'.'.join(path)}`", expected(field), default, " ".join((field.description or "").split())


def blocks() -> dict[str, str]:
    """The generated parts of the document in Markdown, by the name of their marker."""
    rule = [(name, kind, "the rule's name" if name == "`column`" else default, doc) for name, kind, default, doc in _rows(Rule)]
    columns = [(f"`{c.name}`", str(c.type), c.origin, c.doc) for c in COLUMNS.values()]
    return {
        "keys": _table(("key", "expects", "default", "meaning"), _rows(Recipe)),
        "rule": _table(("key of a rule", "expects", "default", "meaning"), rule),
        "columns": _table(("column", "type", "from", "meaning"), columns),
        "presets": "\n\n".join(map(_preset, presets())),
    }


def _preset(name: str) -> str:
    recipe = load(name)
    rules = _table(("rule", "column", "kept when"),
                   [(f"`{rule}`", f"`{r.column}`", bound_in_words(r)) for rule, r in recipe.filters.items()])
    conditions = "".join(f"\n- {condition}" for condition in recipe.conditions)
    parts = [f"### `{name}`", recipe.source, f"Model: `{recipe.model.label}`.", rules]
    return "\n\n".join([*parts, f"Not checked, or otherwise than in the source:\n{conditions}"] if conditions else parts)


def rewritten(text: str) -> str:
    """The document with every generated part as it must be. Raises ValueError where a marker is missing or there twice."""
    for name, block in blocks().items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, block=block: match[1] + block + "\n" + match[2], text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the document has {count} parts marked {name}, not one")
    return text


def schema_file() -> Path:
    """The published JSON Schema of a recipe, which lies in the package."""
    return Path(str(resources.files("schemas"))) / "json" / "recipe.schema.json"


if __name__ == "__main__":
    schema_file().write_text(recipe_schema_text(), encoding="utf-8")
    document = Path(sys.argv[1])
    document.write_text(rewritten(document.read_text(encoding="utf-8")), encoding="utf-8")
