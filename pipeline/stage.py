"""The Stage: adds columns to samples, one row out for each row in, in the same order.

A stage is a frozen dataclass: its fields are its configuration, so it pickles, prints, compares and fingerprints with no
code of its own. Work happens in what `open()` yields, on the worker. What runs a stage over a shard is `passes/annotate.py`.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pyarrow as pa

from pipeline.errors import ContractViolation
from schemas.columns import UID, error, field

Transform = Callable[[pa.RecordBatch], pa.RecordBatch]

NOTHING = pa.schema([])


@dataclass(frozen=True)
class Contract:
    """What a stage promises about its columns, whatever its configuration."""

    name: str
    version: int
    """Raised whenever the same input would give other output."""
    reads: tuple[str, ...]
    """Columns of the source or of earlier stages."""
    writes: pa.Schema
    """`uid` first, `<name>_error` last."""
    carries: pa.Schema = NOTHING
    """Transient columns (decoded pixels): handed to later stages, never written."""


@dataclass(frozen=True)
class Stage(ABC):
    """Adds columns to samples; a bad sample is data (`<name>_error`), never an exception."""

    contract: ClassVar[Contract]

    @property
    def writes(self) -> pa.Schema:
        """The schema it writes with this configuration (an embedding's width depends on the model)."""
        return self.contract.writes

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint hashes: the fields, by value. Override where a field names something by reference
        (a model's folder) and its content is what matters."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def overlap(self) -> int:
        """How many batches a worker should have in work at once, so that its processor has something to do while one of them
        waits for another device."""
        return 1

    @property
    def together(self) -> int:
        """How many rows it computes at once, padded where fewer come; a batch should be a multiple of it."""
        return 1

    def careful(self) -> "Stage":
        """The same stage with every precaution against its input, whatever they cost. It has the same fingerprint and gives the
        same columns, but for samples that would end the process."""
        return self

    @abstractmethod
    def open(self) -> AbstractContextManager[Transform]:
        """Loads what the worker needs, yields the transform (which is safe to call from several threads), and releases it on
        exit."""


def stage_schema(name: str, *fields: tuple[str, pa.DataType, str]) -> pa.Schema:
    """The schema of a stage's columns: uid, the fields as (name, type, meaning and unit), `<name>_error`."""
    return pa.schema([UID, *(field(*spec) for spec in fields), error(name)])


def stage_columns(
    schema: pa.Schema, batch: pa.RecordBatch, values: Mapping[str, Sequence[Any]], errors: Sequence[str | None] | None = None
) -> pa.RecordBatch:
    """A stage's answer to a batch of n samples: for each column n values (or None), and where a sample failed a short code in
    `errors`. `schema` is what the stage writes; the answer has the batch's uids and n rows."""
    arrays = [pa.array(values[column.name], column.type) for column in list(schema)[1:-1]]
    failed = pa.nulls(batch.num_rows, pa.string()) if errors is None else pa.array(errors, pa.string())
    return pa.RecordBatch.from_arrays([batch["uid"], *arrays, failed], schema=schema)


def digest(value: Any, length: int = 12) -> str:
    """The first `length` hex digits of the SHA-256 of a JSON-able value, keys sorted. Whatever JSON does not know counts as its
    `str`."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def fingerprints(stages: Sequence[Stage], source: Mapping[str, str]) -> dict[str, str]:
    """The fingerprint of each stage, by its name: a digest of its name, version, fields and the fingerprints of what it reads.

    `source` gives the fingerprint behind every column that no stage of `stages` writes. A changed upstream stage therefore renames
    everything downstream of it, and nothing else. Raises ContractViolation for a stage that reads what nothing before it writes."""
    behind = dict(source)
    by_stage: dict[str, str] = {}
    for stage in stages:
        contract = stage.contract
        missing = [name for name in contract.reads if name not in behind]
        if missing:
            raise ContractViolation(f"stage {contract.name} reads {missing}, which nothing before it writes")
        upstream = sorted({behind[name] for name in contract.reads})
        by_stage[contract.name] = digest([contract.name, contract.version, stage.identity, upstream])
        for name in [*stage.writes.names[1:], *contract.carries.names]:
            behind[name] = by_stage[contract.name]
    return by_stage


def checked(stage: Stage, before: pa.RecordBatch, after: pa.RecordBatch) -> pa.RecordBatch:
    """`after`, the answer of a stage to `before`. Raises ContractViolation if it breaks the contract: same rows, same order,
    promised schema."""
    name = stage.contract.name
    promised = pa.schema([*stage.writes, *stage.contract.carries])
    if not after.schema.equals(promised, check_metadata=False):
        raise ContractViolation(f"stage {name} returned {after.schema}, promised {promised}")
    if not after.column(0).equals(before.column("uid")):
        raise ContractViolation(f"stage {name} dropped, added or reordered samples")
    return after


def joined(before: pa.RecordBatch, added: pa.RecordBatch) -> pa.RecordBatch:
    """`before` with the columns of `added` (uid aside) behind its own; both have the same rows."""
    return pa.RecordBatch.from_arrays(
        [*before.columns, *added.columns[1:]], schema=pa.schema([*before.schema, *list(added.schema)[1:]])
    )
