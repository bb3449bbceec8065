"""Which columns the samples of a root have, and the columns of one shard joined: each from the file that holds it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import ConservationError, InputError, RootError
from pipeline.export.class_table import has_class_table
from pipeline.plan import Plan
from pipeline.queries.rows.class_columns import CLASS_COLUMNS, ClassHierarchy
from pipeline.recipe.rule_columns import spelling_hint
from pipeline.store.tables import read_columns, read_footer, read_vector_rows, read_vectors, vector_length

ROW_ID = {"shard_id": pa.string(), "row": pa.int32()}


@dataclass(frozen=True)
class StoredColumn:
    """A column that the files of a folder hold."""

    folder: str
    type: pa.DataType
    vector: bool = False
    """Whether it is a matrix beside the parquet file."""


@dataclass(frozen=True)
class RootColumns:
    """The samples of a root: row i of every column of a shard is the same sample."""

    plan: Plan
    """The plan over the shards that can be read."""

    @cached_property
    def stored(self) -> dict[str, StoredColumn]:
        """Every column that files hold, by name, as the first shard has them: stages of which this package knows nothing are in it,
        passes that did not run are not. Of a name that several folders have, that of the earliest pass."""
        if not self.plan.shards:
            raise InputError(f"{self.plan.root.url} has no shard that can be read")
        store, shard_id = self.plan.root, self.plan.shards[0].shard_id
        columns: dict[str, StoredColumn] = {}
        for folder in self._folders():
            try:
                schema, facts = read_footer(store, f"{folder}/{shard_id}.parquet")
            except FileNotFoundError:
                continue
            for field in schema:
                columns.setdefault(field.name, StoredColumn(folder, field.type))
            for file in facts.get("files", {}):
                name = file.removeprefix(f"{shard_id}.").removesuffix(".npy")
                length = vector_length(store, folder, shard_id, name)
                columns.setdefault(name, StoredColumn(folder, pa.list_(pa.float16(), length), vector=True))
        return columns

    def _folders(self) -> Iterator[str]:
        plan = self.plan
        yield from plan.columns.folders.values()
        yield from filter(None, (plan.run_columns, plan.semantic_columns, plan.verdicts, plan.labels, plan.balance))

    @cached_property
    def classes(self) -> ClassHierarchy | None:
        """None before there are names of classes, and where the recipe asks for none."""
        plan = self.plan
        return ClassHierarchy.of(plan) if "labels" in self.stored and has_class_table(plan.root, plan.classes) else None

    @cached_property
    def schema(self) -> pa.Schema:
        """Every column that can be asked for."""
        class_columns = CLASS_COLUMNS if self.classes is not None else {}
        stored = {name: column.type for name, column in self.stored.items()}
        return pa.schema({"uid": pa.string(), **ROW_ID, **stored, **class_columns})

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each shard among those of the plan: the upper half of the ids of its samples."""
        return {shard.shard_id: place for place, shard in enumerate(self.plan.shards)}

    @cached_property
    def dimension(self) -> int:
        """Values of an image's or a caption's vector. Raises InputError for a root that has none."""
        if "image_embedding" not in self.stored:
            raise InputError(f"{self.plan.root.url} has no embeddings yet: run its command again first")
        return int(self.stored["image_embedding"].type.list_size)

    def check(self, names: Sequence[str]) -> None:
        """Raises InputError for a name that is no column of this root."""
        columns = self.schema.names
        for name in names:
            if name not in columns:
                hint = spelling_hint(name, columns) or f"; it has {', '.join(columns)}"
                raise InputError(f"{self.plan.root.url} has no column {name}{hint}")

    def count(self, shard_id: str) -> int:
        """How many samples a shard has; reads a footer."""
        return int(self._file(self.stored["uid"].folder, shard_id, facts=True)["rows"])

    def read(self, shard_id: str, names: Sequence[str]) -> dict[str, pa.Array]:
        """The named columns of a shard, each n values; nothing else is read. A matrix is mapped where the root is local, and its
        column is a view of it. Raises RootError where the run is not as far as that."""
        by_folder: dict[str, list[str]] = {}
        for name in dict.fromkeys(self._file_column(name) for name in names if name not in ROW_ID):
            by_folder.setdefault(self.stored[name].folder, []).append(name)
        columns: dict[str, pa.Array] = {}
        for folder, stored_names in by_folder.items():
            table = self._file(folder, shard_id, stored_names)
            columns.update({name: table.column(name).combine_chunks() for name in stored_names})
        rows = {len(column) for column in columns.values()} or {self.count(shard_id)}
        if len(rows) > 1:
            raise ConservationError(f"shard {shard_id}: its columns have {sorted(rows)} rows: see `shardmill verify`")
        return {name: self._column(name, shard_id, columns, min(rows)) for name in names}

    def _file_column(self, name: str) -> str:
        """The column in a parquet file that a column is made from."""
        if name in CLASS_COLUMNS:
            return "labels"
        return f"{name}_valid" if self.stored[name].vector else name

    def _column(self, name: str, shard_id: str, columns: dict[str, pa.Array], rows: int) -> pa.Array:
        if name == "shard_id":
            return pa.array([shard_id] * rows, pa.string())
        if name == "row":
            return pa.array(np.arange(rows, dtype=np.int32))
        if name in CLASS_COLUMNS:
            assert self.classes is not None
            return self.classes.column(name, columns["labels"])
        if not self.stored[name].vector:
            return columns[name]
        matrix = self.vectors(shard_id, name)
        values = pa.Array.from_buffers(pa.float16(), matrix.size, [None, pa.py_buffer(matrix)])
        return pa.FixedSizeListArray.from_arrays(values, type=self.stored[name].type, mask=pc.invert(columns[f"{name}_valid"]))

    def vectors(self, shard_id: str, name: str) -> NDArray[np.float16]:
        """float16 [n, d], mapped where the root is local; zero rows where the sample has none."""
        try:
            return read_vectors(self.plan.root, self.stored[name].folder, shard_id, name)
        except FileNotFoundError as error:
            raise self._unfinished(shard_id) from error

    def vector_rows(self, shard_id: str, name: str, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """float16 [n, d], in memory: these rows (int64 [n], ascending), and of a remote shard their bytes alone."""
        try:
            return read_vector_rows(self.plan.root, self.stored[name].folder, shard_id, name, rows)
        except FileNotFoundError as error:
            raise self._unfinished(shard_id) from error

    def _file(self, folder: str, shard_id: str, names: Sequence[str] = (), *, facts: bool = False) -> Any:
        try:
            if facts:
                return read_footer(self.plan.root, f"{folder}/{shard_id}.parquet")[1]
            return read_columns(self.plan.root, folder, shard_id, names)
        except FileNotFoundError as error:
            raise self._unfinished(shard_id) from error

    def _unfinished(self, shard_id: str) -> RootError:
        return RootError(f"{self.plan.root.url} has not all columns of shard {shard_id} yet: run its command again to go on")
