"""What `select` has written is read in one place: ledger, thresholds, kept rows."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.errors import RootError
from pipeline.recipe.rules import Threshold
from pipeline.select.ledger import balanced
from pipeline.select.stored import (
    LEDGER,
    THRESHOLDS,
    has_ledger,
    has_thresholds,
    kept_rows,
    ledger_record,
    require_ledger,
    stored_ledger,
    stored_null_distribution,
    stored_thresholds,
)
from pipeline.store.store import Store
from pipeline.store.tables import write_table

FOLDER = "verdicts@0123456789ab"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_before_there_are_verdicts_nothing_is_stored_and_the_error_says_what_to_do(store: Store) -> None:
    assert not has_ledger(store, FOLDER)
    assert not has_thresholds(store, FOLDER)
    with pytest.raises(RootError, match="has no verdicts yet: run its command again first"):
        require_ledger(store, FOLDER)
    for read in (ledger_record, stored_ledger, stored_thresholds, stored_null_distribution):
        with pytest.raises(FileNotFoundError):
            read(store, FOLDER)


def test_the_ledger_comes_back_as_it_was_and_its_record_with_wrong_sums(store: Store) -> None:
    ledger = balanced({"a": 3}, {"a": {"kept": 2, "rejected:language": 1}}, ((), {"readme": 1}), ["b"])
    store.write_json(f"{FOLDER}/{LEDGER}", ledger.as_dict() | {"kept": 3})
    require_ledger(store, FOLDER)
    assert stored_ledger(store, FOLDER) == ledger
    assert ledger_record(store, FOLDER)["kept"] == 3


def test_thresholds_and_their_null_distribution_come_back(store: Store) -> None:
    null = {"pairs": 3, "edges": [-1.0, 0.0, 1.0], "counts": [1, 2]}
    store.write_json(f"{FOLDER}/{THRESHOLDS}", {"thresholds": {"top": {"value": 0.25, "last_tie": 7}}, "null": null})
    assert stored_thresholds(store, FOLDER) == {"top": Threshold(0.25, 7)}
    assert stored_null_distribution(store, FOLDER) == (3, (1, 2))


def test_kept_rows_are_ascending_int32(store: Store) -> None:
    verdicts = ["kept", "rejected:language", "kept", "failed:image_empty"]
    write_table(store, f"{FOLDER}/a.parquet", pa.table({"uid": list("0123"), "verdict": verdicts}), {})
    rows = kept_rows(store, FOLDER, "a")
    assert (rows.dtype.name, rows.tolist()) == ("int32", [0, 2])
