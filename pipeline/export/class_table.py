"""The classes of a root, read again by the export and by all who look at the root: classes.parquet (schemas/tables.py has its
columns) and quality.json beside it. `passes/names.py` writes them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.store import Store
from pipeline.store.tables import read_table

FILE, QUALITY = "classes.parquet", "quality.json"


def class_table_path(folder: str) -> str:
    """The path of the table in a root; `folder` is that of the names of its classes."""
    return f"{folder}/{FILE}"


def has_class_table(store: Store, folder: str | None) -> bool:
    """Whether the classes have their names yet; False for None, the folder of a recipe without classes."""
    return folder is not None and store.exists(class_table_path(folder))


def stored_class_table(
    store: Store, folder: str, columns: Sequence[str] | None = None, *, level: int | None = None, filters: Any = None
) -> pa.Table:
    """The classes of one level, or of all (None), that meet the filters (a pyarrow expression): the named columns, else all of
    them. Raises FileNotFoundError before the classes have names."""
    if level is not None:
        of_level = pc.field("level") == level
        filters = of_level if filters is None else of_level & filters
    return read_table(store, class_table_path(folder), columns, filters)


def class_names(store: Store, folder: str, level: int = 0, filters: Any = None) -> dict[int, str]:
    """Name by class id, of the classes of a level that meet the filters."""
    table = stored_class_table(store, folder, ["class_id", "name", "level"], level=level, filters=filters)
    return dict(zip(table.column("class_id").to_pylist(), table.column("name").to_pylist(), strict=True))


def stored_quality(store: Store, folder: str) -> dict[str, Any]:
    """How good the classes are, as `passes/names.py` measured it. Raises FileNotFoundError before the classes have names."""
    quality: dict[str, Any] = store.read_json(f"{folder}/{QUALITY}")
    return quality
