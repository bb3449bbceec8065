"""`inputs.parquet`: the input shards of a run, beside its run.json, which says how many there are and their fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from pipeline.input.discovery import Shard
from pipeline.stage import digest
from pipeline.store.store import Store
from pipeline.store.tables import read_table, write_table
from schemas.tables import INPUTS as SCHEMA

INPUTS = "inputs.parquet"


def fingerprint(shards: Sequence[Shard]) -> str:
    """Of an input list; a changed file changes it."""
    return digest([[shard.shard_id, shard.size, shard.version] for shard in shards])


def summary(shards: Sequence[Shard]) -> dict[str, Any]:
    """What run.json says of its inputs."""
    return {"table": INPUTS, "shards": len(shards), "fingerprint": fingerprint(shards)}


def write_inputs(root: Store, shards: Sequence[Shard]) -> None:
    """Writes the table."""
    write_table(root, INPUTS, pa.Table.from_pylist([asdict(shard) for shard in shards], schema=SCHEMA), {"rows": len(shards)})


def stored_inputs(root: Store, record: Mapping[str, Any]) -> tuple[Shard, ...]:
    """The inputs that a run.json (`record`) is of; those of before there was a table stand in it. Raises ValueError where
    the table is missing or damaged, or of another run (one was stopped between the two files), KeyError or TypeError where
    run.json is damaged."""
    inputs = record["inputs"]
    if isinstance(inputs, list):
        return tuple(Shard(**entry) for entry in inputs)
    try:
        shards = tuple(Shard(**entry) for entry in read_table(root, INPUTS, SCHEMA.names).to_pylist())
    except FileNotFoundError:
        raise ValueError(f"{INPUTS} is missing: run the same command again") from None
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{INPUTS} is damaged ({error}): run the same command again") from error
    if summary(shards) != inputs:
        raise ValueError(f"{INPUTS} is not the table that run.json names: run the same command again")
    return shards


def same_inputs(record: Mapping[str, Any], shards: Sequence[Shard]) -> bool:
    """Whether a run.json is of these inputs; the table is not read."""
    inputs = record["inputs"]
    return bool(inputs == ([asdict(shard) for shard in shards] if isinstance(inputs, list) else summary(shards)))
