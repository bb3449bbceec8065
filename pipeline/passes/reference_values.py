"""What the samples bring with them to compare classes with: a column, or a key of their own metadata."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.input.discovery import Shard
from pipeline.input.metadata import metadata_object
from pipeline.input.reader import fetch
from pipeline.plan import Plan
from pipeline.recipe.rule_columns import JSON, column_named
from pipeline.stages.metadata import at
from pipeline.store.tables import read_columns

LONGEST = 200
"""Characters of a value; what is longer is no class."""
READ = ["location", "image_offset", "image_length", "json_offset", "json_length"]


def reference_values(plan: Plan, name: str, shard: Shard, rows: list[int]) -> list[str | None]:
    """The value of each of these rows as text; null where there is none. `json.KEY` reads the input shard again; of a list the
    first entry counts, nested objects are named with dots."""
    if name.startswith(JSON):
        key = name.removeprefix(JSON)
        return [_value(original, key) for original in _metadata(plan, shard, rows)]
    column = column_named(name, plan.recipe.columns)
    table = plan.rule_columns.table([shard.shard_id], {column.origin: (name,)})
    return [None if value is None else str(value)[:LONGEST] for value in table.column(name).take(pa.array(rows)).to_pylist()]


def _metadata(plan: Plan, shard: Shard, rows: list[int]) -> list[bytes | None]:
    table = read_columns(plan.root, plan.columns.folders["samples"], shard.shard_id, READ).take(pa.array(rows, pa.int64()))
    in_place = pc.equal(table.column("location"), "tar_range")
    for name in ("image_offset", "image_length"):   # a ranged read need not bring the image
        at = table.column_names.index(name)
        table = table.set_column(at, name, pc.if_else(in_place, pa.scalar(0, table.column(name).type), table.column(name)))
    return [original for _, original in fetch(shard, table)]


def _value(original: bytes | None, key: str) -> str | None:
    value = at(metadata_object(original or b"") or {}, key)
    if isinstance(value, list):
        value = value[0] if value else None
    return str(value)[:LONGEST] if isinstance(value, str | int | float | bool) else None
