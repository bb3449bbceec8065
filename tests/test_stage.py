from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pytest

from pipeline.errors import ContractViolation
from pipeline.stage import Contract, Stage, Transform, checked, fingerprints, joined

LENGTHS = pa.schema([("uid", pa.string()), ("length", pa.int32()), ("lengths_error", pa.string())])
DOUBLES = pa.schema([("uid", pa.string()), ("double", pa.int32()), ("doubles_error", pa.string())])


@dataclass(frozen=True)
class Lengths(Stage):
    contract = Contract("lengths", version=1, reads=("caption",), writes=LENGTHS)
    unit: int = 1

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield lambda batch: batch


@dataclass(frozen=True)
class Doubles(Stage):
    contract = Contract("doubles", version=1, reads=("length",), writes=DOUBLES)

    @contextmanager
    def open(self) -> Iterator[Transform]:
        yield lambda batch: batch


def batch(uids: list[str], schema: pa.Schema = LENGTHS) -> pa.RecordBatch:
    values = [pa.array(uids), pa.array([1] * len(uids), pa.int32()), pa.nulls(len(uids), pa.string())]
    return pa.RecordBatch.from_arrays(values, schema=schema)


def test_a_changed_field_renames_the_stage_and_everything_behind_it() -> None:
    source = {"caption": "s"}
    before, after = (fingerprints([Lengths(unit), Doubles()], source) for unit in (1, 2))
    assert before["lengths"] != after["lengths"]
    assert before["doubles"] != after["doubles"]
    assert fingerprints([Lengths(1), Doubles()], source) == before


def test_another_source_renames_only_what_reads_it() -> None:
    before, after = (fingerprints([Lengths()], {"caption": "s", "image": image}) for image in ("a", "b"))
    assert before == after
    assert fingerprints([Lengths()], {"caption": "t"}) != before


def test_reading_a_column_that_nothing_writes_is_a_violation() -> None:
    with pytest.raises(ContractViolation, match=r"doubles reads \['length'\]"):
        fingerprints([Doubles()], {"caption": "s"})


@pytest.mark.parametrize("uids", [["a"], ["b", "a"], ["a", "b", "b"]])
def test_a_stage_that_drops_adds_or_reorders_samples_is_caught(uids: list[str]) -> None:
    with pytest.raises(ContractViolation, match="dropped, added or reordered"):
        checked(Lengths(), batch(["a", "b"]), batch(uids))


def test_a_stage_that_writes_another_schema_is_caught() -> None:
    with pytest.raises(ContractViolation, match="promised"):
        checked(Lengths(), batch(["a"]), batch(["a"], DOUBLES))


def test_joining_keeps_one_uid() -> None:
    both = joined(batch(["a", "b"]), batch(["a", "b"], DOUBLES))
    assert both.schema.names == ["uid", "length", "lengths_error", "double", "doubles_error"]
